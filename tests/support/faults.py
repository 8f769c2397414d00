"""What is done to a process of ours before it works: each function changes the process that calls it.

`fork_server.py` calls them by name in the child it forks. One that returns a function has it called when the command
has ended.
"""

import ctypes
import dataclasses
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def signal_at(target: str, call: int, *numbers: int) -> None:
    """Get signals at the beginning of the `call`-th call of a function, given as 'module.name'."""
    module, _, name = target.rpartition(".")
    real, passed = getattr(sys.modules[module], name), [0]

    def struck(*arguments, **keywords):
        passed[0] += 1
        if passed[0] == call:
            for number in numbers:
                os.kill(os.getpid(), number)
        return real(*arguments, **keywords)

    setattr(sys.modules[module], name, struck)


def asleep_at(target: str, call: int, seconds: float) -> None:
    """Be slow once: sleep at the beginning of the `call`-th call of a function, given as 'module.name'."""
    module, _, name = target.rpartition(".")
    real, passed = getattr(sys.modules[module], name), [0]

    def slow(*arguments, **keywords):
        passed[0] += 1
        if passed[0] == call:
            time.sleep(seconds)
        return real(*arguments, **keywords)

    setattr(sys.modules[module], name, slow)


def other_pictures() -> None:
    """One byte of the pictures that are loaded is another."""
    module = sys.modules["vergence.runs.execute"]
    real = module.load_images

    def loaded(*arguments, **keywords):
        images = real(*arguments, **keywords)
        pixels = images.pixels.clone()
        pixels[:, 0, 0, 0] ^= 1
        return dataclasses.replace(images, pixels=pixels)

    module.load_images = loaded


def other_weights() -> None:
    """One weight of the method that is built is another."""
    module = sys.modules["vergence.methods"]
    real = module.build

    def built(run):
        method = real(run)
        next(method.parameters()).data.view(-1)[0] += 1
        return method

    module.build = built


def as_user(number: int) -> None:
    """Be someone without rights: root reads and writes whatever it likes."""
    os.setgroups([])
    os.setgid(number)
    os.setuid(number)


def limited_files(size: int) -> None:
    """No file may grow beyond `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def small_disk(path: str, size: int, copied_to: str) -> Callable[[], object]:
    """A disk of `size` bytes at `path`, which only this process sees; copied at the end to where all can."""
    _own_mounts()
    _mount("tmpfs", path, "tmpfs", 0, f"size={size}")
    return lambda: shutil.copytree(path, copied_to)


def read_only_disk(path: str) -> None:
    """`path` is on a disk that can only be read."""
    _own_mounts()
    _mount(path, path, "", MS_BIND)
    _mount("", path, "", MS_REMOUNT | MS_BIND | MS_RDONLY)


def jumping_clock() -> None:
    """The wall clock is a day ahead, then a day behind, and so on."""
    real, calls = time.time, [0]

    def jumping():
        calls[0] += 1
        return real() + (86400 if calls[0] % 2 else -86400)

    time.time = jumping


def silent(number: int) -> None:
    """A stream is closed, as by `>&-`."""
    os.close(number)
    setattr(sys, ("stdin", "stdout", "stderr")[number], None)


def reader_gone() -> None:
    """Nobody reads what is printed."""
    reads, writes = os.pipe()
    os.close(reads)
    os.dup2(writes, 1)


def _own_mounts() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("", "/", "", MS_REC | MS_PRIVATE)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = [word.encode() for word in (source, target, kind)]
    if ctypes.CDLL(None, use_errno=True).mount(*words, ctypes.c_ulong(flags), options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {Path(target).name}")
