"""WebDataset shards: tar files in which consecutive members with one name are a sample (`000.jpg`, `000.txt`)."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from random import Random

from flamingo_eval.errors import DataError
from flamingo_eval.files import JsonError, parse_json
from flamingo_eval.records import END_OF_CHUNK
from flamingo_eval.training.streams.samples import BrokenSample, Look, Part, Raw, Sample, Text, caption_text

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
CLIPS = (".mp4", ".webm", ".mkv", ".mov", ".avi")
BLOCK = 512  # bytes of a tar record


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside a shard; `content` if the shard is compressed and has no random access."""

    name: str
    offset: int
    size: int
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class TarPairs:
    """Pairs of a picture or clip and its caption: `.txt`, or the key `caption` of a `.json`."""

    paths: tuple[Path, ...]
    caption: str = "caption"
    stem: str = ""  # text between picture and caption

    def __post_init__(self) -> None:
        """A truncated shard is reported before training begins. Raises DataError."""
        for path in self.paths:
            if path.suffix == ".tar" and not _has_end(path):
                for _ in _members(path):  # says where it ends
                    pass

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(path.name for path in self.paths)

    def read(self, shard: int, start: int) -> Iterator[Raw]:
        path = self.paths[shard]
        for number, (key, members) in enumerate(_samples(path)):
            if number >= start:
                yield Raw(f"{path.name}: {key}", _Pair(path, tuple(members), self.caption, self.stem).load)


@dataclass(frozen=True, slots=True)
class _Pair:
    path: Path
    members: tuple[Member, ...]
    caption: str
    stem: str

    def load(self, look: Look, rng: Random) -> Sample:
        """Picture, caption, end of chunk. Raises BrokenSample, MediaError."""
        del rng
        by_suffix = {PurePosixPath(member.name).suffix.lower(): member for member in self.members}
        media = next((by_suffix[s] for s in (*PICTURES, *CLIPS) if s in by_suffix), None)
        if media is None:
            raise BrokenSample(f"no picture ({', '.join(sorted(by_suffix))} alone)")
        text = self._caption(by_suffix)
        suffix, name = PurePosixPath(media.name).suffix.lower(), f"{self.path.name}: {media.name}"
        content = self._content(media)
        picture: Part = look.clip_bytes(content, name) if suffix in CLIPS else look.picture(content, name)
        return Sample(pair_parts(picture, text, self.stem))

    def _caption(self, by_suffix: dict[str, Member]) -> str:
        if ".txt" in by_suffix:
            return caption_text(self._content(by_suffix[".txt"]))
        if ".json" not in by_suffix:
            raise BrokenSample("no caption (.txt or .json)")
        try:
            value = parse_json(caption_text(self._content(by_suffix[".json"])))
        except JsonError as error:
            raise BrokenSample(f"its .json is {error.what}") from error
        caption = value.get(self.caption) if isinstance(value, dict) else None
        if not isinstance(caption, str) or not caption.strip():
            raise BrokenSample(f"its .json has no text under '{self.caption}'")
        return caption.strip()

    def _content(self, member: Member) -> bytes:
        if member.content is not None:
            return member.content
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), member.size, member.offset)


def pair_parts(picture: Part, text: str, stem: str) -> tuple[Part, ...]:
    """One picture with its text, as the paper writes paired data: picture first, end of chunk last (v2 2.4)."""
    parts: tuple[Part, ...] = (Text(stem, learned=False), Text(f" {text}")) if stem else (Text(text),)
    return (picture, *parts, END_OF_CHUNK)


def _samples(path: Path) -> Iterator[tuple[str, Sequence[Member]]]:
    """Members by key: the name up to the first dot of its last part. Only consecutive members belong together."""
    key, group = "", list[Member]()
    for member in _members(path):
        place = PurePosixPath(member.name)
        own = str(place.with_name(place.name.partition(".")[0]))
        if group and own != key:
            yield key, group
            group = []
        key = own
        group.append(member)
    if group:
        yield key, group


def _members(path: Path) -> Iterator[Member]:
    """The files of a shard in order. Raises DataError for a shard that is damaged or truncated."""
    compressed = path.suffix != ".tar"
    last = ""
    try:
        with tarfile.open(path, "r:*" if compressed else "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would remember every member
                name = PurePosixPath(info.name).name
                if not info.isfile() or name.startswith("."):
                    continue
                last = info.name
                content = None
                if compressed:
                    file = tar.extractfile(info)
                    content = file.read() if file is not None else b""
                yield Member(info.name, info.offset_data, info.size, content)
            if not compressed:
                _check_end(path, tar.offset)
    except (tarfile.TarError, EOFError, OSError) as error:
        after = f", after member '{last}'" if last else ""
        if isinstance(error, EOFError) or any(words in str(error) for words in ("unexpected end", "truncated")):
            raise DataError(
                f"{path}: truncated: the tar file ends in the middle{after} ({path.stat().st_size:,} bytes).",
                fix="Download or write the shard again.",
            ) from error
        raise DataError(f"{path}: not a readable tar file{after}: {error}.", fix="Download the shard again.") from error


def _check_end(path: Path, offset: int) -> None:
    """Raise ReadError unless an empty record follows the last member: tarfile stops silently at other records."""
    with path.open("rb") as file:
        file.seek(offset)
        record = file.read(BLOCK)
    if len(record) < BLOCK:
        raise tarfile.ReadError("unexpected end of data")
    if any(record):
        raise tarfile.ReadError(f"no member begins at byte {offset:,}")


def _has_end(path: Path) -> bool:
    """Whether a plain tar file ends with the two empty records that mark its end."""
    size = path.stat().st_size
    if size < 2 * BLOCK or size % BLOCK:
        return False
    with path.open("rb") as file:
        file.seek(-2 * BLOCK, os.SEEK_END)
        return not any(file.read())
