"""What is installed is what was locked, none of it is known to be bad, and neither import nor work needs a network."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import vergence
from repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["fast"]]
LOCKS = ("requirements.lock", "requirements-dev.lock")

KNOWN_BAD = {
    "lightning": ">=2.6.2,<=2.6.3",  # malicious at import, GHSA-w37p-236h-pfx3
    "pytorch-lightning": "<2.6.2",  # CVE-2026-31221
    "torch": "<2.10",  # CVE-2025-32434, CVE-2026-24747
    "torchtriton": ">=0",  # dependency confusion of 2022; ours is called triton
    "ultralytics": ">=8.3.41,<=8.3.46",  # poisoned builds of 2024
    "pyyaml": "<5.4",  # CVE-2020-1747, CVE-2020-14343
    "numpy": "<1.16.3",  # CVE-2019-6446
    "pillow": "<11.3",  # CVE-2022-45198 and later ones
    "jinja2": "<3.1.6",  # CVE-2025-27516
    "transformers": "<5.3.0",  # CVE-2026-4372
    "keras": "<3.12",  # CVE-2025-12060
    "mlflow": "<2.3.1",  # CVE-2023-1177
}
"""Versions that no lock may have, with the reason. Add what you hear of."""


def locked(name):
    """Each package of a lock: its version, its marker and its hashes.

    A line that is none of these fails: an address, an option, a package without a version.
    """
    packages = {}
    for part in re.split(r"\n(?=\S)", (ROOT / name).read_text().strip()):
        found = re.fullmatch(
            r"([a-z0-9.-]+)==([0-9][^ ]*)(?: ; ([^\\]+?))?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)", part
        )
        assert found, f"{name}: {part.splitlines()[0]}"
        packages[found[1]] = Version(found[2]), found[3], re.findall(r"sha256:([0-9a-f]+)", found[4])
    return packages


@pytest.mark.xdist_group("kept together")
def test_a_group_of_tests_stays_in_one_process(request):
    """A pytest too new for pytest-xdist tears groups apart, and each process makes what their tests share."""
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("not run with --dist loadgroup")
    assert request.node.nodeid.endswith("@kept together")


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_a_hash_for_each_package_and_nothing_known_to_be_bad(name):
    packages = locked(name)
    assert len(packages) > 50
    assert all(hashes for _, _, hashes in packages.values())
    assert not [(n, str(v)) for n, (v, _, _) in packages.items() if v in SpecifierSet(KNOWN_BAD.get(n, "==0a0"))]


@pytest.mark.parametrize(
    ("package", "bad"),
    [
        ("lightning", "2.6.2"),
        ("lightning", "2.6.3"),
        ("torchtriton", "2.0.0"),
        ("ultralytics", "8.3.46"),
        ("torch", "2.9.1"),
    ],
)
def test_a_bad_version_would_be_seen(package, bad):
    assert Version(bad) in SpecifierSet(KNOWN_BAD[package])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("requirements.lock", [*NEEDED, "hatchling", "editables", "setuptools"]),
        ("requirements-dev.lock", [*NEEDED, *PROJECT["optional-dependencies"]["dev"]]),
    ],
)
def test_a_lock_holds_what_is_asked_for(name, wanted):
    packages = locked(name)
    for requirement in map(Requirement, wanted):
        assert packages[canonicalize_name(requirement.name)][0] in requirement.specifier, requirement


def test_both_locks_agree():
    runtime, dev = map(locked, LOCKS)
    assert {name: dev.get(name) for name in runtime} == runtime


def test_make_installs_from_the_locks_alone():
    """Every call of pip in the Makefile checks hashes, or installs this project and nothing else."""
    makefile = (ROOT / "Makefile").read_text()
    calls = [line for line in makefile.splitlines() if "pip install" in line or "$(LOCKED)" in line]
    assert len(calls) == 4
    for line in calls:
        is_ours = "--no-deps --no-build-isolation --editable '.[fast]'" in line
        assert is_ours or "--require-hashes" in line or "$(LOCKED) requirements" in line, line
    assert "index-url" not in makefile.replace("--no-emit-index-url", "")
    assert not list(ROOT.glob("constraints*.txt"))


@pytest.mark.slow
def test_what_is_installed_is_what_is_locked():
    """Of the packages that are here at all; a local label of the build, as of torch for one device, is no version."""
    here = {}
    for name, (wanted, _, _) in locked("requirements-dev.lock").items():
        try:
            here[name] = (Version(version(name)).public, str(wanted))
        except PackageNotFoundError:
            continue
    others = {name: pair for name, pair in here.items() if pair[0] != pair[1] and name not in ("setuptools", "pip")}
    assert len(here) > 40
    if others:
        pytest.skip(f"NOT THE LOCKED VERSIONS, this says nothing about the lock: {others}")


@pytest.mark.slow
def test_a_file_with_another_hash_is_refused(tmp_path):
    """A wheel made here, offline: with its own hash pip takes it, with one digit changed it does not."""
    wheel = made_wheel(tmp_path)
    digest = subprocess.run(["sha256sum", wheel], capture_output=True, text=True, check=True).stdout.split()[0]
    for said, code in ((digest, 0), (("0" if digest[0] != "0" else "1") + digest[1:], 1)):
        (tmp_path / "lock").write_text(f"nothing==1.0 \\\n    --hash=sha256:{said}\n")
        words = [
            "install",
            "--no-index",
            "--find-links",
            tmp_path,
            "--only-binary",
            ":all:",
            "--target",
            tmp_path / said,
        ]
        command = [sys.executable, "-m", "pip", *words, "--require-hashes", "--requirement", tmp_path / "lock"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare())
        assert done.returncode == code, done.stderr
        assert (tmp_path / said / "nothing").exists() == (code == 0)
    assert "DO NOT MATCH THE HASHES" in done.stderr


def bare():
    """The environment without anybody's settings of pip."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PIP_")} | {"PIP_CONFIG_FILE": os.devnull}


