"""Where a command writes, and what it says when the process around it fails: nothing that is not its own is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from checker import tree
from commands import train, vergence
from small_runs import SHORT as RUN
from vergence.command import handlers, process
from vergence.command.arguments import add_options, read_options
from vergence.command.commands import Train
from vergence.command.parser import parser
from vergence.config import Folder
from vergence.data import load as load_images
from vergence.data import picture
from vergence.data.content import file_of
from vergence.data.scan import Found
from vergence.engine.evaluate import evaluate
from vergence.engine.probing import Probing
from vergence.errors import InputError, MachineError
from vergence.files import durable
from vergence.files.run_folder import check_output_outside_data
from vergence.runs import load, run_training


@pytest.fixture
def pictures(tmp_path):
    """Two classes of three pictures."""
    root = tmp_path / "pictures"
    for i, name in enumerate(("x", "y")):
        (root / name).mkdir(parents=True)
        for k in range(3):
            Image.linear_gradient("L").rotate(90 * i + 20 * k).resize((16, 16)).save(root / name / f"{k}.png")
    return root


def in_a_process(*words, before="", **options):
    """The command in a process of its own; `before` are lines that it runs first."""
    script = f"import sys\n{before}\nfrom vergence.command.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, *map(str, words)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(command, text=True, check=False, **(streams | options))


# --- a run's folder ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "summary.json", "evaluation.json"])
def test_a_folder_of_something_else_is_left_as_it_is(tmp_path, name):
    other = tmp_path / "project"
    (other / "deep" / ".writing-novel").mkdir(parents=True)
    (other / "deep" / ".writing-novel" / "chapter 1").write_text("It was")
    (other / name).write_text('{"scripts": 1}\n')
    before = tree(tmp_path)
    answer = train(other, epochs=0)
    assert answer.code == 2
    (line,) = answer.errors
    assert line.startswith(f"{other}: has a {name}")
    assert line.endswith("; choose another --out")
    assert tree(tmp_path) == before


def test_what_looks_like_a_write_of_ours_and_is_none_stays(folder):
    (folder / "summary.json").unlink()
    theirs, ours = folder / ".writing-novel", folder / "checkpoints" / ".writing-77-step-000000009"
    theirs.mkdir()
    ours.mkdir()
    (ours / "part").touch()
    durable.sweep(folder)
    assert theirs.exists()
    assert not ours.exists()


@pytest.mark.parametrize("out", ["", "x", "x/run", "runs/run"])
def test_no_run_begins_among_its_pictures(pictures, out):
    before = tree(pictures)
    answer = train(pictures / out, "--data", pictures, subset="none")
    assert answer.code == 2
    (line,) = answer.errors
    assert line == f"{pictures / out}: lies among the pictures, in {pictures}; choose an --out elsewhere"
    assert tree(pictures) == before


def test_pictures_named_from_the_data_folder_are_found_there(pictures, tmp_path):
    """A relative root starts from `data_dir`: the same words elsewhere are no pictures."""
    data = Folder(root=pictures.name, size=16)
    with pytest.raises(InputError, match="lies among the pictures"):
        check_output_outside_data(data, pictures / "run", tmp_path)
    check_output_outside_data(data, Path(pictures.name) / "run", tmp_path)
    with pytest.raises(InputError, match="lies among the pictures"):
        check_output_outside_data(data, Path(pictures.name) / "run", None)


def test_standing_among_the_pictures_one_is_told_before_anything_is_made(pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    before = tree(pictures)
    for words in (["train", "byol", "--data", "."], ["views", "--data", "."], ["reproduce", "blog", "--data", "."]):
        answer = vergence(*words)
        assert (answer.code, answer.out) == (2, "")
        assert "lies among the pictures" in answer.errors[0]
    assert tree(pictures) == before


def test_a_run_whose_log_is_lost_does_not_go_on_without(folder):
    for name in ("metrics.jsonl", "summary.json"):
        (folder / name).unlink()
    before = tree(folder / "checkpoints")
    with pytest.raises(InputError, match=r"has no line of the 2 steps that are done; put the log back, or train again"):
        run_training(RUN, folder, resume=True)
    assert tree(folder / "checkpoints") == before
    assert not (folder / "summary.json").exists()


def test_first_weights_need_neither_a_log_nor_a_batch_of_pictures(tmp_path):
    assert train(tmp_path / "run", epochs=0, subset=12, batch_size=16).code == 0


def test_a_run_that_says_nothing_of_its_environment_goes_on(folder):
    (folder / "summary.json").unlink()
    there = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(there | {"environment": None}))
    assert run_training(RUN, folder, resume=True)["key"] == RUN.key


# --- a file that is asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["views", "--count", 1, "--data.size", 16, "--views.size", 16], ["report"]])
def test_only_a_plain_file_is_replaced(command, folder, tmp_path):
    command = [*command, folder, "--no-views"] if command == ["report"] else command
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    said = {
        tmp_path: f"{tmp_path} is a folder; name a file in it",
        Path("/"): "/ is a folder; name a file in it",
        Path("."): ". is a folder; name a file in it",
        Path("/dev/null"): "/dev/null is no plain file; choose another name",
        tmp_path / "pipe.png": f"{tmp_path / 'pipe.png'} is no plain file; choose another name",
        folder / "summary.json": f"{folder / 'summary.json'} belongs to the run in {folder}; choose another name",
    }
    before = tree(tmp_path)
    for out, line in said.items():
        answer = vergence(*command, "--out", out)
        assert (answer.code, answer.errors) == (2, [f"--out: {line}"])
    assert vergence(*command, "--out", tmp_path / "loop.png").code == 2
    assert tree(tmp_path) == before
    assert Path("/dev/null").is_char_device()


def test_a_link_is_followed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "page.html").symlink_to("elsewhere/real.html")
    assert vergence("report", folder, "--no-views", "--out", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "elsewhere" / "real.html").read_text().startswith("<!doctype html>")


def test_a_record_of_rates_replaces_no_run(folder):
    answer = vergence("bench", "--what", "import", "--out", folder / "run.json")
    assert (answer.code, answer.out) == (2, "")
    assert "belongs to the run" in answer.errors[0]


def test_an_empty_page_takes_no_others_place(folder, tmp_path):
    page = tmp_path / "page.html"
    assert vergence("report", tmp_path / "none", "--out", page).code == 2
    assert "No run could be read." in page.read_text()
    assert vergence("report", folder, "--no-views", "--out", page).code == 0
    before = page.read_text()
    assert vergence("report", tmp_path / "none", "--out", page).code == 2
    assert page.read_text() == before


def test_views_are_a_png(tmp_path):
    answer = vergence("views", "--out", tmp_path / "views.jpg")
    assert answer.errors == [f"--out: views are drawn as a PNG file; call it {tmp_path / 'views.png'}"]
    assert vergence("views", "--count", 1001).errors == ["--count: must lie between 1 and 1000, not 1001"]


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["train", "byol", "--out", ""], "--out"),
        (["train", "byol", "--out="], "--out"),
        (["train", ""], "train"),
        (["views", "--data", ""], "--data"),
        (["evaluate", "run", "--probes", ""], "--probes"),
        ([""], "vergence"),
    ],
)
def test_an_empty_word_is_a_variable_that_is_not_set(words, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert vergence(*words).errors == [f"{name}: what should stand there is empty; is a variable not set?"]
    assert list(tmp_path.iterdir()) == []


def test_the_home_folder_is_meant_wherever_a_path_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    top, commands = parser()
    add_options(commands["train"], Train)
    known = read_options(Train, top.parse_args(["train", "byol", "--out=~/x", "--data-dir", "~"]))
    assert (known.out, known.data_dir) == (tmp_path / "x", tmp_path)
    (line,) = vergence("report", "~nosuchuser/x").errors
    assert "'~nosuchuser/x'" in line
    assert "Write the whole path" in line


def test_a_path_with_newlines_and_escape_codes_is_one_line(tmp_path):
    for word in ("no\nrun", "\x1b[31mred", "a/b\nerror: c"):
        (line,) = vergence("evaluate", word).errors
        assert line.isprintable()
        assert "\\n" in line or "\\x1b" in line


@pytest.mark.parametrize("threads", ["0", "1025", "3000000000"])
def test_no_more_threads_than_a_machine_may_have(threads):
    for words in (["train", "byol"], ["evaluate", "run"], ["reproduce", "theorem"]):
        assert vergence(*words, "--threads", threads).errors == [
            f"--threads: must lie between 1 and 1024, not {threads}"
        ]
    (line,) = vergence("train", "byol", "--threads", 10**20).errors
    assert line == f"--threads: expected a whole number below 2**53, not {10**20}"


def test_numbers_that_no_machine_holds_are_refused(tmp_path):
    (line,) = train(tmp_path / "a", projector__hidden=10**20).errors
    assert line.endswith(f"projector.hidden: expected a whole number below 2**53, not {10**20}")
    answer = train(tmp_path / "b", projector__hidden=2**52)
    assert answer.code == 4
    assert "out of memory" in answer.errors[0]


@pytest.mark.parametrize("rows", [";", " ; ;"])
def test_no_row_is_not_every_row(rows):
    (line,) = vergence("reproduce", "blog", "--rows", rows).errors
    assert "names no row" in line


def test_a_folder_is_given_by_its_path(tmp_path):
    (line,) = train(tmp_path / "a", data__root=tmp_path).errors
    assert line == "--data.root: digits has no such option; folder has; a folder is given by --data ./pictures"
    (line,) = vergence("train", "byol", "--data", "folder").errors
    assert line == "--data: a folder of pictures is given by its path, such as --data ./pictures"


def test_an_address_is_no_folder():
    (line,) = vergence("train", "byol", "--data", "https://example.com/pictures.zip").errors
    said = "nothing is fetched from there; give a folder with the pictures in it"
    assert line == f"--data: 'https://example.com/pictures.zip': {said}"


def test_another_file_of_a_run_is_no_configuration(folder):
    (line,) = vergence("train", "--config", folder / "summary.json").errors
    assert line == f"--config: {folder / 'summary.json'} says how a run went; give the run.json beside it"


def test_a_file_of_a_run_is_answered_by_its_folder(folder):
    (line,) = vergence("evaluate", folder / "run.json").errors
    assert line == f"{folder / 'run.json'}: no run there, but a file; give the folder of the run, such as {folder}"


def test_python_code_is_told_too(folder):
    run, method, _ = load(folder)
    images = load_images(run.data, "test")

    def scores(**given):
        return evaluate(method.encoder, images, images, run.views, probing=Probing(**given))

    with pytest.raises(InputError, match=r"Probing: probes\[0\]: unknown choice 'svm' \(str\); known: knn, linear, "):
        scores(probes=("svm",))
    for given, problem in (
        ({"k": 0}, "k: must be at least 1, not 0"),
        ({"temperature": 0.0}, "temperature: must be above 0, not 0"),
        ({"temperature": float("nan")}, "temperature: expected a finite number, not nan"),
    ):
        with pytest.raises(InputError, match=f"Probing: {problem}"):
            scores(**given)


# --- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), OSError(5, "Input/output error"), MemoryError()])
def test_what_the_machine_lacks_is_no_fault_of_a_picture(pictures, monkeypatch, error):
    path = pictures / "x" / "0.png"
    status = path.stat()

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(picture, "open_image", fails)
    content = file_of(pictures, Found("x/0.png", status.st_size, status.st_mtime_ns))
    with pytest.raises(MachineError, match=r"cannot read .*0\.png: .*; try again"):
        picture.decode(content, "x/0.png", 16)


@pytest.mark.slow
def test_pictures_that_could_not_be_opened_are_not_left_out(pictures, tmp_path):
    """A limit on open files that the pictures' readers pass: nothing of it stays in the cache."""
    words = ["views", "--data", pictures, "--count", 1, "--data.size", 16, "--views.size", 16]
    words += ["--data.bad-images", "skip", "--out", tmp_path / "a.png"]
    environment = os.environ | {"VERGENCE_CACHE": str(tmp_path / "cache")}
    fails = "from vergence.data import picture\ndef fails(*a): raise OSError(24, 'Too many open files')\n"
    few = in_a_process(*words, before=fails + "picture.open_image = fails", env=environment)
    assert few.returncode == 4
    assert few.stderr.startswith("error: cannot read ")
    done = in_a_process(*words, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("number", "code"), [(28, 4), (5, 4), (24, 4), (2, 1)])
