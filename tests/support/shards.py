"""Small data sets in the form of downloads: WebDataset tar shards, documents, and broken ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image as PillowImage


def picture_bytes(colour: tuple[int, int, int] = (200, 30, 40), size: int = 8, kind: str = "PNG") -> bytes:
    """A picture of one colour."""
    content = io.BytesIO()
    PillowImage.new("RGB", (size, size), colour).save(content, kind)
    return content.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    """A tar file of these members, in their order."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def pairs(n: int, first: int = 0) -> dict[str, bytes]:
    """Members of `n` pairs: picture and caption `caption 000003`."""
    members: dict[str, bytes] = {}
    for i in range(first, first + n):
        members[f"{i:06d}.png"] = picture_bytes((i % 256, i // 256 % 256, 0))
        members[f"{i:06d}.txt"] = f"caption {i:06d}".encode()
    return members
