"""The files and lines that a run writes: curves.csv, scores.csv, scores.svg, a progress line, TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flamingo_eval.errors import MissingDependency
from flamingo_eval.files import write_atomically

Row = Mapping[str, float | int | str]


class CsvCurve:
    """A CSV file to which rows are appended; a resumed run first deletes the rows after its state."""

    def __init__(self, path: Path, update: int) -> None:
        """`update`: rows after this update are deleted."""
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                kept = [row for row in csv.DictReader(file) if None not in row and (row.get("update") or "").isdigit()]
            self.rows = [row for row in kept if int(row["update"]) <= update]
        self._write()

    def add(self, row: Row) -> None:
        """Append a row; new columns are added at the end."""
        text = {key: f"{value:.9g}" if isinstance(value, float) else str(value) for key, value in row.items()}
        known = self._columns()
        self.rows.append(text)
        if self._columns() != known:
            self._write()
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([text.get(column, "") for column in known])

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def _write(self) -> None:
        columns = self._columns()
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
        if columns:
            writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, out.getvalue())


def tensorboard_writer(folder: Path) -> Any:
    """TensorBoard's own writer. Raises MissingDependency."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependency(
            "tensorboard: true needs the package tensorboard.",
            fix="Install it: pip install 'flamingo-eval[tensorboard]'",
        ) from error
    return SummaryWriter(str(folder))


def progress_line(row: Row, updates: int, datasets: Sequence[str], left_s: float) -> str:
    """One line for the terminal."""
    losses = "  ".join(f"{name} {row[f'loss {name}']:.3f}" for name in datasets if f"loss {name}" in row)
    return (
        f"{row['update']:>6}/{updates}  {losses}  gates {row['gate']:.3f}  "
        f"{row['tokens_per_s']:,.0f} tokens/s  {row['pictures_per_s']:,.1f} pictures/s  "
        f"{row['flop_share']:.0%} of the matrix rate  {_span(left_s)} left"
    )


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min" if minutes else "< 1 min"
