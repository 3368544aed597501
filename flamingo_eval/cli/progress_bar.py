"""How far one run is: a bar on a terminal, a plain line now and then elsewhere, nothing with --quiet.

A run has phases (encoding, answering, scoring, writing), and the current phase is always named. Plain lines come after
five seconds of a phase and then more and more seldom, so that a log of many hours stays short.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from flamingo_eval.cli.console import console, say
from flamingo_eval.cli.time_left import TimeLeft

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ANSWERING, ENCODING = "answering", "encoding pictures"
FIRST_LINE = 5.0  # seconds until the first plain line
SLOWER = 1.5  # the next one comes when this many times as many seconds have passed,
LONGEST = 600.0  # and after this many at the latest
ASLEEP = 0.5  # seconds between two looks at the clock
WIDE = 110  # columns of a terminal from which on there is room for everything
BESIDE_TITLE = 52  # columns for all but the title, in a narrow one
SILENT = 1.0  # seconds without an answer, after which encoding is a phase of its own


class ProgressBar:
    """Progress of one run. Used as a context; call `phase` and `update` for progress."""

    def __init__(
        self,
        title: str,
        total: int,
        quiet: bool = False,
        *,
        phase: str = ANSWERING,
        encoded: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`encoded`: how many pictures the engine has encoded, if it counts them."""
        self.title, self.quiet, self.clock = title, quiet, clock
        self.encoded, self.encoded_before = encoded, encoded() if encoded is not None else 0
        self.began = self.newest = clock()
        self.next_line = FIRST_LINE
        self.score = ""
        self.pictures_left = 0.0
        self.encoded_at_newest = self.encoded_before
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._ended = threading.Event()
        self._printer: threading.Thread | None = None
        self._start(phase, 0, total)

    def _start(self, name: str, done: int, total: int) -> None:
        self.name, self.done, self.total = name, done, total
        self.left: TimeLeft | None = None

    def __enter__(self) -> ProgressBar:
        if self.quiet:
            return self
        if sys.stderr.isatty():
            self._open_bar()
        else:
            self._printer = threading.Thread(target=self._lines, daemon=True)
            self._printer.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        if self._printer is not None:
            self._printer.join()
        if self._bar is not None:
            self._bar.stop()

    def phase(self, name: str, done: int = 0, total: int = 0) -> None:
        """The run has come to another phase, or is at `done` of `total` in it; 0: nobody knows how much it is."""
        if name == self.name and total == self.total and self.left is not None:
            self.update(done, self.score)
            return
        self._start(name, done, total)
        self.newest = self.clock()
        self.next_line = min(self.next_line, self.newest - self.began + FIRST_LINE)
        self.encoded_before = self.encoded_at_newest = self.encoded() if self.encoded is not None else 0
        self.left = TimeLeft(total, self.newest, done) if total else None
        self._redraw()

    def update(self, done: int, score: str = "", pictures_left: float = 0.0) -> None:
        """`done` of the total are finished; the score so far, and how many pictures are still to be encoded."""
        now = self.clock()
        if self.left is None:
            self.left = TimeLeft(self.total, self.newest, max(0, done - 1))
            self.encoded_before = self.encoded_at_newest
        self.done, self.score, self.pictures_left, self.newest = done, score, pictures_left, now
        self.encoded_at_newest = self.encoded() if self.encoded is not None else 0
        self.left.add(now, done, self.encoded_at_newest - self.encoded_before)
        self._redraw()

    def line(self) -> str:
        """All of it on one line: `vqav2 4-shot seed 0: answering 160/400, 12.3/s, 20 s left, VQA acc. 61.2`."""
        count = f" {self.done:,}/{self.total:,}" if self.total else ""
        details = [d for d in (self._speed(), self.score) if d]
        return ", ".join([f"{self.title}: {self.phase_name()}{count}", *details])

    def phase_name(self) -> str:
        """The phase; while answers wait for pictures that is `encoding pictures`, with how many are done."""
        if self.name == ANSWERING and self.encoded is not None and self.clock() - self.newest > SILENT:
            pictures = self.encoded() - self.encoded_at_newest
            if pictures > 0:
                return f"{ENCODING} ({pictures:,})"
        return self.name

    def _speed(self, with_rate: bool = True) -> str:
        from flamingo_eval.cli.dry_run import duration

        if self.left is None or self.done >= self.total:
            return ""
        rate, left = self.left.per_second, self.left.seconds(self.clock(), self.pictures_left)
        speed = [f"{rate:.1f}/s"] if rate and with_rate else []
        return ", ".join([*speed, *([f"{duration(left)} left"] if left is not None else [])])

    def _lines(self) -> None:
        """Print a line when it is time for one and it has something new, whatever the run does meanwhile."""
        printed = ""
        while not self._ended.wait(ASLEEP):
            seconds = self.clock() - self.began
            if seconds >= self.next_line:
                self.next_line = min(seconds * SLOWER, seconds + LONGEST)
                line = self.line()
                if line != printed:
                    say(line)
                printed = line

    def _open_bar(self) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, Task
        from rich.table import Column
        from rich.text import Text

        class Words(ProgressColumn):
            """A part of the line, made when the bar is drawn."""

            def __init__(self, words: Callable[[], str]) -> None:
                super().__init__(Column(no_wrap=True, overflow="ellipsis"))
                self.words = words

            def render(self, task: Task) -> Text:
                return Text(self.words())

        screen = console(stderr=True)
        room = max(12, screen.width - BESIDE_TITLE)
        title = self.title if len(self.title) <= room else f"{self.title[: room - 1]}…"
        self._bar = Progress(
            Words(lambda: f"{title}: {self.phase_name()}"),
            BarColumn(bar_width=16 if screen.width >= WIDE else 6),
            Words(lambda: f"{self.done:,}/{self.total:,}" if self.total else ""),
            Words(lambda: self._speed(with_rate=screen.width >= WIDE)),
            Words(lambda: self.score),
            console=screen,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self.title, total=self.total or None)

    def _redraw(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, total=self.total or None)