def made_wheel(folder):
    import zipfile

    about, path = "nothing-1.0.dist-info", folder / "nothing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("nothing/__init__.py", "")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return path


# --- no network -------------------------------------------------------------------------------------------------------

WATCHED = """
import os, sys
seen = []
def hear(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "urllib.")):
        if event not in ("socket.gethostname",):
            seen.append((event, str(arguments[:2])))
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        if str(arguments[0]) != os.devnull:
            seen.append((event, str(arguments[0])))
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
        seen.append((event, str(arguments[:1])))
sys.addaudithook(hear)
"""


@pytest.mark.parametrize("modules", ["vergence, vergence.command.cli", "vergence.report.page", "vergence.grid"])
def test_an_import_reads_and_does_nothing_else(modules, tmp_path):
    """No socket, no process, no file written; the cache of compiled modules is off, for Python writes it, not we."""
    done = watched(f"import {modules}", tmp_path)
    assert done.stdout == "[]\n", done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_import_of_what_trains_opens_no_connection_and_writes_nothing_that_stays(tmp_path):
    """torch asks ldconfig for libraries and tries whether the temporary folder can be written; ours does nothing."""
    done = watched("import vergence.runs, vergence.papers.blog, vergence.papers.raft", tmp_path)
    seen = ast.literal_eval(done.stdout)
    assert seen, "torch does nothing any more: make this test as strict as the one above"
    for event, said in seen:
        assert "ldconfig" in said or (str(tmp_path) in said and not event.startswith("socket")), (event, said)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "act",
    [
        "import socket; socket.socket().close()",
        "import socket; socket.getaddrinfo('localhost', 1)",
        "import subprocess; subprocess.run(['true'])",
        "open('x', 'w').close()",
        "import os; os.mkdir('y')",
        "import os; os.system('true')",
    ],
)
def test_the_watch_sees_what_it_is_for(act, tmp_path):
    assert watched(act, tmp_path).stdout != "[]\n"


def watched(script, folder):
    command = [sys.executable, "-B", "-c", f"{WATCHED}\n{script}\nprint(seen)"]
    names = ("HOME", "XDG_CACHE_HOME", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    environment = os.environ | dict.fromkeys(names, str(folder))
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def cut_off():
    """The words that run a command without any network, or None where this machine has no namespaces."""
    for words in (["unshare", "-n"], ["unshare", "-Urn"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
        ):
            return words
    return None


@pytest.mark.slow
def test_a_run_from_first_to_last_needs_no_network(tmp_path):
    """Trained, evaluated and shown where there is no network at all, not even to this machine."""
    words = cut_off()
    if words is None:
        pytest.skip("NO NAMESPACES HERE: that nothing needs a network was not tested")
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    alone = subprocess.run([*words, sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "unreachable" in alone.stderr, "this machine's own address can be reached: nothing is cut off"
    small = "--encoder test_resnet --data.size 16 --views.size 16 --subset 40 --batch-size 8 --epochs 1 --threads 1"
    script = (
        "import sys; from vergence.command import cli\n"
        f"small = {small.split()!r}\n"
        "train = ['train', 'byol', *small, '--device', 'cpu', '--out', 'run']\n"
        "score = ['evaluate', 'run', '--probes', 'knn']\n"
        "for words in (train, score, ['views', '--out', 'x.png'], ['report', 'run']):\n"
        "    assert cli.main(words) == 0, words\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "VERGENCE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [*words, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "report.html").exists()


def test_the_version_stands_in_one_place():
    """`vergence.__version__`; the citation repeats it."""
    assert PROJECT["dynamic"] == ["version"]
    assert version("vergence") == vergence.__version__
    assert f"\nversion: {vergence.__version__}\n" in (ROOT / "CITATION.cff").read_text()
