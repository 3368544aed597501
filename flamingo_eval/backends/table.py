"""The abilities of each backend, for `flamingo-eval list models` and `doctor`. Does not import any backend."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend. `batch_independent`: whether float32 answers on a CPU do not depend on the batch."""

    model: str  # the value of --model
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
        video="as videos or 8 frames", turns=True, batch_independent="yes, text except for ties",
        packages=("transformers",), install="pip install 'flamingo-eval[hf]'",
    ),
    BackendRow(
        "openai:URL", "a server of chat completions (vLLM, SGLang, llama.cpp, vendors)", generate=True, rank=True,
        video="as 8 frames", turns=True, batch_independent="depends on the server", packages=("httpx2",),
        install="pip install 'flamingo-eval[servers]'",
    ),
    BackendRow(
        "FILE.py:CLASS", "your own class", generate=True, rank=True, video="decides itself", turns=True,
        batch_independent="depends on the class", packages=(), install="nothing to install",
    ),
)  # fmt: skip
