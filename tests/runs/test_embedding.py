"""Embeddings: which rows there are, that they are what evaluation sees, and that a kill changes nothing."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image

from commands import vergence as command
from data_files import member, photo, saved, tar
from vergence import config
from vergence.augment import evaluation_view
from vergence.data import load, stream
from vergence.data.stream import stream_of_splits
from vergence.engine.evaluate import features
from vergence.errors import Busy, InputError
from vergence.files import durable
from vergence.runs import embed, embedding, load_encoder, open_model

SIDE = 16  # of the pictures of the run


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(whole):
    return open_model(whole)


@pytest.fixture
def pictures(tmp_path):
    """Photos of several shapes in two classes, in all splits, and one in none."""
    root = tmp_path / "pictures"
    for seed, (folder, count) in enumerate(
        (("train/dog", 3), ("train/cat", 4), ("test/cat", 2), ("unlabelled", 2), ("val", 1))
    ):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            photo(100 * seed + i, 20 + 9 * i, 24 + 5 * seed).save(root / folder / f"{i}.png")
    return root


def of(root: Path, **settings) -> config.Folder:
    return config.Folder(root=str(root), **{"size": SIDE, "bad_images": "skip"} | settings)


def rows(file: Path) -> tuple[list[str], list[str], list[str], np.ndarray]:
    """Paths, labels, splits and embeddings of a file, by readers that know nothing of us."""
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        y = np.asarray(table.column("embedding").to_pylist(), np.float32)
        return *(table.column(name).to_pylist() for name in ("path", "label", "split")), y
    if file.suffix == ".npz":
        arrays = np.load(file)
        return *(arrays[name].tolist() for name in ("path", "label", "split")), arrays["embedding"]
    with open(file, newline="", encoding="utf-8") as text:
        head, *lines = csv.reader(text)
    assert head[:5] == ["path", "label", "split", "e0", "e1"]
    path, label, split, *numbers = zip(*lines, strict=True)
    return [*path], [*label], [*split], np.asarray(numbers, np.float32).T


# --- which rows there are ---------------------------------------------------------------------------------------------


def test_a_row_for_each_picture_in_the_order_of_paths_with_label_and_split(model, pictures, tmp_path):
    done = embed(model, of(pictures), tmp_path / "x.parquet")
    paths, labels, splits, y = rows(tmp_path / "x.parquet")
    assert paths == sorted(file.relative_to(pictures).as_posix() for file in pictures.rglob("*.png"))
    assert done == embedding.Embedded(rows=12, bad=0, bad_file=None)
    assert splits == ["test"] * 2 + ["train"] * 7 + ["unlabelled"] * 2 + ["unused"]
    assert labels == ["cat"] * 2 + ["cat"] * 4 + ["dog"] * 3 + [""] * 3
    assert y.shape == (12, model.dim)
    assert y.dtype == np.float32


@pytest.mark.filterwarnings("ignore:.*not used. 1 pictures in val")
def test_rows_are_what_the_encoder_gives_of_each_picture(model, pictures, whole, tmp_path):
    embed(model, of(pictures), tmp_path / "x.parquet", batch_size=5)
    paths, _, _, y = rows(tmp_path / "x.parquet")
    encoder = load_encoder(whole)
    for split in ("pretrain", "test"):
        images = load(of(pictures), split)
        with torch.no_grad():
            expected = encoder(evaluation_view(images.pixels, images.size, model.views))
        found = y[[paths.index(name) for name in images.names or []]]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.npz"])
def test_each_format_holds_the_same_rows_and_bad_pictures_shift_none(model, pictures, tmp_path, name):
    embed(model, of(pictures), tmp_path / "whole.npz")
    (pictures / "a_first.jpg").write_bytes(b"cut off")
    cut = (pictures / "train/cat/1.png").read_bytes()[:-40]
    (pictures / "train/cat/1.png").write_bytes(cut)
    (pictures / "unlabelled/0.png").unlink()
    (pictures / "unlabelled/0.png").symlink_to(tmp_path / "nowhere.png")
    (pictures / "a_first.jpg").rename(pictures / "train/cat/a, first.jpg")
    done = embed(model, of(pictures), tmp_path / name, batch_size=64)
    with open(tmp_path / "x.bad.csv", newline="") as text:
        head, *bad = csv.reader(text)
    assert head == ["path", "reason"]
    assert [path for path, _ in bad] == ["train/cat/1.png", "train/cat/a, first.jpg", "unlabelled/0.png"]
    assert done == embedding.Embedded(rows=10, bad=3, bad_file=tmp_path / "x.bad.csv")
    paths, labels, splits, y = rows(tmp_path / name)
    before = {row[0]: row[1:] for row in zip(*rows(tmp_path / "whole.npz"), strict=True)}
    assert paths == [path for path in before if path not in ("train/cat/1.png", "unlabelled/0.png")]
    for path, *told, embedded in zip(paths, labels, splits, y, strict=True):
        assert told == [*before[path][:2]]
        np.testing.assert_allclose(embedded, before[path][2], rtol=1e-5, atol=1e-6)


def test_bad_pictures_end_it_where_that_is_asked_for(model, pictures, tmp_path):
    (pictures / "train/cat/9.png").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"train/cat/9.png cannot be used \(.*; mend or remove it"):
        embed(model, of(pictures, bad_images="fail"), tmp_path / "x.npz")
    (pictures / "train/cat/9.png").unlink()
    (pictures / "train/cat/9.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match=r"train/cat/9.png cannot be used \(a link to nothing\)"):
        embed(model, of(pictures, bad_images="fail"), tmp_path / "x.npz")
    for file in pictures.rglob("*.png"):
        file.unlink()
        file.write_bytes(b"none of them")
    with pytest.raises(InputError, match=r"none of the 13 pictures can be used: test/cat/0.png \("):
        embed(model, of(pictures), tmp_path / "x.npz")
    assert {entry.name for entry in tmp_path.iterdir()} == {"pictures"}  # nothing of it is left


def test_pictures_of_lists_tars_arrays_and_several_places(model, pictures, tmp_path):
    files = sorted(file.relative_to(tmp_path).as_posix() for file in pictures.glob("train/*/*.png"))
    listed = [(file, "train" if i else "test", file.split("/")[2]) for i, file in enumerate(files[::-1])]
    with open(tmp_path / "list.csv", "w", newline="") as text:
        csv.writer(text).writerows([("path", "split", "label"), *listed])
    (tmp_path / "x.tar").write_bytes(
        tar([member(f"{i}.png", saved(photo(i, 30, 20), "PNG")) for i in (2, 0, 1)] + [member("0.cls", b"7")])
    )
    np.save(tmp_path / "x.npy", np.stack([np.asarray(photo(i, 20, 20)) for i in range(12)]))
    embed(model, of(tmp_path / "list.csv"), tmp_path / "list.npz")
    assert [row[:3] for row in zip(*rows(tmp_path / "list.npz")[:3], strict=True)] == [
        (file, label, split) for file, split, label in listed
    ]
    embed(model, of(tmp_path / "x.tar"), tmp_path / "tar.npz")
    assert rows(tmp_path / "tar.npz")[:2] == (["x.tar/2.png", "x.tar/0.png", "x.tar/1.png"], ["", "7", ""])
    both = replace(of(tmp_path / "x.npy"), more=(str(tmp_path / "x.tar"),))
    embed(model, both, tmp_path / "both.npz")
    paths, _, _, y = rows(tmp_path / "both.npz")
    assert len({*paths}) == len(paths) == 15
    assert paths[:12] == [f"x.npy/x.npy/{i:05}" for i in range(12)]
    np.testing.assert_allclose(y[12:], rows(tmp_path / "tar.npz")[3], rtol=1e-5, atol=1e-6)


def test_a_data_set_is_named_by_its_splits(model, tmp_path):
    embed(model, config.Digits(size=SIDE), tmp_path / "x.npz")
    paths, labels, splits, y = rows(tmp_path / "x.npz")
    test, train = (load(config.Digits(size=SIDE), split) for split in ("test", "train"))
    assert paths == sorted(paths)
    assert paths[0] == "test/000"
    assert splits == ["test"] * len(test) + ["train"] * len(train)
    assert test.labels is not None
    assert labels[: len(test)] == [test.classes[label] for label in test.labels]
    expected = features(model.encoder, test, model.views, device="cpu", batch_size=32)
    np.testing.assert_allclose(y[: len(test)], expected, rtol=1e-5, atol=1e-6)


def test_pictures_that_only_pretraining_sees_are_unlabelled():
    every = load(config.Digits(), "train").take(torch.arange(30))
    seen = stream_of_splits("digits", 32, every, every.take(torch.arange(0, 30, 3)), every)
    assert sorted(seen.splits) == ["test"] * 30 + ["train"] * 10 + ["unlabelled"] * 20
    assert seen.labels[seen.paths.index("unlabelled/03")] == ""
    shown = dict(zip(seen.paths, seen.read(0, 0, 4), strict=True))
    assert torch.equal(shown["unlabelled/03"].pixels, every.pixels[5])


def test_names_that_are_no_text_are_escaped(model, tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for name in (b"\xff.png", "é\n.png".encode()):
        photo(0, 20, 20).save(os.fsencode(root) + b"/" + name, "PNG")
    for suffix in ("parquet", "csv", "npz"):
        embed(model, of(root), tmp_path / f"x.{suffix}")
        assert rows(tmp_path / f"x.{suffix}")[0] == ["é\n.png", "\\xff.png"]


# --- what is seen of a picture ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [None, 70])
def test_large_pictures_are_seen_as_a_store_keeps_them(model, tmp_path, keep):
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(4):  # some are reduced to 32 px, or 70, and some decoded at a fraction
        photo(i, 50 + 60 * i, 40 + 50 * i).save(root / f"{i}.jpg", quality=90)
    data = of(root, keep=keep)
    embed(model, data, tmp_path / "before.npz", batch_size=2)
    images = load(data, "pretrain")
    expected = features(model.encoder, images, model.views, device="cpu", batch_size=2).numpy()
    assert np.array_equal(rows(tmp_path / "before.npz")[3], expected)  # with no store, to the bit
    embed(model, data, tmp_path / "after.npz", batch_size=2)
    assert (tmp_path / "after.npz").read_bytes() == (tmp_path / "before.npz").read_bytes()


@pytest.mark.filterwarnings("ignore:.*not used. 1 pictures in val")
def test_middle_squares_of_old_runs(model, pictures, tmp_path):
    data = of(pictures, crops="square", size=24)
    embed(model, data, tmp_path / "x.npz", batch_size=2)
    paths, _, _, y = rows(tmp_path / "x.npz")
    images = load(data, "test")
    expected = features(model.encoder, images, model.views, device="cpu", batch_size=2)
    np.testing.assert_allclose(y[[paths.index(name) for name in images.names or []]], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*no value that is read with 16 bits")
def test_gray_pictures_of_16_bits_are_scaled_as_all_of_them_say(model, tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(3):
        dark = (np.asarray(photo(i, 24, 20 + i).convert("L")).astype(np.uint16) * (4 + 4 * i)).astype(np.uint16)
        Image.fromarray(dark).save(root / f"{i}.png")
    embed(model, of(root), tmp_path / "x.npz")
    expected = features(model.encoder, load(of(root), "pretrain"), model.views, device="cpu")
    np.testing.assert_allclose(rows(tmp_path / "x.npz")[3], expected, rtol=1e-5, atol=1e-6)


# --- what a kill leaves -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Tiny pictures, some more than two parts of them, one of them bad."""
    root = tmp_path_factory.mktemp("many") / "pictures"
    root.mkdir()
    file = saved(photo(0, 12, 10), "PNG")
    for i in range(2 * embedding.PART + 100):
        (root / f"{i:05}.png").write_bytes(file[: len(file) - 30 * (i == 1500)])
    return root


