"""`--model` and `--model-args`: the backend, the model, and the options that change its outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from flamingo_eval.errors import UsageError, did_you_mean

Scheme: TypeAlias = Literal["bundled", "hf", "openai", "own"]
ArgValue: TypeAlias = bool | int | float | str

SCHEMES: tuple[Scheme, ...] = ("hf", "openai")  # written before a colon; without one the model is of the bundled kind
OWN_CLASS = re.compile(r".+\.py:[^\W\d]\w*")  # my_model.py:MyModel
EXAMPLES = {"hf": "hf:FOLDER or hf:NAME", "openai": "openai:http://localhost:8000/v1"}
SECRET = re.compile(r"(api[_-]?)?(key|token|secret)|authorization|password", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A backend, the model to load, and its options. `target` is a name or a folder without the scheme."""

    scheme: Scheme
    target: str
    pairs: tuple[tuple[str, ArgValue], ...] = ()  # of --model-args, sorted by name

    @property
    def args(self) -> dict[str, ArgValue]:
        """The options by name."""
        return dict(self.pairs)

    def __str__(self) -> str:
        return self.target if self.scheme in ("bundled", "own") else f"{self.scheme}:{self.target}"


def choose_model(model: str | Path | ModelChoice, args: str | Mapping[str, ArgValue] = "") -> ModelChoice:
    """`hf:FOLDER` and `k=v,...` -> a choice; a name or folder without a scheme is of the bundled kind.

    Raises UsageError for an unknown scheme, options that are not `name=value`, and options of a bundled model.
    """
    if isinstance(model, ModelChoice):
        return model
    options = parse_args(args) if isinstance(args, str) else dict(args)
    text = str(model)
    if OWN_CLASS.fullmatch(text):
        return ModelChoice("own", text, tuple(sorted(options.items())))
    scheme, colon, target = text.partition(":")
    if colon and len(scheme) > 1 and not Path(text).exists():
        if scheme not in SCHEMES:
            if scheme in ("http", "https"):
                raise UsageError("--model: an address of a server needs its kind.", fix="Write openai: before it.")
            schemes = ", ".join(f"{s}:" for s in SCHEMES)
            raise UsageError(
                f"--model {text}: no backend '{scheme}'. {did_you_mean(scheme, SCHEMES)}".rstrip(),
                fix=f"Write tiny, a folder, or one of {schemes}. See `flamingo-eval list models`.",
            )
        if not target:
            raise UsageError(f"--model {text}: the name after the colon is missing.", fix=f"Write {EXAMPLES[scheme]}.")
        return ModelChoice(scheme, target, tuple(sorted(options.items())))
    if options:
        raise UsageError(
            f"--model-args {', '.join(options)}: a model of the bundled kind has no options.",
            fix="Leave --model-args out, or name a model of another backend: --model hf:FOLDER.",
        )
    return ModelChoice("bundled", text)


def with_limits(choice: ModelChoice, max_requests: int | None, max_tokens: int | None) -> ModelChoice:
    """The choice with limits of requests and tokens. Raises UsageError if the model is not behind a server."""
    limits = {"max_requests": max_requests, "max_tokens": max_tokens}
    set_limits = {name: value for name, value in limits.items() if value is not None}
    if set_limits and choice.scheme != "openai":
        raise UsageError(
            f"--{next(iter(set_limits)).replace('_', '-')} is for models behind a server, not for {choice}."
        )
    return replace(choice, pairs=tuple(sorted({**choice.args, **set_limits}.items())))


def parse_args(text: str) -> dict[str, ArgValue]:
    """`max_pixels=401408,do_image_splitting=false` -> values; true, false and numbers are read as such.

    Raises UsageError.
    """
    options: dict[str, ArgValue] = {}
    for item in text.split(","):
        if not item.strip():
            continue
        name, equals, value = (word.strip() for word in item.partition("="))
        if SECRET.fullmatch(name):  # never print its value
            raise UsageError(
                f"--model-args {name}: keys are read only from the environment, so that no record contains them.",
                fix="Set OPENAI_API_KEY, or another variable and name it: key_env=NAME.",
            )
        if not equals or not name or not value:
            raise UsageError(f"--model-args {text}: '{item.strip()}': expected name=value.", fix="Write a=1,b=true.")
        if name in options:
            raise UsageError(f"--model-args {text}: duplicate option '{name}'.")
        options[name] = parse_value(value)
    return options


def parse_value(text: str) -> ArgValue:
    """The text as a number or true/false if it is one, otherwise as text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def args_text(args: Mapping[str, ArgValue]) -> str:
    """Options in the form of --model-args, sorted by name."""
    return ",".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in sorted(args.items())
    )
