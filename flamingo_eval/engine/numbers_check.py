"""Checks a model's results for NaN and infinity. A query with such results fails: no answer, no score.

In float16 one activation above 65504 makes every logit NaN, and a damaged weight does so in any type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from flamingo_eval.errors import ModelError
from flamingo_eval.records import Image, Pixels, Video

_FIXES = {
    torch.float16: "float16 ends at 65504: use --dtype bfloat16 or float32. If that fails too, a weight is damaged.",
    torch.bfloat16: "Try --dtype float32. If that fails too, a weight is damaged: copy or convert the model again.",
}
_DAMAGED = "A weight is damaged: copy or convert the model again."


def check_scores(id: str, scores: Sequence[float], dtype: torch.dtype) -> ModelError | None:
    """The error of a query whose candidate scores contain NaN or are all minus infinity; None if they are fine."""
    if any(math.isnan(score) for score in scores):
        return no_numbers(id, "scores of candidates", dtype)
    if scores and all(math.isinf(score) for score in scores):
        return ModelError(
            f"{id or 'prompt'}: all candidates score minus infinity, so none is the best.",
            fix="Each contains a token without an output row in the model (the end-of-chunk token?).",
        )
    return None


def no_numbers(id: str, what: str, dtype: torch.dtype) -> ModelError:
    """The error of a query for which the model computed NaN; it names the query's id."""
    kind = str(dtype).removeprefix("torch.")
    return ModelError(
        f"{id or 'prompt'}: the model's results are NaN in {kind}: {what}.",
        fix=_FIXES.get(dtype, _DAMAGED),
    )


def no_visual_tokens(media: Image | Video | Pixels, dtype: torch.dtype) -> ModelError:
    """The error of a picture or clip whose visual tokens are NaN or infinite."""
    name = "given pixels" if isinstance(media, Pixels) else str(media.path)
    return no_numbers(name, "visual tokens", dtype)
