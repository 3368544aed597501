"""How each of our tensors is made from foreign ones; all of it is checked before any values are read.

A table maps stems (names without `.weight` and `.bias`), per layer; `{i}` is the layer's number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from flamingo_eval.errors import CheckpointError, FlamingoEvalError, Problem, did_you_mean, problems_in
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.convert.foreign_weights import ForeignTensor, Weights
from flamingo_eval.models.flamingo import Flamingo

How = Literal["stack", "transpose", "heads"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Foreign stems, and how their tensors are combined into one of ours.

    `stack` along the first dimension (one name: unchanged); `transpose` a matrix (GPT-2 stores inputs first); `heads`
    turns queries, keys and values grouped by head (GPT-NeoX) into all queries, all keys, all values.
    """

    stems: tuple[str, ...]
    how: How = "stack"


Table = Mapping[str, str | Rule]


def expected_shapes(config: FlamingoConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model, by name, in its order."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Flamingo(config).state_dict().items()}


def stack(*stems: str) -> Rule:
    """Concatenate tensors along the first dimension."""
    return Rule(stems)


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """How one tensor of a converted model will be made: shape, type, sources, and `make`, which reads them."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]
    sources: tuple[ForeignTensor, ...] = ()  # its sources; empty: no foreign tensor


class TensorMap:
    """Collects plans and problems for all tensors of a model; `finish` raises all problems at once."""

    def __init__(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        self.expected = expected
        self.plans: dict[str, PlannedTensor] = {}
        self.problems: list[Problem] = []

    def add(
        self, ours: str, table: Table, weights: Weights, source: str, heads: int = 1, file: Path | None = None
    ) -> None:
        """Find the foreign tensors for all of ours whose name begins with `ours`; unused ones are problems.

        `source` is the name of the weights in messages, `file` where a missing tensor should be (None: the file of the
        first tensor); `heads` is for rules that regroup heads.
        """
        sources: set[str] = set()
        for name in self.expected:
            if not name.startswith(ours) or name in self.plans:
                continue
            rule, suffix, numbers = _rule_of(name[len(ours) :], table)
            names = [stem.format(i=numbers) + suffix for stem in rule.stems]
            sources.update(names)
            missing = [n for n in names if n not in weights]
            for missing_name in missing:
                # suggestions for the first ones only: with hundreds missing, comparing names would take minutes
                fix = (
                    did_you_mean(missing_name, (n for n in weights if n not in sources))
                    if len(self.problems) < 5
                    else ""
                )
                shape = f" of shape {list(self.expected[name])}" if len(names) == 1 and rule.how == "stack" else ""
                self.missing(f"{missing_name}{shape}", source, file or _first_file(weights), fix)
            if not missing:
                self._add(name, rule.how, [weights[n] for n in names], heads)
        self.leftover(weights, sources, source)

    def missing(self, what: str, source: str, file: Path | None, fix: str = "") -> None:
        """Add the problem of a missing tensor."""
        self.problems.append(Problem(f"{source}: the tensor {what} is missing.", file=file, fix=fix))

    def leftover(self, weights: Weights, used: Iterable[str], source: str) -> None:
        """Add a problem for each tensor that no rule uses."""
        used_names = set(used)
        for name, foreign in weights.items():
            if name not in used_names:
                self.problems.append(
                    Problem(
                        f"{source} has a tensor {foreign.name} {list(foreign.shape)} that no part of the model uses.",
                        file=foreign.file,
                    )
                )

    def set(self, name: str, plan: PlannedTensor, of: str) -> None:
        """Add a plan for one of our tensors directly; `of` names its source."""
        if plan.shape != tuple(self.expected[name]):
            expected = list(self.expected[name])
            file = plan.sources[0].file if plan.sources else None
            self.problems.append(Problem(f"{of} has shape {list(plan.shape)}, expected {expected}.", file=file))
        self.plans[name] = plan

    def finish(self, what: str) -> dict[str, PlannedTensor]:
        """All plans, in the model's order. Raises CheckpointError with all problems, grouped by file.

        `what` is the place of problems without a file.
        """
        if self.problems:
            raise problems_by_file(self.problems, what)
        return {name: self.plans[name] for name in self.expected}

    def _add(self, name: str, how: How, parts: Sequence[ForeignTensor], heads: int) -> None:
        expected = tuple(self.expected[name])
        shape = _result_shape(how, [p.shape for p in parts])
        if shape != expected:
            shapes = ", ".join(f"{p.name} {list(p.shape)}" for p in parts)
            stored_shape = list(reversed(expected)) if how == "transpose" and len(expected) == 2 else list(expected)
            self.problems.append(Problem(f"{shapes}: expected {stored_shape}.", file=parts[0].file))
        elif not parts[0].dtype.is_floating_point:
            what = f"{parts[0].name} has dtype {parts[0].dtype}, expected floating-point numbers."
            self.problems.append(Problem(what, file=parts[0].file))
        self.plans[name] = PlannedTensor(
            expected, parts[0].dtype, lambda: _make(how, [p.read() for p in parts], heads), tuple(parts)
        )


def _first_file(weights: Weights) -> Path | None:
    return next((foreign.file for foreign in weights.values()), None)


def problems_by_file(problems: Sequence[Problem], what: str) -> FlamingoEvalError:
    """All problems, grouped by file."""
    by_file: dict[str, list[Problem]] = {}
    for problem in problems:
        by_file.setdefault(str(problem.file or what), []).append(problem)
    if len(by_file) == 1:
        return problems_in(next(iter(by_file)), problems, CheckpointError)
    with_file = [replace(p, what=f"{file}: {p.what}") for file, file_problems in by_file.items() for p in file_problems]
    return problems_in(", ".join(by_file), with_file, CheckpointError)


def _rule_of(name: str, table: Table) -> tuple[Rule, str, str]:
    """The rule for one of our names, its suffix, and the number of its layer."""
    match = re.search(r"\.(\d+)\.", f".{name}")
    number = match.group(1) if match else ""
    pattern = name.replace(f"{number}.", "{i}.", 1) if number else name
    stem, dot, suffix = pattern.rpartition(".")
    if pattern in table:  # a parameter with a name of its own
        stem, dot, suffix = pattern, "", ""
    if stem not in table:
        raise KeyError(f"no rule for {name}")  # a gap in our table: a bug, not the user's fault
    rule = table[stem]
    return (Rule((rule,)) if isinstance(rule, str) else rule), dot + suffix, number


def _result_shape(how: How, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    first = shapes[0]
    if how == "transpose":
        return tuple(reversed(first))
    if len(shapes) > 1 and any(len(s) != len(first) or s[1:] != first[1:] for s in shapes):
        return (-1,)
    return first if len(shapes) == 1 else (sum(s[0] for s in shapes), *first[1:])


def _make(how: How, parts: Sequence[Tensor], heads: int) -> Tensor:
    if how == "transpose":
        return parts[0].t()
    if how == "heads":  # [H * 3 * d, ...] -> [3 * H * d, ...]
        grouped = parts[0].view(heads, 3, -1, *parts[0].shape[1:])
        return grouped.transpose(0, 1).reshape(parts[0].shape)
    return parts[0] if len(parts) == 1 else torch.cat([part.to(parts[0].dtype) for part in parts])
