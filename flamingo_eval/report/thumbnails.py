"""Small JPEG copies of pictures and clips as data URIs, up to the page's limit, by priority."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

from PIL import Image as PillowImage

from flamingo_eval.data.images import open_image
from flamingo_eval.data.videos import open_video
from flamingo_eval.errors import MediaError
from flamingo_eval.records import Image, Media
from flamingo_eval.report.visible import visible

QUALITY = 74
STRIP_FRAMES = 4  # of a clip, side by side
SAMPLED_FRAMES = 30  # frames of a clip for the model (Flamingo v2 B.1.2); the strip is a selection of them


@dataclass(frozen=True, slots=True)
class Copy:
    """A picture of the page: its data URI, or the reason for its absence; `about` is its text alternative."""

    uri: str
    about: str
    width: int = 0
    height: int = 0
    frames: int = 1
    missing: str = ""


@dataclass(slots=True)
class PictureBook:
    """Collects pictures and numbers them; copies are made at the end, in the order of priority."""

    size: int  # pixels of the longer side; frames of a clip are half as large
    limit: int
    _numbers: dict[Media, int] = field(default_factory=dict)
    _wanted: list[tuple[int, ...]] = field(default_factory=list)

    def number(self, media: Media, priority: tuple[int, ...]) -> int:
        """The number of a picture on the page; pictures with a lower `priority` are included first."""
        number = self._numbers.setdefault(media, len(self._numbers))
        if number == len(self._wanted):
            self._wanted.append(priority)
        self._wanted[number] = min(self._wanted[number], priority)
        return number

    def __len__(self) -> int:
        return len(self._numbers)

    def copies(self) -> list[Copy]:
        """All pictures by number; those above the limit, and unreadable ones, without pixels."""
        media = list(self._numbers)
        by_priority = sorted(range(len(media)), key=lambda i: (self._wanted[i], i))[: self.limit]
        included = set(by_priority)
        return [
            self._copy(m) if i in included else Copy("", _about(m), missing="not on this page")
            for i, m in enumerate(media)
        ]

    def _copy(self, media: Media) -> Copy:
        try:
            if isinstance(media, Image):
                return _jpeg(_shrunk(open_image(media), self.size), _about(media), 1)
            frames = open_video(media, frames=SAMPLED_FRAMES)
        except MediaError as error:
            return Copy("", _about(media), missing=visible(str(error).replace(str(media.path), media.path.name)))
        n = min(STRIP_FRAMES, len(frames))
        frames_used = [frames[round(i * (len(frames) - 1) / max(1, n - 1))] for i in range(n)]
        thumbnails = [_shrunk(f, self.size // 2 + self.size // 8) for f in frames_used]
        strip = PillowImage.new("RGB", (sum(f.width for f in thumbnails) + 2 * (n - 1), thumbnails[0].height), "black")
        x = 0
        for frame in thumbnails:
            strip.paste(frame, (x, 0))
            x += frame.width + 2
        return _jpeg(strip, f"{_about(media)}: {n} of {len(frames)} frames", n)


def _about(media: Media) -> str:
    """The file's name, and a clip's seconds; never its folder."""
    name = visible(media.path.name, 120)
    if isinstance(media, Image) or media.start is None:
        return name
    return f"{name}, {media.start:g} to {media.end:g} s" if media.end is not None else f"{name}, from {media.start:g} s"


def _shrunk(picture: PillowImage.Image, size: int) -> PillowImage.Image:
    thumbnail = picture.copy()
    thumbnail.thumbnail((size, size), PillowImage.Resampling.LANCZOS)
    return thumbnail


def _jpeg(picture: PillowImage.Image, about: str, frames: int) -> Copy:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Copy(uri, about, picture.width, picture.height, frames)
