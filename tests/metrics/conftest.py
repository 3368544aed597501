"""What the tests of metrics share."""

from __future__ import annotations

import pytest

from flamingo_eval.errors import MissingDependency
from flamingo_eval.metrics.java import find_java
from flamingo_eval.metrics.wordnet import require_nltk_data


@pytest.fixture(scope="session")
def nltk_data() -> None:
    """WordNet 3.0, tagger and tokenizer, found through NLTK_DATA."""
    try:
        require_nltk_data()
    except MissingDependency as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def java() -> None:
    """A Java that runs."""
    try:
        find_java()
    except MissingDependency as error:
        pytest.skip(str(error))
