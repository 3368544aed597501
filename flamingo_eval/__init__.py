"""flamingo-eval: few-shot evaluation of Flamingo-style visual language models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from flamingo_eval.api import load_model
    from flamingo_eval.config.specs import DecodeSpec, RankSpec
    from flamingo_eval.evaluation import Evaluation, evaluate
    from flamingo_eval.records import END_OF_CHUNK, Answer, Image, Pixels, Prompt, Turn, Video
    from flamingo_eval.report.frame import load_results

# Public names and where they live. Loaded on first use, so that `import flamingo_eval` stays free of torch.
_PUBLIC = {
    "evaluate": "flamingo_eval.evaluation",
    "Evaluation": "flamingo_eval.evaluation",
    "load_model": "flamingo_eval.api",
    "load_results": "flamingo_eval.report.frame",
    "END_OF_CHUNK": "flamingo_eval.records",
    "Answer": "flamingo_eval.records",
    "Image": "flamingo_eval.records",
    "Pixels": "flamingo_eval.records",
    "Prompt": "flamingo_eval.records",
    "Turn": "flamingo_eval.records",
    "Video": "flamingo_eval.records",
    "DecodeSpec": "flamingo_eval.config.specs",
    "RankSpec": "flamingo_eval.config.specs",
}

__all__ = [
    "END_OF_CHUNK",
    "Answer",
    "DecodeSpec",
    "Evaluation",
    "Image",
    "Pixels",
    "Prompt",
    "RankSpec",
    "Turn",
    "Video",
    "__version__",
    "evaluate",
    "load_model",
    "load_results",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'flamingo_eval' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
