"""Prompts as messages of the chat-completions protocol; separates an answer from the thinking before it."""

from __future__ import annotations

import base64
import io
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, TypeAlias

from flamingo_eval.data.images import open_image
from flamingo_eval.data.media_files import unreadable
from flamingo_eval.data.parquet import cell_bytes
from flamingo_eval.data.videos import frames_of
from flamingo_eval.errors import PromptError
from flamingo_eval.records import Image, Part, Pixels, Prompt, Video

KINDS = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif"))
THOUGHT = re.compile(r"\A\s*<(think|thinking)>(.*?)(</\1>\s*|\Z)", re.DOTALL)
END_OF_THOUGHT = re.compile(r"\A(.*?)</think(?:ing)?>\s*", re.DOTALL)  # the template wrote the start mark


def messages_of(prompt: Prompt, max_side: int = 0, frames: int = 8) -> list[dict[str, Any]]:
    """Turns as messages, pictures as data addresses. Raises PromptError for a prompt without turns, MediaError."""
    if not prompt.turns:
        raise PromptError(
            f"{prompt.id or 'prompt'}: expected a prompt in turns, got interleaved text.",
            fix="Use a protocol of chat style: --protocol chat.",
        )
    return [
        {"role": t.role, "content": t.parts[0]}
        if len(t.parts) == 1 and isinstance(t.parts[0], str)
        else {"role": t.role, "content": [c for part in t.parts for c in _content(part, max_side, frames)]}
        for t in prompt.turns
    ]


def _content(part: Part, max_side: int, frames: int) -> Sequence[dict[str, Any]]:
    if isinstance(part, str):
        return ({"type": "text", "text": part},)
    if isinstance(part, Image):
        return (_picture(data_address(part, max_side)),)
    if isinstance(part, Video):
        return tuple(_picture(_encoded(frame, max_side)) for frame in frames_of(part, frames))
    what = "preprocessed pixels" if isinstance(part, Pixels) else repr(part)
    raise PromptError(f"expected pictures, clips and text, got {what}.")


def _picture(address: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address}}


_Key: TypeAlias = tuple[Image, int, int, int]  # picture, max_side, the file's time and size


class _Addresses:
    """The newest data addresses, up to a number of characters: demonstrations are shown again and again."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self._known: OrderedDict[_Key, str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> str | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def keep(self, key: _Key, address: str) -> None:
        with self._lock:
            if key in self._known or len(address) > self.most:
                return
            self._known[key] = address
            self.size += len(address)
            while self.size > self.most:
                self.size -= len(self._known.popitem(last=False)[1])


_ADDRESSES = _Addresses(2**27)


def data_address(image: Image, max_side: int = 0) -> str:
    """A picture as a data address: its file's own bytes, or a PNG if it is shrunk or servers cannot read its format.

    A picture with an EXIF orientation is sent upright, as in all other backends. Raises MediaError.
    """
    try:
        file = image.path.stat()
    except OSError as error:
        raise unreadable(image.path, error.strerror or str(error)) from error
    key = (image, max_side, file.st_mtime_ns, file.st_size)
    address = _ADDRESSES.get(key)
    if address is None:
        address = _data_address(image, max_side)
        _ADDRESSES.keep(key, address)
    return address


def _data_address(image: Image, max_side: int) -> str:
    picture = open_image(image)  # a broken or oversized file is an error here, not the server's
    raw = _bytes(image)
    kind = next((name for start, name in KINDS if raw.startswith(start)), "webp" if raw[8:12] == b"WEBP" else "")
    if not kind or kind == "gif" or max(picture.size) > max_side > 0 or _turned(raw):
        return _encoded(picture, max_side)
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode('ascii')}"


def _turned(raw: bytes) -> bool:
    from PIL import Image as PillowImage

    try:
        with PillowImage.open(io.BytesIO(raw)) as opened:
            return bool(opened.getexif().get(0x112, 1) not in (0, 1))
    except Exception:  # metadata that Pillow cannot read: send the decoded pixels
        return True


def _bytes(image: Image) -> bytes:
    try:
        return cell_bytes(image.path, image.column, image.row) if image.column else image.path.read_bytes()
    except OSError as error:
        raise unreadable(image.path, error.strerror or str(error)) from error


def _encoded(picture: Any, max_side: int) -> str:
    from PIL import Image as PillowImage

    if max(picture.size) > max_side > 0:
        scale = max_side / max(picture.size)
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize(size, PillowImage.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def without_thought(text: str, thinks: bool) -> tuple[str, str]:
    """The rule `after-thought`: (answer, thinking). The text between the first marks, at the start, is thinking.

    Thinking without an end mark was truncated, so there is no answer. With `thinks`, only an end mark is needed,
    because the chat template has written the start mark.
    """
    match = THOUGHT.match(text)
    if match is not None:
        return text[match.end() :], match.group(2).strip()
    end_match = END_OF_THOUGHT.match(text) if thinks else None
    return (text[end_match.end() :], end_match.group(1).strip()) if end_match is not None else (text, "")
