"""Runs whose pictures, or whose own folder, have moved; pictures that are not those of the run; runs of before."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from checker import check, tree
from commands import SMALL, train, vergence, words_of
from vergence import config as c
from vergence import runs
from vergence.config.schema import canonical
from vergence.data import load as load_images
from vergence.engine.periods import Periods
from vergence.engine.probing import Probing
from vergence.engine.where import Where
from vergence.errors import InputError
from vergence.files import durable
from vergence.files.results import read_result
from vergence.files.run_folder import FILES, found_again, is_of_run, own_key, read_listing, read_run
from vergence.report.page import runs_page
from vergence.runs import pictures
from vergence.runs.training import Training
from vergence.study import Scale
from vergence.study.reproduction import _on_pictures

pytestmark = pytest.mark.wide

WORDS = {"subset": "none", "epochs": 2, "batch-size": 8, "save-every": 1}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERGENCE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("VERGENCE_DATA_DIR", raising=False)
        yield


def draw(root, count=24, classes=2, seed=0):
    """Pictures of coloured tiles, spread over so many class folders."""
    chance = np.random.default_rng(seed)
    for i in range(count):
        path = root / (f"class{i % classes}" if classes else "") / f"p{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(chance.integers(0, 255, (4, 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)).save(path)
    return root


def another(path):
    """A picture that none of the others is."""
    Image.fromarray(np.random.default_rng(99).integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run, `run`, and its pictures, `kept`: they are no more in `pictures`, where it was begun on them."""
    home = tmp_path_factory.mktemp("home")
    draw(home / "pictures")
    answer = train(home / "run", "--data", home / "pictures", **{k.replace("-", "_"): v for k, v in WORDS.items()})
    assert answer.code == 0, answer.err
    (home / "pictures").rename(home / "kept")
    return home


@pytest.fixture
def run(home, tmp_path):
    """A copy of the run."""
    return Path(shutil.copytree(home / "run", tmp_path / "run"))


@pytest.fixture
def unfinished(run):
    """A copy of it that was cut off at its first checkpoint but one."""
    (run / "summary.json").unlink()
    *_, newest = sorted((run / "checkpoints").iterdir())
    shutil.rmtree(newest)
    return run


def moved(home, to):
    return Path(shutil.copytree(home / "kept", to))


def evaluate(run, *words):
    return vergence("evaluate", run, "--probes", "knn", "--device", "cpu", "--threads", 1, *words)


def again(run, *words):
    words = (*words, "--device", "cpu", "--threads", 1, "--log-every", 2, "--save-every", 1)
    return vergence("train", "--config", run / "run.json", "--out", run, "--resume", *words)


def read(path):
    return json.loads(path.read_text())


def listing_of(folder):
    """The pictures that a run has listed, and their decoder."""
    listing = read_listing(folder)
    assert listing is not None
    return listing


# --- found again ------------------------------------------------------------------------------------------------------


def test_a_run_lists_its_pictures_once(home):
    listed, decoder = listing_of(home / "run")
    names = {path.relative_to(home / "kept").as_posix() for path in (home / "kept").rglob("*.png")}
    assert set(listed) == names
    assert len(set(listed.values())) == 24
    assert decoder.startswith("Pillow ")
    there = read(home / "run" / "run.json")
    assert (there["pictures"], there["test_pictures"]) == (20, 4)


