"""What a metric needs before its value means something: references of the examples, programs of the machine."""

from __future__ import annotations

from collections.abc import Sequence

from flamingo_eval.metrics import metric_row, own
from flamingo_eval.records import Example


def references_note(name: str, examples: Sequence[Example]) -> str:
    """What to know where examples have too few references for an answer to reach 100; "" where all have enough."""
    if own.is_own(name):
        return ""
    row = metric_row(name)
    n_short = sum(len(e.references) < row.full_marks_from for e in examples if e.references)
    if not n_short:
        return ""
    return (
        f"{n_short:,} of {len(examples):,} queries have fewer than {row.full_marks_from} references, so that even a "
        f"perfect answer does not reach 100: {row.short_of_that}"
    )


def require_installed(name: str) -> None:
    """Whether a metric can be computed here. Raises MissingDependency with the one-line install."""
    requirement = metric_row(name).requires
    if "java" in requirement:
        from flamingo_eval.metrics.java import find_java

        find_java()
    if "nltk" in requirement:
        from flamingo_eval.metrics.wordnet import require_nltk_data

        require_nltk_data()
