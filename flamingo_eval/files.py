"""What goes wrong with files in silence.

Repeated keys in JSON: Python keeps the last one; which of two was meant, nobody knows. Placeholders: a repository
cloned without Git LFS, or a download that ended at a login page, leaves a short text under the name of a large file.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flamingo_eval.errors import UsageError

_LFS = b"version https://git-lfs.github.com/spec/"


def agreed(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads(object_pairs_hook=...): the object, if a key that stands twice has the same value both times."""
    found = dict(pairs)
    if len(found) != len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise RepeatedKeyError(f"key '{key}' stands twice in one object, with different values")
    return found


class RepeatedKeyError(ValueError):
    """An object with two values for one key."""


def printable(name: str | Path) -> str:
    """A file name as text for a record: bytes that are no UTF-8 are written as escapes, for no file takes them."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def placeholder(path: Path) -> str:
    """What stands in the file's place, and how to get the file itself; the empty string for any other file."""
    try:
        with path.open("rb") as file:
            begin = file.read(128)
    except OSError:
        return ""
    if begin.startswith(_LFS):
        return "a Git LFS pointer, not the file itself. Fetch it with `git lfs pull`, or download it from the Hub."
    if begin.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file itself. Download it again: was a login or a licence asked for?"
    return ""


def write_error(out: Path, error: OSError) -> UsageError:
    """Why nothing can be written there, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UsageError(f"{out}: the disk is full.", fix="Free some space, or choose another --out.")
    return UsageError(f"{out}: cannot be written: {error.strerror}.", fix="Choose another --out.")
