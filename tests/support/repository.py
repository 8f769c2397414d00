"""Where things lie in the repository, whichever file asks."""

from pathlib import Path

import vergence

SUPPORT = Path(__file__).resolve().parent
GOLDEN = SUPPORT.parent / "golden"
ROOT = SUPPORT.parent.parent

PACKAGE = Path(vergence.__file__).parent
SOURCE = PACKAGE.parent
"""What is on the path of a process that imports this very package, wherever it was found."""

MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""The files of the package by the names of their modules."""
