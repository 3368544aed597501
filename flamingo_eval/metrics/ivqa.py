"""iVQA accuracy: min(1, annotators who wrote exactly this answer / 2), of five (antoyang/just-ask).

So 0, 0.5 and 1 for none, one, and two or more of them. Strings are compared unchanged. The official CSV reader
turns the answers null, nan, NA, N/A and n/a into missing values; here every cell is text.

Reads Example.references (five answers).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from flamingo_eval.records import Example, MetricResult, Prediction


def ivqa(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """iVQA accuracy, 0-100."""
    values = [100 * min(1.0, e.references.count(p.text or "") / 2) for p, e in zip(predictions, examples, strict=True)]
    return MetricResult(fmean(values), tuple(values))
