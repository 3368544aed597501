"""All replicas of a run in one live table: the state of each, and the remaining queries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from flamingo_eval.cli.console import console
from flamingo_eval.cli.dry_run import duration

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from flamingo_eval.distributed.pool import ReplicaPool, ReplicaStatus

WIDTH = 77  # terminal columns that it needs: VQAv2 over 512 replicas, no number truncated
OTHER_LINES = 9  # title, heads, the row of all replicas, caption
MOST_ROWS = 16  # maximum of lines for replicas; those with problems come first
STATES = ("given up", "loading", "waiting", "working")  # in the order shown


class PoolTable:
    """The progress of a run over several replicas, on a terminal; same interface as ProgressBar (console.py)."""

    def __init__(self, title: str, total: int, pool: ReplicaPool) -> None:
        self.title, self.total, self.pool = title, total, pool
        self.began = time.monotonic()
        self.done, self.score, self.phase_name = 0, "", ""
        self.first: int | None = None
        self.before = [s.queries for s in pool.statuses], dict(pool.stats)
        self.screen = console(stderr=True)
        self._live: Live | None = None

    def __enter__(self) -> PoolTable:
        from rich.live import Live

        self._live = Live(console=self.screen, get_renderable=self.table, refresh_per_second=2, transient=True)
        self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def phase(self, name: str, done: int = 0, total: int = 0) -> None:
        """The run has come to another phase."""
        self.phase_name = name if done >= total else f"{name} {done:,}/{total:,}"

    def update(self, done: int, score: str = "", pictures_left: float = 0.0) -> None:
        """Show that `done` of the total are finished, and the running score."""
        self.first = done if self.first is None else self.first
        self.done, self.score = done, score

    def table(self) -> Table:
        """The table at this moment."""
        from rich import box
        from rich.table import Table

        seconds = max(time.monotonic() - self.began, 1e-6)
        rate = (self.done - (self.first or 0)) / seconds
        remaining = f"{duration((self.total - self.done) / rate)} left" if rate else "not begun"
        title = ": ".join(words for words in (self.title, self.phase_name, self.score) if words)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)
        table.title_justify = "left"
        for name in ("replica", "state", "units", "lost", "queries", "a second", "cache hits"):
            table.add_column(name, justify="left" if name in ("replica", "state") else "right", no_wrap=True)
        statuses, done_before = self.pool.statuses, self.before[0]
        order = sorted(range(len(statuses)), key=lambda i: (STATES.index(statuses[i].state), i))
        rows = max(1, min(MOST_ROWS, self.screen.height - OTHER_LINES))
        for i in sorted(order[:rows]):
            s = statuses[i]
            queries = s.queries - done_before[i]
            table.add_row(
                str(i), s.state, str(s.units), str(s.lost), f"{queries:,}", f"{queries / seconds:.1f}", known([s])
            )
        if len(statuses) > rows:
            table.add_row(f"{len(statuses) - rows} more", *[""] * 6)
        stats = self.pool.stats
        units_done = stats["units_done"] - self.before[1]["units_done"]
        units = f"{units_done}/{stats['units'] - self.before[1]['units']}"
        n_lost = stats["units_lost"] - self.before[1]["units_lost"]
        table.add_section()
        total = f"{self.done:,}/{self.total:,}"
        table.add_row("all", "", units, str(n_lost), total, f"{rate:.1f}", known(statuses))
        table.caption = f"{remaining}, {60 * units_done / seconds:.1f} units a minute"
        given_up = stats["queries_given_up"] - self.before[1]["queries_given_up"]
        if given_up:
            table.caption += f", {given_up} quer{'y' if given_up == 1 else 'ies'} given up"
        table.caption_justify = "left"
        return table


def known(statuses: Sequence[ReplicaStatus]) -> str:
    """Share of the requested pictures that were in the vision cache, in percent."""
    requested = sum(s.asked for s in statuses)
    return f"{100 * sum(s.hits for s in statuses) / requested:.0f} %" if requested else "-"
