import os
import shutil
import signal
import tempfile
from pathlib import Path

# Several processes share the cores: a thread of torch's that waits for another by turning takes seven times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch

from fork_server import Server
from ranks import Ranks
from repository import ROOT


def pytest_configure():
    """Where the tests are started in the background, or by nohup, what they start would ignore signals as they do."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="session", autouse=True)
def _one_thread_from_the_start():
    """What a module's tests share is made before the next takes effect."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread():
    """Tests run several at a time; threads inside each would only fight over the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def vergence():
    """The command, in a process of its own that is forked for each call and may be killed."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def ranks():
    """The same for several processes that train one run."""
    server = Ranks()
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A finished run of two steps."""
    from small_runs import SHORT
    from vergence.engine.periods import Periods
    from vergence.runs import run_training

    folder = tmp_path_factory.mktemp("whole") / "run"
    run_training(SHORT, folder, periods=Periods(log_every=1))
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real pictures: $VERGENCE_TEST_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("VERGENCE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"NO REAL PICTURES in {folder}: this test did not run")
    return folder


@pytest.fixture
def quick(tmp_path):
    """A folder in memory where there is one: thousands of small files need not wait for a disk."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)