def test_pictures_that_are_gone_are_asked_for_in_one_line(home, run, tmp_path):
    before = tree(tmp_path)
    root = home / "pictures"
    advice = "say where they lie now, as in --data ./pictures"
    assert evaluate(run).errors == [f"{run}: its pictures are not in {root} any more; {advice}"]
    answer = evaluate(run, "--data-dir", tmp_path)
    assert answer.errors == [f"{run}: its pictures are neither in {root} nor in {tmp_path}; {advice}"]
    assert tree(tmp_path) == before
    (run / "summary.json").unlink()
    assert again(run).errors == [f"{run}: its pictures are not in {root} any more; {advice}"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("b/pictures", ["--data-dir", "b"]),
        ("b/pictures", ["--data-dir", "b/pictures"]),
        ("b/renamed", ["--data-dir", "b"]),
        ("b/renamed", ["--data-dir", "b/renamed"]),
        ("b/renamed", ["--data", "b/renamed"]),
        ("b/renamed", ["--data", "renamed", "--data-dir", "b"]),
        ("b/renamed", ["--data", "b/link"]),
        ("b/renamed", ["--data", "./b/../b/renamed/"]),
    ],
)
def test_they_are_found_where_they_lie_now(place, words, home, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved(home, tmp_path / place)
    draw(tmp_path / "b" / "another", seed=1)  # has files of the same names, and none more than the run's
    shutil.rmtree(tmp_path / "b" / "another" / "class0")
    (tmp_path / "b" / "link").symlink_to("renamed")
    answer = evaluate(run, *words)
    assert answer.code == 0, answer.err
    assert f"  pictures  {Path(place).name}, those of the run\n" in answer.out
    scores, summary = read(run / "evaluation.json"), read(run / "summary.json")
    assert scores["knn"] == summary["knn"]
    assert scores["scored_on"]["of_the_run"] is True
    assert not list(run.glob("evaluation-on-*"))
    done = again(run, *words)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{run}: this run is there, finished\n")


@pytest.mark.parametrize("words", [["--data", "b/renamed"], ["--data-dir", "b"]])
def test_a_run_goes_on_there_to_the_same_bits(words, home, unfinished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved(home, tmp_path / "b" / "renamed")
    before = (unfinished / "run.json").read_bytes()
    answer = again(unfinished, *words)
    assert answer.code == 0, answer.err
    check(unfinished, home / "run")
    assert (unfinished / "run.json").read_bytes() == before


def test_a_relative_root_is_looked_for_in_the_data_folder(home, tmp_path, monkeypatch):
    """As Python code may write it: the same run on two machines with nothing but `data_dir` to tell them apart."""
    recorded = read_run(home / "run" / "run.json")
    relative = replace(recorded, data=replace(recorded.data, root="sets/pictures"))
    assert relative.key == recorded.key
    monkeypatch.chdir(tmp_path)
    moved(home, tmp_path / "one" / "sets" / "pictures")
    runs.run_training(
        relative, tmp_path / "run", where=Where(data_dir=tmp_path / "one"), periods=Periods(log_every=2, save_every=1)
    )
    (tmp_path / "one").rename(tmp_path / "two")
    assert runs.run_training(relative, tmp_path / "run", where=Where(data_dir=tmp_path / "two"))["key"] == recorded.key
    assert runs.score(tmp_path / "run", where=Where(data_dir=tmp_path / "two"), probing=Probing(probes=("knn",)))[
        "scored_on"
    ]["of_the_run"]
    (tmp_path / "two" / "sets" / "pictures").rename(tmp_path / "two" / "flowers")
    assert (
        runs.score(tmp_path / "run", where=Where(data_dir=tmp_path / "two"), probing=Probing(probes=("knn",)))[
            "scored_on"
        ]["name"]
        == "flowers"
    )
    check(tmp_path / "run", home / "run")


def test_python_finds_them_too(home, run, tmp_path):
    there = moved(home, tmp_path / "b" / "renamed")
    recorded = read_run(run / "run.json")
    assert runs.load(run)[0] == recorded
    found, method, step = runs.load(run, data_dir=tmp_path / "b")
    assert found == replace(recorded, data=replace(recorded.data, root=str(there)))
    assert (found.key, step) == (recorded.key, 4)
    assert len(load_images(found.data, "test")) == 4
    assert method.encoder(torch.zeros(1, 3, 16, 16)).isfinite().all()
    data = c.Folder(root=str(there))  # its size and other options are the run's
    assert runs.score(run, data=data, probing=Probing(probes=("knn",)))["knn"] == read(run / "summary.json")["knn"]
    assert runs.run_training(recorded, run, where=Where(data_dir=tmp_path / "b")) == read(run / "summary.json")


def test_a_finished_run_whose_pictures_are_gone_is_recognised(run):
    before = tree(run)
    answer = again(run)
    assert answer.code == 0, answer.err
    assert "this run is there, finished" in answer.out
    assert {name: seen for name, seen in tree(run).items() if name != ".lock"} == {
        name: seen for name, seen in before.items() if name != ".lock"
    }


def test_another_place_without_pictures_is_not_taken_for_theirs(run, tmp_path):
    answer = again(run, "--data", tmp_path / "nowhere")
    assert answer.code == 2
    assert answer.errors == [f"there is no folder {tmp_path / 'nowhere'}"]


def test_without_a_listing_a_folder_is_known_by_its_name(home, run, tmp_path):
    (run / "pictures.json").unlink()
    data = read_run(run / "run.json").data
    moved(home, tmp_path / "b" / "renamed")
    assert found_again(data, run, tmp_path / "b") == data
    there = moved(home, tmp_path / "b" / "pictures")
    for data_dir in (tmp_path / "b", there):
        assert found_again(data, run, data_dir) == replace(data, root=str(there))
    assert found_again(data, run, tmp_path / "none") == found_again(data, run, None) == data
    assert found_again(c.Digits(), run, tmp_path / "b") == c.Digits()


def test_several_places_are_found_again_by_their_names(tmp_path):
    one, two = draw(tmp_path / "here" / "one"), draw(tmp_path / "here" / "two", seed=1)
    out = tmp_path / "run"
    words = words_of(SMALL | WORDS)
    answer = vergence("train", "byol", *words, "--data", one, "--data", two, "--out", out)
    assert answer.code == 0, answer.err
    there = tmp_path / "there"
    there.mkdir()
    shutil.move(two, there / "two")
    assert "say where they lie now, as in --data ./two" in vergence("evaluate", out).err
    answer = vergence("evaluate", out, "--data-dir", there)
    assert answer.code == 0, answer.err
    assert json.loads((out / "run.json").read_bytes())["run"]["data"]["more"] == [str(two)]


def test_a_run_lies_among_the_pictures_of_none_of_its_places(tmp_path):
    one, two = draw(tmp_path / "one"), draw(tmp_path / "two", seed=1)
    answer = vergence("train", "byol", *words_of(SMALL | WORDS), "--data", one, "--data", two, "--out", two / "run")
    assert f"lies among the pictures, in {two}; choose an --out elsewhere" in answer.err
    assert not (two / "run").exists()


@pytest.mark.parametrize("content", ["{}", '{"names": ["a"], "hashes": [], "decoder": "x"}', '{"names": 1}'])
def test_a_listing_that_is_damaged_is_named(content, run):
    (run / "pictures.json").write_text(content)
    with pytest.raises(InputError, match=r"pictures\.json: not as a run writes it; remove it to go on without it"):
        read_listing(run)


def test_of_very_many_pictures_only_the_number_is_known(home, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_LISTED", 23)
    there = moved(home, tmp_path / "pictures")
    assert train(tmp_path / "run", "--data", there, subset="none", epochs=0).code == 0
    assert read_listing(tmp_path / "run") is None
    (there / "class0" / "p000.png").unlink()
    (line,) = evaluate(tmp_path / "run", "--random").errors
    assert "the pictures are not those of the run: 19, not 20; put them back" in line


# --- other pictures ---------------------------------------------------------------------------------------------------


def alter(root, how):
    """Change pictures in one way; return how it is said."""
    listed, _ = listing_of(root.parent / "run")
    held = sorted(listed)
    match how:
        case "changed":
            another(root / held[0])
            return f"1 changed ({held[0]})"
        case "all changed":
            draw(root, seed=5)
            return f"24 changed ({', '.join(held[:3])} and 21 more)"
        case "added":
            another(root / "class0" / "new\n.png")
            return "1 added (class0/new\\n.png)"
        case "gone":
            (root / held[5]).unlink()
            return f"1 gone ({held[5]})"
        case "renamed":
            (root / held[5]).rename(root / "class0" / "other.png")
            return f"1 added (class0/other.png), 1 gone ({held[5]})"
        case "a test picture changed":
            test = load_images(c.Folder(root=str(root), size=16), "test").names[0]
            another(root / test)
            return f"1 changed ({test})"
    raise AssertionError(how)


WAYS = ("changed", "all changed", "added", "gone", "renamed", "a test picture changed")


@pytest.mark.parametrize("how", WAYS)
def test_pictures_that_are_not_those_of_the_run_are_named(how, home, run, tmp_path):
    there = moved(home, tmp_path / "pictures")
    said = alter(there, how)
    holds = f"{run}: holds this run on other pictures: {said}; choose another --out"
    before = tree(tmp_path)
    advice = "put them back, or score on these on purpose with --data"
    answer = evaluate(run, "--data-dir", tmp_path)
    assert answer.errors == [f"{run}: the pictures are not those of the run: {said}; {advice}"]
    assert again(run, "--data", there).errors == [holds]  # it is finished
    assert tree(tmp_path) == before
    (run / "summary.json").unlink()
    before = tree(run / "checkpoints")
    assert again(run, "--data", there).errors == [holds]  # it would go on
    words = ("train", "--config", run / "run.json", "--out", run, "--data", there)
    assert vergence(*words).errors == [holds]  # rather than: add --resume
    assert tree(run / "checkpoints") == before


def test_the_report_names_them_and_draws_no_views_of_others(home, run, tmp_path):
    there = moved(home, tmp_path / "pictures")
    page, problems = runs_page([run], data_dir=tmp_path)
    assert (page.failures, problems) == ({}, {})
    assert page.views is not None
    said = alter(there, "changed")
    page, problems = runs_page([run], data_dir=tmp_path)
    assert problems == {}
    assert page.failures == {"byol, seed 0": f"the pictures at hand are not those of the run: {said}"}
    assert page.views is None
    (run / "pictures.json").write_text("{}")
    page, problems = runs_page([run], data_dir=tmp_path)
    assert problems == {}
    assert "not as a run writes it" in page.failures["byol, seed 0"]
    page, _ = runs_page([run])  # none are at hand
    assert (page.failures, page.views) == ({}, None)
    page, _ = runs_page([run], data_dir=tmp_path, show_views=False)  # not looked at
    assert page.failures == {}


def test_another_decoder_is_named(home, run, tmp_path):
    there = moved(home, tmp_path / "pictures")
    listing = read(run / "pictures.json")
    (run / "pictures.json").write_text(json.dumps(listing | {"decoder": "Pillow 1.0"}))
    draw(there, seed=5)
    (line,) = evaluate(run, "--data-dir", tmp_path).errors
    assert ", decoded by Pillow " in line
    assert ", then by Pillow 1.0; put them back" in line


# --- scored on others, on purpose -------------------------------------------------------------------------------------


def test_a_run_is_scored_on_another_set(home, run, tmp_path):
    other = draw(tmp_path / "random", 40, 4, seed=3)
    before = {path.name for path in run.iterdir()}
    answer = evaluate(run, "--data", other)
    assert answer.code == 0, answer.err
    (name,) = {path.name for path in run.iterdir()} - before
    scores = read(run / name)
    digest = scores["scored_on"]["digest"]
    assert name == f"evaluation-on-random-{digest[:8]}.json"
    assert scores["scored_on"] == {"name": "random", "digest": digest, "of_the_run": False}
    assert f"  pictures  random, not those of the run, digest {digest}\n" in answer.out
    assert scores["knn"]["protocol"].startswith("20 nearest of 32 training pictures")
    assert scores["knn"]["protocol"].endswith("8 test pictures")
    assert evaluate(run, "--data", other, "--random").code == 0
    assert (run / f"evaluation-random-on-random-{digest[:8]}.json").exists()
    draw(other, 40, 4, seed=4)  # of the same name
    assert evaluate(run, "--data", other).code == 0
    assert len(list(run.glob("evaluation-on-random-*.json"))) == 2
    answer = vergence("report", run, "--no-views", "--out", run / name)
    assert answer.errors == [f"--out: {run / name} belongs to the run in {run}; choose another name"]
    assert not (run / "evaluation.json").exists()


def test_a_published_set_will_do_and_all_of_it_is_used(tmp_path):
    there = draw(tmp_path / "pictures")
    assert train(tmp_path / "run", "--data", there, subset=16, epochs=0).code == 0
    answer = evaluate(tmp_path / "run", "--random", "--data", "digits")
    assert answer.code == 0, answer.err
    assert "20 nearest of 1438 training pictures" in answer.out
    draw(tmp_path / "few", 6)
    assert evaluate(tmp_path / "run", "--random", "--data", tmp_path / "few").code == 0  # fewer than the subset
    (name,) = [path.name for path in (tmp_path / "run").glob("evaluation-random-on-digits-*.json")]
    assert is_of_run(name)


def test_the_runs_own_set_by_its_name_is_its_own(folder):
    answer = evaluate(folder, "--data", "digits")
    assert answer.code == 0, answer.err
    assert read(folder / "evaluation.json")["knn"] == read(folder / "summary.json")["knn"]


def test_other_pictures_without_classes_cannot_be_scored_on(run, tmp_path):
    other = draw(tmp_path / "other", 8, 0)
    assert evaluate(run, "--data", other).errors == [
        "folder: these pictures have no labels; there is nothing to score against"
    ]


# --- what a command changes -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.* left out")
def test_pictures_named_with_a_configuration_keep_its_options(home, tmp_path):
    config = tmp_path / "run.json"
    there = read(home / "run" / "run.json")["run"]
    there["data"] |= {"bad_images": "skip", "size": 24}
    config.write_text(json.dumps(there))
    moved(home, tmp_path / "b")
    (tmp_path / "b" / "class0" / "bad.png").write_text("no picture")
    words = ("--device", "cpu", "--threads", 1)
    answer = vergence("train", "--config", config, "--data", tmp_path / "b", "--out", tmp_path / "run", *words)
    assert answer.code == 0, answer.err
    after = read(tmp_path / "run" / "run.json")["run"]
    assert after == there | {"data": there["data"] | {"root": str(tmp_path / "b")}}


def test_an_experiment_on_other_pictures_keeps_the_sizes_of_its_rows():
    flowers = c.Folder(root="flowers", size=64, bad_images="skip")
    rows = [c.Run(method=c.BYOL(), data=c.CIFAR10(size=size), views=c.Views(size=size)) for size in (32, 96)]
    full = Scale(about="", epochs=1, long=1, seeds=1)
    for row in rows:
        assert full.changed(data=flowers).apply(row) == replace(row, data=replace(flowers, size=row.data.size))
        assert full.changed(data=c.CIFAR10()).apply(row) == row
    smoke = replace(full, data=c.Digits(size=24))
    mirrored = smoke.changed(data=c.CIFAR10()).apply(rows[1])
    assert (mirrored.data, mirrored.views) == (c.CIFAR10(size=24), c.Views(size=24))
    assert smoke.changed(epochs=2).apply(rows[1]).views.first.flip == 0.0
    assert smoke.changed(data=flowers).about == "; but pictures flowers"


# --- a folder's name --------------------------------------------------------------------------------------------------


def test_two_folders_of_pictures_do_not_meet_by_accident(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "byol", *words_of(SMALL | {"subset": "none", "epochs": 0})]
    for name in ("a/flowers", "trees"):
        draw(tmp_path / name, seed=len(name))
        assert vergence(*words, "--data", name).code == 0
    flowers, trees = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert flowers.partition("-flowers-")[2] == trees.partition("-trees-")[2] != ""
    draw(tmp_path / "b" / "flowers", seed=1)
    (line,) = vergence(*words, "--data", "b/flowers").errors
    assert line.startswith(f"runs/{flowers}: holds this run on other pictures: 24 changed (class0/p000.png, ")
    (tmp_path / "trees").rename(tmp_path / "plants")
    answer = vergence(*words, "--data", "plants")
    assert answer.out.startswith(f"runs/{trees}: this run is there, finished\n")
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.slow
def test_a_page_tells_one_run_on_two_folders_apart(tmp_path):
    folders = []
    for seed in (1, 2):
        there = draw(tmp_path / str(seed) / "flowers", seed=seed)
        folders.append(tmp_path / str(seed) / "run")
        assert train(folders[-1], "--data", there, subset="none", epochs=1).code == 0
    one, other = map(read_result, folders)
    assert one.run.key == other.run.key
    assert one.identity != other.identity
    page, problems = runs_page(folders)
    assert problems == {}
    assert len(page.runs) == 2
    for root in ("1", "2"):  # in one place, one after the other: nothing but the digest tells them apart
        there = json.loads((tmp_path / root / "run" / "run.json").read_text())
        there["run"]["data"]["root"] = "/one/flowers"
        (tmp_path / root / "run" / "run.json").write_text(json.dumps(there))
    page, problems = runs_page(folders)
    assert (problems, len(page.runs)) == ({}, 2)
    assert len({result.digest for (result,) in page.runs.values()}) == 2
    copy = shutil.copytree(folders[0], tmp_path / "copy")
    _, problems = runs_page([*folders, Path(copy)])
    assert problems == {copy: f"{copy}: the same run as {folders[0]}; name one of the two"}


# --- runs of before ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def before(home, tmp_path_factory):
    """The run of `home` as an earlier version wrote it: the place has a part in its key, and no picture is listed."""
    place = tmp_path_factory.mktemp("before")
    root = shutil.copytree(home / "kept", place / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vergence.config.run.canonical", lambda config, places=False: c_canonical(config, places=True))
        patch.setattr(pictures, "note", lambda *_: None)
        options = {k.replace("-", "_"): v for k, v in WORDS.items()}
        assert train(place / "run", "--data", root, **options).code == 0
    there = read(place / "run" / "run.json")
    durable.write_json(place / "run" / "run.json", {k: v for k, v in there.items() if not k.startswith("test")})
    return place


c_canonical = canonical


def keys_in(folder):
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    return {read(path)["key"] for path in (folder / "run.json", folder / "summary.json", newest / "state.json")}


def test_a_run_of_before_is_recognised_where_it_was_and_elsewhere(before, home, tmp_path):
    run = before / "run"
    recorded = read_run(run / "run.json")
    assert keys_in(run) == {recorded.former_key} == {own_key(run, recorded)} != {recorded.key}
    assert own_key(run, replace(recorded, seed=5)) == replace(recorded, seed=5).key
    seen = tree(run)
    for words in ([], ["--data", home / "kept"]):
        answer = again(run, *words)
        assert answer.out.startswith(f"{run}: this run is there, finished\n"), answer.err
    assert tree(run) == seen
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    assert evaluate(copy, "--data", home / "kept").code == 0
    assert read(copy / "evaluation.json")["knn"] == read(run / "summary.json")["knn"]
    page, problems = runs_page([copy])
    assert (page.failures, problems) == ({}, {})
    assert page.views is not None
    assert runs.load(copy)[2] == 4


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_run_of_before_goes_on_under_its_own_key(elsewhere, before, home, tmp_path):
    run = Path(shutil.copytree(before / "run", tmp_path / "run"))
    key = read(run / "run.json")["key"]
    (run / "summary.json").unlink()
    shutil.rmtree(sorted((run / "checkpoints").iterdir())[-1])
    answer = again(run, *(["--data", home / "kept"] if elsewhere else []))
    assert answer.code == 0, answer.err
    check(run, home / "run")
    assert keys_in(run) == {key}
    assert read_listing(run) == read_listing(home / "run")  # from now on


def test_a_run_of_before_on_other_pictures_is_refused(before, home, tmp_path):
    run = Path(shutil.copytree(before / "run", tmp_path / "run"))
    there = moved(home, tmp_path / "pictures")
    another(there / "class0" / "new.png")
    (line,) = again(run, "--data", there).errors
    assert line.startswith(f"{run}: holds this run on other pictures: ")


def test_another_key_in_the_record_makes_nothing_good(before, tmp_path):
    """A key that is neither the run's nor its former one says nothing: files must then have the run's own."""
    run = Path(shutil.copytree(before / "run", tmp_path / "run"))
    there = read(run / "run.json")
    there["run"]["data"]["root"] += "x"
    durable.write_json(run / "run.json", there)
    recorded = read_run(run / "run.json")
    assert own_key(run, recorded) == recorded.key
    with pytest.raises(InputError, match="of another run"):
        read_result(run)


def test_without_out_a_run_of_before_is_found_by_what_it_is(before, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recorded = read_run(before / "run" / "run.json")
    old = f"byol-folder-{recorded.former_key}"
    shutil.copytree(before / "run", tmp_path / "runs" / old)
    words = [*words_of(SMALL | WORDS, without=("data",)), "--data", home / "kept"]
    answer = vergence("train", "byol", *words)
    assert answer.out.startswith(f"runs/{old}: this run is there, finished\n"), answer.err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [old]


# --- jobs of a grid ---------------------------------------------------------------------------------------------------


def prepared(root, out):
    recorded = read_run(out / "run" / "run.json")
    job = Training(name="a", run=replace(recorded, data=replace(recorded.data, root=str(root))))
    ((ready,),) = _on_pictures({"a": [job]}, out).values()
    return ready


def test_a_job_is_done_where_its_pictures_are_those_of_the_run(home, tmp_path):
    name = read_run(home / "run" / "run.json").name
    shutil.copytree(home / "run", tmp_path / "run")
    shutil.copytree(home / "run", tmp_path / name)
    same = prepared(moved(home, tmp_path / "pictures"), tmp_path)
    assert same.folder == name
    assert same.finished(tmp_path / name)
    renamed = prepared(moved(home, tmp_path / "renamed"), tmp_path)
    assert renamed.folder == name
    assert renamed.finished(tmp_path / name)
    other = prepared(draw(tmp_path / "b" / "pictures", seed=9), tmp_path)
    assert other.folder == name
    assert not other.finished(tmp_path / name)
    with pytest.raises(InputError, match="holds this run on other pictures: 24 changed"):
        other.execute(tmp_path / name, None)
    third = prepared(draw(tmp_path / "third", seed=9), tmp_path)
    assert third.folder == name.replace("-pictures-", "-third-")
    there = moved(home, tmp_path / "c" / "pictures")
    another(there / load_images(c.Folder(root=str(there), size=16), "test").names[0])
    assert not prepared(there, tmp_path).finished(tmp_path / name)  # it would be scored on others
    gone = prepared(home / "pictures", tmp_path)
    assert gone.pictures is None
    assert gone.finished(tmp_path / name)


def test_a_job_of_before_is_not_done_again(before, tmp_path):
    recorded = read_run(before / "run" / "run.json")
    shutil.copytree(before / "run", tmp_path / "run")
    old = f"byol-folder-{recorded.former_key}"
    shutil.copytree(before / "run", tmp_path / old)
    job = prepared(before / "pictures", tmp_path)
    assert job.folder == old
    assert job.finished(tmp_path / old)
    assert job.read(tmp_path / old).run == recorded


def test_every_file_of_a_run_is_known_as_one(home):
    names = {path.name for path in (home / "run").iterdir() if path.is_file() and path.name != ".lock"}
    assert all(map(is_of_run, names))
    assert names <= set(FILES)
    assert not is_of_run("notes.txt")
    assert os.path.exists(home / "run" / "pictures.json")
