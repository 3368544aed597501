"""Which of several reference answers a demonstration shows. The paper does not say (protocol sheet, section 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flamingo_eval.data.source import Source
from flamingo_eval.errors import ConfigError

CHOICES = ("first", "most_common")


def demonstration_answer(source: Source, references: Sequence[str]) -> str:
    """The reference shown in a prompt: `first`, as in OpenFlamingo, or `most_common` (ties: the earlier one)."""
    choice = source.option("demonstration", "first")
    if choice not in CHOICES:
        choices = " or ".join(CHOICES)
        raise ConfigError(f"task '{source.task.name}', data.options.demonstration: '{choice}' is not {choices}.")
    if not references:
        return ""
    return references[0] if choice == "first" else Counter(references).most_common(1)[0][0]
