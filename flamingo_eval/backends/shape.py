"""A model before its weights are loaded: name, lengths of prompts, and default protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flamingo_eval.backends.choice import ModelChoice
from flamingo_eval.records import Prompt

if TYPE_CHECKING:
    from flamingo_eval.models.config import FlamingoConfig
    from flamingo_eval.models.tokenizer import Tokenizer


class Shape(Protocol):
    """The shape of a model of any backend. Counting raises PromptError and MediaError."""

    @property
    def name(self) -> str: ...

    @property
    def context_length(self) -> int: ...

    @property
    def advice(self) -> str:
        """Advice for prompts that are too long."""
        ...

    @property
    def default_protocol(self) -> str: ...

    def count_tokens(self, prompt: Prompt) -> int: ...

    def count_continuation(self, text: str) -> int: ...


class FlamingoShape:
    """The shape of a model for the bundled engine."""

    default_protocol = "flamingo"
    advice = "Lower --shots for these"

    def __init__(self, config: FlamingoConfig, tokenizer: Tokenizer) -> None:
        self.config, self.tokenizer = config, tokenizer

    @property
    def name(self) -> str:
        """The name in its config.json."""
        return self.config.name

    @property
    def context_length(self) -> int:
        """Context length in tokens."""
        return self.config.decoder.context

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt, begin token included; no picture is opened."""
        return len(self.tokenizer.encode(prompt).ids)

    def count_continuation(self, text: str) -> int:
        """Tokens of a candidate."""
        return len(self.tokenizer.encode_text(text))


def shape_of(choice: ModelChoice) -> Shape:
    """The shape of a model by name. Raises CheckpointError, MissingDependency, UsageError before weights are read."""
    if choice.scheme == "hf":
        from flamingo_eval.backends.hf.shape import hf_shape

        return hf_shape(choice)
    if choice.scheme == "openai":
        from flamingo_eval.backends.server.model import ServerShape

        return ServerShape(choice)
    if choice.scheme == "own":
        from flamingo_eval.backends.own import own_shape

        return own_shape(choice)
    from flamingo_eval.models import read_shape

    return FlamingoShape(*read_shape(choice.target))


def clips_shown(choice: ModelChoice) -> str:
    """How a model of transformers or a server is shown clips, for the user; "" for others. Raises as `shape_of`."""
    shape = shape_of(choice) if choice.scheme in ("hf", "openai") else None
    return "" if shape is None else str(getattr(shape, "clips_shown", ""))


def default_protocol(choice: ModelChoice) -> tuple[str, str]:
    """The default protocol of a model, and the reason, for the user. Raises as `shape_of`."""
    if choice.scheme == "bundled":  # also works for presets without weights (--dry-run)
        return FlamingoShape.default_protocol, ""
    protocol = shape_of(choice).default_protocol
    if choice.scheme in ("openai", "own"):
        return protocol, "servers read turns" if choice.scheme == "openai" else "as the class says"
    return protocol, "the model has a chat template" if protocol == "chat" else "the model has no chat template"
