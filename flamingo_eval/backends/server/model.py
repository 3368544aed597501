"""A model behind servers: its shape, and how it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from flamingo_eval.backends.choice import ModelChoice
from flamingo_eval.backends.server.options import addresses, server_options
from flamingo_eval.data.images import open_image
from flamingo_eval.errors import ServerError, UsageError
from flamingo_eval.records import Image, Prompt, Video

UNKNOWN_CONTEXT = 1_000_000_000
CHARACTERS_A_TOKEN = 4  # of English text, about
PIXELS_A_TOKEN = 28 * 28  # of pictures, about: Qwen-VL's


class ServerShape:
    """Name, options and addresses. Token counts are estimates: tokenizers stay with the servers."""

    default_protocol = "chat"
    advice = "Lower --shots, or shrink the pictures: --model-args max_side=448"

    def __init__(self, choice: ModelChoice) -> None:
        """Raises UsageError."""
        self.bases = addresses(choice)
        self.options = server_options(choice)
        if not self.options.model:
            raise UsageError(
                f"--model openai:{choice.target}: the name of the model is missing.",
                fix=f"--model-args model=NAME{self._served()}",
            )

    def _served(self) -> str:
        from flamingo_eval.backends.server.budget import Budget
        from flamingo_eval.backends.server.client import Client

        client = Client(self.bases, self.options, Budget())
        try:
            names = client.models()
        except ServerError as error:
            return f"\n{error}"
        finally:
            client.close()
        return f"; the server has {', '.join(names[:10])}" if names else ""

    @property
    def name(self) -> str:
        """Its name in tables."""
        return self.options.name

    @property
    def sha256(self) -> str:
        """Hash of the options that change outputs."""
        return self.options.sha256

    @property
    def context_length(self) -> int:
        """From --model-args context=N; without it, the server rejects prompts that are too long."""
        return self.options.context or UNKNOWN_CONTEXT

    def count_tokens(self, prompt: Prompt) -> int:
        """Estimated number of tokens of a prompt. Raises MediaError."""
        text = sum(len(p) for p in prompt.parts if isinstance(p, str))
        pictures = sum(self._picture_tokens(p) for p in prompt.parts if isinstance(p, Image | Video))
        return round(text / CHARACTERS_A_TOKEN) + pictures + 4 * len(prompt.turns)

    def _picture_tokens(self, media: Image | Video) -> int:
        if isinstance(media, Video):
            side = self.options.max_side or 448
            return self.options.frames * max(1, side * side // PIXELS_A_TOKEN)
        width, height = open_image(media).size
        scale = min(1.0, self.options.max_side / max(width, height)) if self.options.max_side else 1.0
        return max(1, round(width * height * scale * scale / PIXELS_A_TOKEN))

    def count_continuation(self, text: str) -> int:
        """Estimated number of tokens of a candidate."""
        return max(1, round(len(text) / CHARACTERS_A_TOKEN))

    @property
    def clips_shown(self) -> str:
        """How clips are shown."""
        return f"as {self.options.frames} pictures"

    @property
    def record(self) -> dict[str, Any]:
        """Its entries in a run's record: options and address, without the key."""
        return {
            "backend": "openai",
            "args": {"model": self.options.model, **self.options.changing},
            "servers": [urlsplit(base).netloc for base in self.bases],
            "clips": f"shown {self.clips_shown}",
            "pictures": f"shrunk to {self.options.max_side} pixels" if self.options.max_side else "original bytes",
            "answer_rule": "after-thought",
            "candidates": "continue the assistant's turn",
        }


def open_server(choice: ModelChoice) -> tuple[ServerShape, Any]:
    """The shape and an engine, after checking that the server answers. Raises ServerError, MissingDependency."""
    from flamingo_eval.backends.server.budget import Budget
    from flamingo_eval.backends.server.client import Client
    from flamingo_eval.backends.server.engine import ServerEngine

    shape = ServerShape(choice)
    client = Client(shape.bases, shape.options, Budget(shape.options.max_requests, shape.options.max_tokens))
    if len(shape.bases) == 1:
        try:
            client.models()
        except ServerError:
            client.close()
            raise
    return shape, ServerEngine(client, shape.options)


def require_ranking(engine: Any, tasks: Sequence[str]) -> None:
    """Raise UsageError that names the tasks which the server cannot rank candidates for."""
    from flamingo_eval.backends.server.ranking import FIELDS, gives_log_probabilities

    if tasks and not gives_log_probabilities(engine.client, engine.body((), 1)):
        raise UsageError(
            f"{', '.join(tasks)}: ranking needs log-probabilities, and this server does not return {FIELDS}.",
            fix="Use --rank letter (choices with letters, a protocol of its own), vLLM, or hf:FOLDER.",
        )
