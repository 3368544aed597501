"""Reads a Hugging Face config.json: what this network lacks is refused by its key, never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flamingo_eval.errors import CheckpointError, Problem, problems_in
from flamingo_eval.models.config import Activation

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

MOST_LAYERS = 1024


class ForeignConfig:
    """A foreign config.json; what cannot be taken over is collected and raised at once by `done`."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path, self.values = path, values
        self.problems: list[Problem] = []

    def get(self, *names: str, default: Any = None) -> Any:
        """The first of these keys that is there and not null."""
        return next((self.values[n] for n in names if self.values.get(n) is not None), default)

    def whole(self, *names: str, default: int | None = None) -> int:
        """A whole number above 0, which must be there if it has no default."""
        value = self.get(*names, default=default)
        if type(value) is int and 0 < value < 2**40:
            return value
        least = " above 0" if type(value) is int else ""
        self.problems.append(Problem(f"expected a whole number{least}, found {value!r}.", key=names[0]))
        return 1

    def layers(self, *names: str, default: int | None = None) -> int:
        """A number of layers that some network could have."""
        value = self.whole(*names, default=default)
        if value <= MOST_LAYERS:
            return value
        self.problems.append(Problem(f"{value} layers: no network has more than {MOST_LAYERS}.", key=names[0]))
        return 1

    def heads(self, width: int, *names: str, default: int | None = None) -> int:
        """A number of heads that share the width evenly."""
        value = self.whole(*names, default=default)
        if width % value:
            self.problems.append(Problem(f"{value} heads do not share a width of {width} evenly.", key=names[0]))
        return value

    def number(self, *names: str, default: float) -> float:
        """A number that is neither below 0 nor infinite."""
        value = self.get(*names, default=default)
        if type(value) in (int, float) and 0 <= value < 1e30:
            return float(value)
        self.problems.append(Problem(f"expected a number, found {value!r}.", key=names[0]))
        return 1.0

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name, default=default)
        if type(value) is not bool:
            self.problems.append(Problem(f"expected true or false, found {value!r}.", key=name))
        return value is True

    def activation(self, name: str, default: str) -> Activation:
        """An activation under its Hugging Face name."""
        value = self.get(name, default=default)
        if isinstance(value, str) and value in ACTIVATIONS:
            return ACTIVATIONS[value]
        fix = f"Known: {', '.join(ACTIVATIONS)}."
        self.problems.append(Problem(f"activation {value!r} is not supported.", key=name, fix=fix))
        return "gelu"

    def require(self, name: str, *allowed: object, default: object = None) -> None:
        """Refuse a model with an option that this decoder does not have."""
        value = self.get(name, default=default)
        if value not in allowed:
            fix = f"Supported: {', '.join(map(str, allowed))}."
            self.problems.append(Problem(f"{value!r} is not supported.", key=name, fix=fix))

    def rotary(self) -> tuple[float, float]:
        """Base and fraction of rotary positions, in the old keys and the new."""
        rope = self.get("rope_parameters", "rope_scaling", default={})
        inner = self.inner(rope)
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            self.problems.append(Problem(f"rotary scaling {kind!r} is not supported.", key="rope_scaling"))
        base = inner.number("rope_theta", default=self.number("rope_theta", "rotary_emb_base", default=10_000.0))
        whole = self.number("partial_rotary_factor", "rotary_pct", default=1.0)
        return base, inner.number("partial_rotary_factor", default=whole)

    def inner(self, values: Mapping[str, Any]) -> ForeignConfig:
        """An object inside this one; its problems are this one's."""
        if not isinstance(values, Mapping):
            raise CheckpointError(f"{self.path}: expected an object, found {values!r}.")
        found = ForeignConfig(self.path, values)
        found.problems = self.problems
        return found

    def done(self) -> None:
        """Raise CheckpointError with all that was found."""
        if self.problems:
            raise problems_in(self.path, self.problems, CheckpointError)
