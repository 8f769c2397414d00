"""`vergence data`: the lines, the page, and what it refuses."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from commands import vergence
from data_files import photo


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Six photos of each of two classes with a copy, a leak, a flat picture and files that are none."""
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "pictures"
    for seed, (split, name, count) in enumerate(
        (("train", "cat", 6), ("train", "dog", 2), ("test", "cat", 2), ("test", "dog", 2))
    ):
        (root / split / name).mkdir(parents=True)
        for i in range(count):
            photo(100 * seed + i, 100 + 10 * i).save(root / split / name / f"{i}.png")
    shutil.copy(root / "train/cat/0.png", root / "train/cat/copy.png")
    Image.open(root / "train/cat/1.png").save(root / "test/cat/leak.jpg", quality=50)
    Image.new("RGB", (96, 96), (200, 0, 0)).save(root / "train/cat/red.png")
    (root / "train/dog/layers.psd").write_bytes(b"1")
    (root / "notes.txt").touch()
    return root


def rows(answer):
    """The lines by their labels; of one label several."""
    found = {}
    for line in answer.out.splitlines():
        if line.startswith("  "):
            found.setdefault(line[2:12].strip(), []).append(line[12:].strip())
    return found


def test_the_lines_say_what_a_run_would_find(pictures):
    answer = vergence("data", pictures)
    assert (answer.code, answer.err) == (0, "")
    assert rows(answer) == {
        "pictures": [f"10 to train on and 5 held out (test/), of {pictures}"],
        "classes": ["2, the largest cat (8 training pictures), the smallest dog (2): 4 times as many"],
        "sizes": ["every shorter side has 96 px; width by height 1.00 to 1.56, median 1.15"],
        "files": ["14 .png, 1 .jpg"],
        "not read": [
            "1 .psd (of no format that is read; convert them to PNG or JPEG); 1 .txt (no pictures by their suffix)"
        ],
        "one colour": ["1: train/cat/red.png"],
        "repeated": ["1 picture repeats another, pixel by pixel, in 1 group: train/cat/0.png = train/cat/copy.png"],
        "alike": ["1 picture repeats another, nearly, in 1 group: train/cat/1.png ~ test/cat/leak.jpg"],
        "leakage": ["1 of 5 test pictures repeats a training picture (1 nearly): test/cat/leak.jpg ~ train/cat/1.png"],
        "a run": ["would train on 10 pictures, fit probes on 10 and score them on 5"],
        "remark": [
            "not read, though they look like pictures: 1 .psd (of no format that is read; convert them to PNG or JPEG)",
            "1 of 15 pictures are of one colour; 1 of 15 pictures repeat another pixel by pixel; "
            "remove what is not meant",
        ],
    }


def test_options_say_how_pictures_are_read_as_in_train(pictures):
    found = rows(vergence("data", pictures, "--data.labels", "none", "--size", "16", "--data.crops=square"))
    assert found["classes"] == ["none: these pictures have no labels"]
    assert found["a run"] == ["would train on 10 pictures; it would not be scored, since these pictures have no labels"]
    assert found["sizes"] == ["every shorter side has 96 px; the middle square is used"]


def test_bad_pictures_are_listed_and_a_run_would_end(pictures):
    (pictures / "train/dog/text.png").write_text("nothing")
    answer = vergence("data", pictures)
    assert answer.code == 0
    found = rows(answer)
    assert found["bad"] == ["1: train/dog/text.png (not a picture of a known format)"]
    assert found["a run"][0].startswith("would end before its first step: ")
    assert "--data.bad-images skip" in found["a run"][0]
    skipped = rows(vergence("data", pictures, "--data.bad-images", "skip"))
    assert skipped["a run"] == ["would train on 10 pictures, fit probes on 10 and score them on 5"]


def test_several_places_and_names_of_data_sets(pictures):
    both = rows(vergence("data", pictures / "train" / "cat", "pictures/train/dog"))
    assert both["pictures"] == [f"10 to train on, of {pictures}/train/cat, {pictures}/train/dog"]
    digits = rows(vergence("data", "digits"))
    assert digits["leakage"] == ["none of the 359 test pictures repeats a training picture"]
    assert "pixel by pixel only" in digits["compared"][0]


def test_the_page_shows_what_the_lines_speak_of(pictures, tmp_path):
    (pictures / "train/dog/<b>.png").write_text("nothing")
    page = tmp_path / "data.html"
    answer = vergence("data", "pictures", "--data.bad-images", "skip", "--out", page)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1] == f"page: {page}"
    html = page.read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings == [
        "What was found",
        "Sizes and classes",
        "Samples",
        "Bad pictures",
        "Test pictures that are trained on",
        "Pictures that are equal, pixel by pixel",
        "Pictures that nearly repeat each other",
        "Pictures of one colour",
        "How it was made",
    ]
    assert html.count('src="data:image/webp;base64,') == 8 + 2 + 2 + 2 + 2 + 1  # a class's samples are at most 8
    assert "train/dog/&lt;b&gt;.png" in html
    assert "<b>.png" not in html
    assert "vergence data pictures --data.bad-images skip" in html
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    again = tmp_path / "again.html"
    vergence("data", "pictures", "--data.bad-images", "skip", "--out", again)
    assert again.read_bytes() == page.read_bytes()


def test_a_page_of_pictures_without_labels_shows_some_of_them(pictures, tmp_path):
    page = tmp_path / "data.html"
    assert vergence("data", pictures, "--data.labels", "none", "--out", page).code == 0
    assert page.read_text().count('src="data:image/webp;base64,') == 10 + 2 + 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: PATH; see vergence data --help"),
        (["nowhere"], "'nowhere' is no data set and no folder"),
        (["digits", "cifar10"], "a data set stands alone"),
        (["digits", "--epochs", "3"], "--epochs: unknown option; it is none of how pictures are read"),
        (["digits", "--data", "cifar10"], "--data: unknown option"),
        (["digits", "--data.sise", "9"], "--data.sise: unknown option; did you mean '--data.size'?"),
        (["digits", "--data.labels", "none"], "--data.labels: digits has no such option"),
        (["empty"], "no pictures: found 0 folders"),
        (["pictures", "--out", "pictures/page.html"], "lies among the pictures"),
        (["digits", "--out", "empty"], "--out: empty is a folder; name a file in it"),
    ],
)
def test_bad_input_is_one_line(pictures, words, said):
    Path("empty").mkdir()
    answer = vergence("data", *words)
    assert (answer.code, answer.out, len(answer.errors)) == (2, "", 1)
    assert said in answer.errors[0]