def test_a_call_that_fails_for_want_of_something_is_no_bug(number, code, monkeypatch, tmp_path):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(handlers, "_demo", fails)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    answer = vergence("demo")
    assert answer.code == code
    assert answer.errors[0].startswith("a bug in vergence" if code == 1 else f"[Errno {number}]")


def test_a_bug_is_said_where_no_trace_can_be_kept(monkeypatch):
    def fails(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(handlers, "_demo", lambda *_: 1 // 0)
    monkeypatch.setattr(process.tempfile, "NamedTemporaryFile", fails)
    answer = vergence("demo")
    assert answer.code == 1
    assert answer.errors == [
        "a bug in vergence: ZeroDivisionError: integer division or modulo by zero "
        "(no trace: there is no folder for it; set TMPDIR)"
    ]


@pytest.mark.parametrize("words", [["demo"], ["--help"], ["train", "--help"]])
def test_full_output_is_a_fault_of_the_machine(words):
    with open("/dev/full", "w") as full:
        show = "from vergence.command import handlers\nhandlers._demo = lambda *_: print('shown') or 0"
        done = in_a_process(*words, before=show, stdout=full)
    assert done.returncode == 4
    assert done.stderr == "error: [Errno 28] No space left on device: check the disk and the limits of this process\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8:strict"])
