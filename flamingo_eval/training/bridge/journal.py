"""What a run says of itself: a row of curves.csv and a line of progress every `log_every` updates, over all ranks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from flamingo_eval.training.bridge.curves import CsvCurve, progress_line, tensorboard_writer
from flamingo_eval.training.bridge.network import Bridge
from flamingo_eval.training.bridge.ranks import Ranks
from flamingo_eval.training.bridge.recipe import BridgeRecipe
from flamingo_eval.training.bridge.sequences import Batch
from flamingo_eval.training.loop import learning_rate


class Journal:
    """Sums over the updates since the last row; the first rank writes."""

    def __init__(
        self, recipe: BridgeRecipe, out: Path, ranks: Ranks, bridge: Bridge, done: int, say: Callable[[str], None]
    ) -> None:
        """`done`: the last update whose rows are kept. Raises MissingDependency for TensorBoard."""
        self.recipe, self.ranks, self.bridge, self.say = recipe, ranks, bridge, say
        self.names = [spec.name for spec in recipe.data]
        self.curve = CsvCurve(out / "curves.csv", done) if ranks.first else None
        self.board = tensorboard_writer(out / "tensorboard") if ranks.first and recipe.tensorboard else None
        self.begin()

    def begin(self) -> None:
        """Forget what was added."""
        self._losses = dict.fromkeys(self.names, 0.0)
        self._learned = dict.fromkeys(self.names, 0)
        self._tokens = self._pictures = 0
        self._began = time.monotonic()

    def add(self, name: str, loss: float, batch: Batch) -> None:
        """One batch of a data set, of this rank."""
        self._losses[name] += loss
        self._learned[name] += len(batch.targets)
        self._tokens += batch.real
        self._pictures += batch.pictures

    def write(self, done: int, norm: float, spent: float, flop_share: float) -> None:
        """A row about the updates since the last one. All ranks call this."""
        numbers = [value for name in self.names for value in (self._losses[name], self._learned[name])]
        sums = self.ranks.sums(torch.tensor([*numbers, self._tokens, self._pictures], dtype=torch.float64)).tolist()
        gates = self.bridge.gates()
        if self.curve is not None:
            seconds = time.monotonic() - self._began
            row: dict[str, float | int | str] = {"update": done}
            for i, name in enumerate(self.names):
                if sums[2 * i + 1]:
                    row[f"loss {name}"] = sums[2 * i] / sums[2 * i + 1]
            row |= {
                "gate": sum(gates.values()) / len(gates),
                "norm": norm,
                "lr": learning_rate(self.recipe.optim, done - 1),
                "tokens_per_s": sums[-2] / seconds,
                "pictures_per_s": sums[-1] / seconds,
                "flop_share": flop_share,
                "seconds": spent,
            }
            row |= {f"gate {block}": value for block, value in gates.items()}
            self.curve.add(row)
            if self.board is not None:
                for key, value in row.items():
                    self.board.add_scalar(key.replace(" ", "/"), value, done)
            updates = self.recipe.last_update
            left = (updates - done) * seconds / self.recipe.log_every
            self.say(progress_line(row, updates, self.names, left))
        self.begin()