@pytest.mark.parametrize(
    ("name", "point"), [("x.parquet", "replace.after:3"), ("x.csv", "write.written:4"), ("x.npz", "replace.after:5")]
)
def test_a_command_goes_on_where_it_was_killed_and_ends_with_the_same_bytes(
    vergence, whole, many, tmp_path, monkeypatch, name, point
):
    # passages: about.json, three parts, the list of bad pictures; so after two parts, in the third, before the end
    words = ("embed", whole, many, "--device", "cpu", "--out")
    assert vergence(*words, tmp_path / "straight" / name)["code"] == 0
    killed = vergence(*words, tmp_path / name, environment={"VERGENCE_FAILPOINT": point})
    assert killed["code"] == -9
    assert not (tmp_path / name).exists()
    sealed = sorted(path.name for path in (tmp_path / f"{name}.partial").glob("[0-9]*.arrow"))
    assert len(sealed) == (3 if "5" in point else 2)
    other = command("embed", whole, many, "--size", SIDE + 1, "--device", "cpu", "--out", name)
    assert other.code == 2
    assert other.errors == [
        f"{tmp_path / name}.partial was begun with another size; remove it, or choose another --out"
    ]
    begun = []

    def noted(*given, **options):
        seen = stream(*given, **options)
        return replace(seen, read=lambda start, *rest: begun.append(start) or seen.read(start, *rest))

    monkeypatch.setattr(embedding, "stream", noted)
    assert command(*words, name).code == 0
    assert begun == [len(sealed) * embedding.PART]
    assert (tmp_path / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert (tmp_path / "x.bad.csv").read_bytes() == (tmp_path / "straight/x.bad.csv").read_bytes()
    assert {entry.name for entry in tmp_path.iterdir()} == {name, "x.bad.csv", "straight"}


def test_two_commands_do_not_write_one_file(model, pictures, tmp_path):
    with durable.locked(tmp_path / "x.npz.partial"), pytest.raises(Busy, match="in use by process"):
        embed(model, of(pictures), tmp_path / "x.npz")


def test_other_pictures_are_not_mixed_with_those_before(model, pictures, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(embedding, "_part", killed)
        with pytest.raises(KeyboardInterrupt):
            embed(model, of(pictures), tmp_path / "x.npz")
    photo(99, 20, 20).save(pictures / "train/cat/new.png")
    with pytest.raises(InputError, match=r"x\.npz\.partial was begun with another listing; remove it"):
        embed(model, of(pictures), tmp_path / "x.npz")
    (pictures / "train/cat/new.png").unlink()
    with torch.no_grad():
        next(model.encoder.parameters()).add_(1)
    with pytest.raises(InputError, match="begun with another weights; remove it"):
        embed(model, of(pictures), tmp_path / "x.npz")


# --- what is written, and refused -------------------------------------------------------------------------------------


def test_what_the_embeddings_are_of_stands_in_the_file(model, pictures, tmp_path):
    for name in ("x.parquet", "x.npz"):
        embed(model, of(pictures), tmp_path / name)
    about = json.loads(pq.read_schema(tmp_path / "x.parquet").metadata[b"vergence"])
    assert about["model"] == model.name
    assert (about["size"], about["mean"]) == (SIDE, [0.485, 0.456, 0.406])
    assert len(about["weights"]) == 16
    assert json.loads(str(np.load(tmp_path / "x.npz")["vergence"])) == about
    assert pq.ParquetFile(tmp_path / "x.parquet").schema_arrow.field("embedding").type.list_size == model.dim


def test_the_command_says_what_it_wrote_and_writes_over_nothing(whole, pictures, tmp_path):
    (pictures / "a_first.jpg").write_bytes(b"cut off")
    answer = command("embed", whole, "pictures", "--data.labels", "none", "--device", "cpu", "--out", "x.csv")
    assert answer.code == 0
    assert answer.out.startswith("x.csv: 12 pictures, 96 numbers each, by ")
    assert answer.err == "warning: 1 of 13 pictures cannot be used; they have no row, and x.bad.csv lists them\n"
    assert {*rows(Path("x.csv"))[1]} == {""}
    before = Path("x.csv").read_bytes()
    answer = command("embed", whole, "pictures", "--out", "x.csv")
    assert (answer.code, answer.errors) == (
        2,
        [f"{tmp_path / 'x.csv'} is there already; remove it, or choose another --out"],
    )
    assert Path("x.csv").read_bytes() == before
    answer = command("embed", whole, "pictures", "--data.bad-images", "fail", "--device", "cpu", "--out", "y.csv")
    assert answer.code == 2
    assert "a_first.jpg cannot be used" in answer.errors[0]


def test_the_pictures_of_a_run_are_those_it_has(folder, tmp_path):
    assert command("embed", folder, "--device", "cpu", "--out", "x.npz").code == 0
    assert len(rows(Path("x.npz"))[0]) == 1797


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "x.txt"], "the suffix names the format; known: .csv, .npz, .parquet"),
        (["--out", "pictures/x.npz"], "lies among the pictures"),
        (["--out", "pictures"], "is a folder; name a file in it"),
        (["--out", "x.npz", "--lr", "1"], "--lr: unknown option; it is none of how pictures are read"),
        (["--out", "x.npz", "--data.label", "none"], "--data.label: unknown option"),
        (["--out", "x.npz", "--std", "0.1,0,0.1"], "--std: must be above 0, not 0.0"),
        (["--out", "x.npz", "--batch-size", "0"], "--batch-size: must be at least 1, not 0"),
        ([], "the following arguments are required: --out"),
    ],
)
def test_what_cannot_be_meant_is_one_line(whole, pictures, words, said):
    answer = command("embed", whole, "pictures", *words)
    assert answer.code == 2
    assert len(answer.errors) == 1
    assert said in answer.errors[0]
    assert sorted(entry.name for entry in Path().iterdir()) == ["pictures"]


