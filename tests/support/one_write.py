"""Add one checkpoint to a folder of checkpoints, when told to: what strace is attached to.

    python one_write.py CHECKPOINTS STEP SOURCE

SOURCE is a checkpoint whose files are written anew. Imports no torch, so that it starts at once. Exit code 4 and a line
where the disk refuses, as the command itself has it.
"""

import ctypes
import os
import sys
from pathlib import Path

from vergence.errors import MachineError
from vergence.files import durable, series


def main() -> int:
    checkpoints, step, source = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    files = durable.read_folder(source)
    ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(2**64 - 1))  # PR_SET_PTRACER: strace is no parent of this
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        series.add(checkpoints, step, files)
    except MachineError as error:
        os.writev(2, [f"error: {error}\n".encode()])  # no `write`, which may be what fails
        return error.exit_code
    return 0


if __name__ == "__main__":
    os._exit(main())
