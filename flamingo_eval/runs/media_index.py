"""media.jsonl of a run folder: size and time of every picture and clip in its prompts, to detect changes.

One `os.stat` per file; no file is opened. A line is [path below the data root, bytes, modification time in ns]; a file
that several rows share (Parquet, a long clip) has one line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from flamingo_eval.data.roots import DataRoot, as_data_root
from flamingo_eval.files import JsonError, json_lines, printable
from flamingo_eval.records import Example, Image, Video
from flamingo_eval.runs.folder import MEDIA_INDEX

Stamp = tuple[int, int]  # bytes, modification time in ns


class Seen(Protocol):
    """Records the media of an answered query and its shots."""

    def __call__(self, examples: Iterable[Example]) -> None: ...


def read_index(folder: Path) -> dict[str, Stamp]:
    """Size and time by path below the data root; empty for a run without an index. Damaged lines are skipped."""
    path = folder / MEDIA_INDEX
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return {}
    index: dict[str, Stamp] = {}
    for _, value in json_lines(text):
        if isinstance(value, JsonError) or not isinstance(value, list) or len(value) != 3:
            continue
        name, size, time = value
        if isinstance(name, str) and type(size) is int and type(time) is int:
            index[name] = size, time
    return index


def changed_media(folder: Path, root: Path | DataRoot) -> list[str]:
    """The existing files of a run's index whose size or time has changed since they were shown."""
    folders = _folders(root)
    changed = []
    for name, stamp in read_index(folder).items():
        stamps = [s for f in folders if not os.path.isabs(name) and (s := _stamp(f / name)) is not None]
        if stamps and stamp not in stamps:
            changed.append(name)
    return changed


@contextmanager
def indexing(folder: Path, root: Path | DataRoot) -> Iterator[Seen]:
    """Adds the media of examples to a run's index during a run; files already in it are skipped."""
    names, folders = set(read_index(folder)), _folders(root)
    paths: set[Path] = set()
    with (folder / MEDIA_INDEX).open("a", encoding="utf-8") as file:

        def seen(examples: Iterable[Example]) -> None:
            for example in examples:
                for media in example.media:
                    if isinstance(media, (Image, Video)) and media.path not in paths:
                        paths.add(media.path)
                        note(media.path)

        def note(path: Path) -> None:
            name = next((path.relative_to(f).as_posix() for f in folders if path.is_relative_to(f)), "")
            if not name or name in names:
                return  # outside the data root: files of the package itself, such as a blank picture
            names.add(name)
            stamp = _stamp(path)
            if stamp is not None:
                file.write(json.dumps([printable(name), *stamp], ensure_ascii=False) + "\n")

        yield seen


def _folders(root: Path | DataRoot) -> tuple[Path, ...]:
    """The folders to search for pictures: separate picture folders first, then the data root."""
    data = as_data_root(root)
    return (*data.images, data.folder)


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns
