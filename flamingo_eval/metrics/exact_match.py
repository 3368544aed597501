"""Exact match (MSVD-QA, MSRVTT-QA, GQA): the answer equals a reference, character by character.

Published video systems classify over a closed list of answers; a generated answer is compared unchanged (Flamingo
names no normalisation). The run cleans generated text, so `exact` is the headline, and the breakdown shows the effect
of other cleaning. Dialects:

    exact        nothing is changed
    normalised   both sides lower-cased, without outer white space, then without one trailing period
    llava        the prediction without trailing periods, then lower-cased; the reference as it is (LLaVA, for GQA)
    vqa_clean    both sides through the punctuation and article rules of VQA accuracy (mmpretrain, for GQA)
    smmile       both sides lower-cased, ASCII punctuation deleted, white space collapsed (SMMILE)

Reads Example.references, and the first word of Example.fields["question"] for the breakdown.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from flamingo_eval.metrics.bootstrap import group_means
from flamingo_eval.metrics.vqa import clean
from flamingo_eval.records import Example, MetricResult, Prediction

NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, no outer white space, no trailing period."""
    return text.lower().strip().removesuffix(".")


def without_punctuation(text: str) -> str:
    """Lower case, no ASCII punctuation, single spaces."""
    return " ".join(text.lower().translate(NO_PUNCTUATION).split())


def _as_it_is(text: str) -> str:
    return text


CLEANERS: Mapping[str, tuple[Callable[[str], str], Callable[[str], str]]] = {  # of the prediction, of the reference
    "exact": (_as_it_is, _as_it_is),
    "normalised": (normalise, normalise),
    "llava": (lambda text: text.rstrip(".").lower(), _as_it_is),
    "vqa_clean": (clean, clean),
    "smmile": (without_punctuation, without_punctuation),
}


def exact_match(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Share of exact matches, 0-100; other dialects' `exact` and `normalised`, and first words, in the breakdown."""
    own_dialect = dialect or "exact"
    values = {
        name: _values(predictions, examples, name) for name in dict.fromkeys((own_dialect, "exact", "normalised"))
    }
    breakdown: dict[str, float | None] = {name: fmean(values[name]) for name in ("exact", "normalised")}
    breakdown |= group_means(values[own_dialect], [_first_word(e) for e in examples], "first word")
    return MetricResult(fmean(values[own_dialect]), tuple(values[own_dialect]), breakdown)


def _values(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str) -> list[float]:
    of_prediction, of_reference = CLEANERS[dialect]
    return [
        100.0 if of_prediction(p.text or "") in [of_reference(r) for r in e.references] else 0.0
        for p, e in zip(predictions, examples, strict=True)
    ]


def _first_word(example: Example) -> str | None:
    words = str(example.fields.get("question", "")).lower().split()
    return words[0] if words else None
