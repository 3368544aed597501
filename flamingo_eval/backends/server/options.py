"""`openai:URL1,URL2` and its options, checked; which of them change outputs; the key from the environment."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from flamingo_eval.backends.choice import ModelChoice, args_text
from flamingo_eval.errors import UsageError, did_you_mean

DEFAULT_KEY = "OPENAI_API_KEY"
THINKING = ("", "off", "on")
CHANGES_NOTHING = (
    "concurrency", "timeout", "retries", "key_env", "max_requests", "max_tokens", "context", "served_model",
    "send_stop",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options from --model-args. 0 means no limit; an empty text is not sent to the server."""

    model: str = ""
    concurrency: int = 16  # requests in flight, over all servers
    timeout: float = 120.0  # seconds that a request may take in all
    retries: int = 6  # further tries of a request
    max_side: int = 0  # pixels: larger pictures are shrunk; 0 sends the original bytes
    frames: int = 8  # pictures shown for a clip
    thinking: str = ""  # off, on
    thinking_tokens: int = 2048  # with thinking=on: further tokens that an answer may take
    temperature: float = 0.0
    seed: int = 0
    limit_field: str = "max_tokens"  # the server's name for the maximum of new tokens; some need max_completion_tokens
    send_stop: str = "on"  # whether stop strings are sent; answers are cut there in any case
    label: str = ""  # part of the name in tables, to distinguish two servers of one model
    key_env: str = DEFAULT_KEY
    served_model: str = ""  # the server's name of the model, if it differs from the requested one
    context: int = 0  # context length in tokens, to check prompts before sending
    max_requests: int = 0  # limit of requests
    max_tokens: int = 0  # limit of tokens, of prompts and answers

    @property
    def key(self) -> str:
        """The key, only from the environment; empty if the variable is not set."""
        return os.environ.get(self.key_env, "").strip()

    @property
    def changing(self) -> dict[str, Any]:
        """The options that change outputs and differ from their defaults."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in CHANGES_NOTHING and getattr(self, f.name) != f.default
        }

    @property
    def name(self) -> str:
        """The model's name in tables."""
        other_options = {k: v for k, v in self.changing.items() if k not in ("model", "label")}
        label = f"@{self.label}" if self.label else ""
        model = self.model.rstrip("/").rpartition("/")[2] if self.model.startswith("/") else self.model  # of a folder
        return f"{model}{label}[{args_text(other_options)}]" if other_options else f"{model}{label}"

    @property
    def sha256(self) -> str:
        """Hash of the options that change outputs. Not of the address, so that a run can resume on another server."""
        return hashlib.sha256(json.dumps({"openai": self.changing}, sort_keys=True).encode()).hexdigest()


def addresses(choice: ModelChoice) -> tuple[str, ...]:
    """`URL1,URL2` -> base addresses; an address without a path gets `/v1`. Raises UsageError."""
    bases = []
    for text in choice.target.split(","):
        url = text.strip().rstrip("/")
        try:
            parts = urlsplit(url)
            is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            parts, is_valid = urlsplit(""), False
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UsageError(
                f"--model openai: the address of {parts.hostname} contains a user name, a password or a query.",
                fix=f"Give only the address, and put the key into the environment ({DEFAULT_KEY}).",
            )
        if not is_valid:
            raise UsageError(f"--model openai:{url}: invalid address.", fix="Write openai:http://localhost:8000/v1.")
        bases.append(url if parts.path else f"{url}/v1")
    return tuple(dict.fromkeys(bases))


def server_options(choice: ModelChoice) -> ServerOptions:
    """The options of a choice. Raises UsageError: unknown names, wrong values."""
    kinds: dict[str, type] = {f.name: type(f.default) for f in fields(ServerOptions)}
    values: dict[str, Any] = {}
    for name, value in choice.args.items():
        if name not in kinds:
            raise UsageError(
                f"--model-args {name}: unknown option of a server. {did_you_mean(name, kinds)}".rstrip(),
                fix=f"Known: {', '.join(kinds)}.",
            )
        kind = kinds[name]
        if kind is str:
            values[name] = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
        elif isinstance(value, bool) or not isinstance(value, int if kind is int else int | float) or value < 0:
            raise UsageError(f"--model-args {name}={value}: expected a number of at least 0.")
        else:
            values[name] = kind(value)
    options = ServerOptions(**values)
    if options.thinking not in THINKING:
        raise UsageError(f"--model-args thinking={options.thinking}: expected on or off.")
    if options.send_stop not in ("on", "off"):
        raise UsageError(f"--model-args send_stop={options.send_stop}: expected on or off.")
    for name in ("concurrency", "timeout", "frames"):
        if not getattr(options, name) > 0:
            raise UsageError(f"--model-args {name}=0: expected a number above 0.")
    return options
