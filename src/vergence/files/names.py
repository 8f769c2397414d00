"""File names as they may be given, and printed: they may hold newlines, escape codes or bytes that are no text."""

import difflib
from pathlib import Path


def shown(name: str | Path) -> str:
    """Return a name with every character that is not printable, and the backslash, written as an escape.

    Different names stay different. Right-to-left marks and lone surrogates count as not printable.
    """
    return "".join(c if c.isprintable() and c != "\\" else _escape(c) for c in str(name))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def path_or_none(path: str | Path | None) -> Path | None:
    """Return a path that may be given as text, or not at all."""
    return None if path is None else Path(path)


def listed(names: list[str], most: int = 3) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def suggestion(missing: Path) -> str:
    """Return the end of an error line about a folder that is not there: the sibling closest in name, or nothing."""
    try:
        siblings = [entry.name for entry in missing.parent.iterdir() if entry.is_dir()]
    except OSError:
        return f": {shown(missing.parent)} is not there either" if not missing.parent.exists() else ""
    close = difflib.get_close_matches(missing.name, siblings, n=1, cutoff=0.5)
    return f"; did you mean '{shown(missing.with_name(close[0]))}'?" if close else ""