def test_a_terminal_that_lacks_a_character_gets_its_escape(encoding):
    show = "from vergence.command import handlers\nhandlers._demo = lambda *_: print('— \\udcff ü') or 0"
    done = in_a_process("demo", before=show, env=os.environ | {"PYTHONIOENCODING": encoding}, encoding="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\udcff" in done.stdout


def test_a_folder_that_is_gone_is_named(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = in_a_process("demo", before=f"import os, shutil\nos.chdir({str(gone)!r})\nshutil.rmtree({str(gone)!r})")
    assert done.returncode == 4
    assert done.stderr == "error: the current folder is not there any more; change to another one\n"


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_while_a_module_is_imported_leaves_at_once(number, code, said, tmp_path):
    """A library that is cut off there may raise anything, and swallow it."""
    (tmp_path / "slow_module.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    time.sleep(10)\n"
        "except BaseException:\n"
        "    raise RecursionError\n"
    )
    before = f"sys.path.insert(0, {str(tmp_path)!r})\nfrom vergence.command import handlers\n"
    before += "def demo(*_):\n    import slow_module\n    return 0\nhandlers._demo = demo"
    began = time.monotonic()
    done = in_a_process("demo", before=before)
    assert done.returncode == 128 + number
    assert done.stderr.startswith(f"error: {said}")
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - began < 9


def test_signals_are_handed_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    vergence("--help")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(("name", "advice"), [("file", "set VERGENCE_CACHE"), ("~", "")])
def test_a_cache_that_cannot_be_is_named(name, advice, pictures, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VERGENCE_CACHE", str(tmp_path / "file") if advice else "~/cache")
    answer = vergence("views", "--data", pictures, "--count", 1, "--out", tmp_path / "a.png")
    if advice:
        assert answer.code == 4
        assert answer.errors[0].startswith(f"cannot write the cache {tmp_path / 'file'}")
        assert advice in answer.errors[0]
        assert "free" not in answer.errors[0]
    else:
        assert answer.code == 0
        assert (tmp_path / "home" / "cache").is_dir()
