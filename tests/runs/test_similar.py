"""`vergence similar`: what is alike by embeddings and by pixels, its tables, its page, and what wrong files get."""

import csv
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from commands import vergence
from data_files import photo
from vergence.errors import InputError
from vergence.files.embeddings import read_embeddings
from vergence.runs.similar import Asked, similar

PATHS = [f"{kind}/{index}.png" for kind in ("a", "b", "c") for index in range(4)]


def written(file: Path, values: np.ndarray | None = None, **columns: object) -> Path:
    """Write embeddings as a file: of three directions, one for each class, with a little noise."""
    if values is None:
        values = np.eye(3, 8, dtype=np.float32).repeat(4, 0)
        values = values + 0.05 * np.random.default_rng(0).standard_normal(values.shape).astype(np.float32)
    columns = {"path": PATHS, "embedding": values, "label": [path[0] for path in PATHS]} | columns
    if file.suffix == ".npz":
        np.savez(file, **{name: np.asarray(column) for name, column in columns.items()})
    else:
        rows = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        table = pa.table(columns | {"embedding": rows}).replace_schema_metadata({"vergence": '{"model": "a model"}'})
        pq.write_table(table, file, row_group_size=5)
    return file


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve photos, of which the last is half the size of the first."""
    for index, path in enumerate(PATHS):
        file = tmp_path / "pictures" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        (photo(0).resize((64, 48)) if index == 11 else photo(index)).save(file)
    return tmp_path / "pictures"


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def test_tables_and_page(tmp_path: Path, pictures: Path) -> None:
    embeddings, out = written(tmp_path / "e.parquet"), tmp_path / "out"
    words = f"similar {embeddings} {pictures} --out {out} --of b/1.png --neighbours 3 --clusters 3"
    done = vergence(*words.split())
    assert done.code == 0, done.err
    neighbours = rows_of(out / "neighbours.csv")
    assert {row["neighbour"] for row in neighbours} == {"b/0.png", "b/2.png", "b/3.png"}
    assert [row["rank"] for row in neighbours] == ["1", "2", "3"]
    assert sorted((row["cosine"] for row in neighbours), reverse=True) == [row["cosine"] for row in neighbours]
    (pair,) = rows_of(out / "pairs.csv")
    assert (pair["first"], pair["second"], pair["kind"]) == ("a/0.png", "c/3.png", "copy")
    assert float(pair["agreement"]) >= 0.9
    clusters = rows_of(out / "clusters.csv")
    assert [row["path"] for row in clusters] == PATHS
    assert len({(row["path"][0], row["cluster"]) for row in clusters}) == 3
    assert [row["representative"] for row in clusters].count("yes") == 3
    assert len(rows_of(out / "map.csv")) == 12
    page = (out / "index.html").read_text()
    assert "a model" in page
    assert page.count("data:image/webp") == 2 + 12 + 4
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    vergence(*words.split())
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_without_pictures_it_says_that_only_cosines_are_compared(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((12, 8)).astype(np.float32)
    values[7] = 2 * values[2]
    done = vergence("similar", written(tmp_path / "e.npz", values), "--out", tmp_path / "out", "--map", "none")
    assert done.code == 0, done.err
    assert "only by cosine" in done.out
    (pair,) = rows_of(tmp_path / "out" / "pairs.csv")
    assert (pair["first"], pair["second"], pair["agreement"]) == ("a/2.png", "b/3.png", "")
    assert not (tmp_path / "out" / "map.csv").exists()
    assert "data:image" not in (tmp_path / "out" / "index.html").read_text()


def test_both_formats_and_any_order_are_the_same_embeddings(tmp_path: Path) -> None:
    first = read_embeddings(written(tmp_path / "e.parquet"))
    order = np.random.default_rng(1).permutation(12)
    shuffled = {"path": [PATHS[i] for i in order], "label": [PATHS[i][0] for i in order]}
    second = read_embeddings(written(tmp_path / "e.npz", first.values[order], **shuffled))
    assert first.paths == second.paths == PATHS
    assert first.labels == second.labels
    assert (first.values == second.values).all()
    assert (first.model, second.model) == ("a model", "")


def test_the_plane_has_the_greatest_variance(tmp_path: Path) -> None:
    embeddings = read_embeddings(written(tmp_path / "e.npz"))
    found = similar(embeddings)
    assert found.map is not None
    unit = torch.nn.functional.normalize(torch.from_numpy(embeddings.values), dim=1)
    values = torch.linalg.svdvals(unit - unit.mean(0))
    torch.testing.assert_close((found.map - found.map.mean(0)).norm(dim=0), values[:2], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_umap_keeps_classes_together_and_repeats_itself(tmp_path: Path) -> None:
    pytest.importorskip("umap")
    embeddings = read_embeddings(written(tmp_path / "e.npz"))
    one, two = (similar(embeddings, Asked(map="umap")).map for _ in range(2))
    assert one is not None
    assert two is not None
    assert torch.equal(one, two)


def test_without_umap_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match=r"pip install 'vergence\[umap\]'"):
        similar(read_embeddings(written(tmp_path / "e.npz")), Asked(map="umap"))


BAD = {
    "no such file": (lambda folder: folder / "none.parquet", "there is no file"),
    "another format": (lambda folder: folder / "e.txt", "embeddings are read from such files only"),
    "no column": (lambda folder: _no_path(folder / "e.npz"), "it has no path"),
    "twice": (lambda folder: written(folder / "e.npz", path=["a"] * 12), "1 paths are there more than once: a"),
    "not finite": (lambda folder: written(folder / "e.parquet", _with_nan()), "1 embeddings hold numbers that are not"),
    "damaged": (lambda folder: _damaged(folder / "e.parquet"), "cannot be read as embeddings"),
    "one row": (lambda folder: written(folder / "e.npz", np.ones((1, 3)), path=["a"], label=["a"]), "two embeddings"),
    "other shapes": (lambda folder: written(folder / "e.npz", np.ones(12)), "one row of numbers for each path"),
}


def _no_path(file: Path) -> Path:
    np.savez(file, embedding=np.ones((3, 2)))
    return file


def _with_nan() -> np.ndarray:
    values = np.ones((12, 4), np.float32)
    values[3, 1] = np.nan
    return values


def _damaged(file: Path) -> Path:
    file.write_bytes(written(file).read_bytes()[:-20])
    return file


@pytest.mark.parametrize("kind", BAD)
def test_a_wrong_file_gets_one_line(kind: str, tmp_path: Path) -> None:
    make, says = BAD[kind]
    done = vergence("similar", make(tmp_path), "--out", tmp_path / "out")
    assert done.code == 2
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:.*cannot be used were left out:UserWarning")
def test_pictures_that_cannot_be_read_are_left_out_as_embed_leaves_them_out(tmp_path: Path, pictures: Path) -> None:
    embeddings = written(tmp_path / "e.parquet")
    (pictures / "b" / "2.png").write_text("no picture")
    done = vergence("similar", embeddings, pictures, "--out", tmp_path / "out")
    assert done.code == 0
    assert "1 of the 12 embeddings have no picture there" in done.out
    done = vergence("similar", embeddings, pictures, "--out", tmp_path / "other", "--data.bad-images", "fail")
    assert done.code == 2
    assert "1 of 12 pictures cannot be used: b/2.png" in done.errors[0]
    assert not (tmp_path / "other").exists()
    done = vergence("similar", embeddings, "--out", tmp_path / "other", "--data.bad-images", "skip")
    assert done.errors == ["--data.bad-images: of which pictures? Name them too, as in ./pictures"]
    done = vergence("similar", embeddings, pictures, "--out", tmp_path / "other", "--lr", "1")
    assert done.errors == ["unexpected argument '--lr'; see vergence similar --help"]


def test_wrong_wishes_get_one_line(tmp_path: Path, pictures: Path) -> None:
    file = written(tmp_path / "e.npz")
    other = written(tmp_path / "o.npz", path=[f"x{index}" for index in range(12)])
    for words, says in (
        (f"{file} --of b/1.pgn", "did you mean 'b/1.png'?"),
        (f"{file} --clusters 13", "13 are more than the 12 pictures"),
        (f"{other} {pictures}", "none of the embeddings' paths is there"),
        (f"{file} {pictures} --out {pictures / 'out'}", "lies among the pictures"),
        (f"{file} --map tsne", "--map"),
    ):
        done = vergence("similar", "--out", tmp_path / "out", *words.split())
        assert (done.code, says in done.err) == (2, True), done.err
    assert not (tmp_path / "out").exists()
