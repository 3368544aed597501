"""What each backend can do, for `flamingo-eval list models` and `doctor`. Importing this imports none of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend. `batch_independent`: whether float32 answers on a CPU are the same whatever shares a batch."""

    model: str  # as --model takes it
    what: str
    generate: bool
    rank: bool
    video: str
    turns: bool
    batch_independent: str
    packages: tuple[str, ...]
    install: str

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages it needs that are not installed."""
        return tuple(name for name in self.packages if not _installed(name))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


BACKENDS = (
    BackendRow(
        "tiny or FOLDER", "a Flamingo, by the bundled engine", generate=True, rank=True, video="clips", turns=False,
        batch_independent="yes", packages=(), install="nothing to install",
    ),
    BackendRow(
        "hf:FOLDER or hf:NAME", "any vision-language model of transformers", generate=True, rank=True,
        video="as 8 frames", turns=True, batch_independent="yes, text but for ties", packages=("transformers",),
        install="pip install 'flamingo-eval[hf]'",
    ),
    BackendRow(
        "openai:URL", "a server of chat completions (vLLM, SGLang, llama.cpp, vendors)", generate=True, rank=True,
        video="as 8 frames", turns=True, batch_independent="the server's affair", packages=("httpx2",),
        install="pip install 'flamingo-eval[servers]'",
    ),
    BackendRow(
        "FILE.py:CLASS", "your own class", generate=True, rank=True, video="as it likes", turns=True,
        batch_independent="the class's affair", packages=(), install="nothing to install",
    ),
)  # fmt: skip
