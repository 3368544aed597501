"""Segments of longer videos: a download contains either the cut clip, under its own name, or the whole video."""

from __future__ import annotations

from collections.abc import Sequence

from flamingo_eval.data.folders import VIDEO_SUFFIXES, MediaFolders
from flamingo_eval.data.media_files import why_missing
from flamingo_eval.data.source import Source
from flamingo_eval.records import Video


def clip_of(
    source: Source, folders: MediaFolders, cut_names: Sequence[str], video: str, start: float, end: float
) -> tuple[Video, ...]:
    """Seconds start..end of `video`: the cut file if it exists, otherwise a segment of the whole video."""
    if not source.with_media:
        return ()
    cut = folders.find(tuple(cut_names), VIDEO_SUFFIXES)
    if not why_missing(cut):
        return (Video(cut),)
    long = folders.find((video,), VIDEO_SUFFIXES)
    return (Video(cut),) if why_missing(long) else (Video(long, start, end),)