def test_a_run_is_called_by_its_folder_wherever_one_stands(whole, pictures, monkeypatch):
    monkeypatch.chdir(whole)
    assert open_model(".").name == open_model(whole).name
    assert open_model(".").name.startswith(f"{whole.name} (step ")


def test_numbers_that_are_not_finite_are_refused_and_leave_nothing(model, pictures, tmp_path):
    broken = replace(model, encoder=Broken())
    with pytest.raises(
        InputError, match=r"gives numbers that are not finite of 12 of 12 pictures, first test/cat/0.png"
    ):
        embed(broken, of(pictures), tmp_path / "x.npz")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["pictures"]


class Broken(torch.nn.Module):
    """Gives no numbers."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.full((len(pictures), 96), torch.nan)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_program_of_torchscript_is_used_without_a_word(pictures, tmp_path):
    torch.jit.trace(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE**2, 4)), torch.ones(2, 3, SIDE, SIDE)
    ).save(str(tmp_path / "net.ts"))
    answer = command("embed", "net.ts", "pictures", "--size", SIDE, "--device", "cpu", "--out", "x.npz")
    assert (answer.code, answer.errors) == (0, [])


def test_a_model_without_a_run_has_no_pictures_of_its_own(folder, tmp_path):
    safetensors.torch.save_file(load_encoder(folder).state_dict(), tmp_path / "net.safetensors")
    words = ("embed", "net.safetensors", "--encoder", "test_resnet", "--size", SIDE, "--out", "x.npz")
    answer = command(*words)
    assert answer.errors == [
        "net.safetensors (test_resnet): is not of a run that has pictures; name some, as in ./pictures"
    ]
    answer = command(*words[:2], "digits", *words[2:], "--device", "cpu")
    assert answer.code == 0
    assert "nothing says how its pictures were normalized: ImageNet's mean and std are taken" in answer.out
    assert command("embed", folder, "digits", "--device", "cpu", "--out", "y.npz").code == 0
    np.testing.assert_allclose(rows(Path("x.npz"))[3], rows(Path("y.npz"))[3], rtol=1e-4, atol=1e-5)
