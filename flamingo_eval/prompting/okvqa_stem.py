"""Stemming of OK-VQA answers as OpenFlamingo's evaluation does it (open_flamingo/eval/ok_vqa_utils.py).

OK-VQA's references are stemmed (`race boat` for `racing boats`), so an answer that is not stemmed scores 0. The stemmer
of the release was not published. OpenFlamingo's is similar: a table of exceptions, verb lemmas of words in -ing,
singulars of plural nouns, all other words unchanged. It is part of a run's cleaning (CleanSpec.stem_okvqa), not of the
score.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from types import ModuleType

from flamingo_eval.errors import MissingDependency
from flamingo_eval.metrics.wordnet import load_wordnet, require_nltk_data


def require_stemming() -> None:
    """Check that answers can be stemmed. Raises MissingDependency without nltk, its data or inflection."""
    require_nltk_data()
    _inflection()


def stem_okvqa(answer: str) -> str:
    """The answer's words stemmed, joined by spaces. Raises MissingDependency without nltk, its data or inflection."""
    require_stemming()
    from nltk import pos_tag, word_tokenize

    return " ".join(_stem(word, tag) for word, tag in pos_tag(word_tokenize(answer)))


def _stem(word: str, tag: str) -> str:
    table = _table()
    if word in table:
        return table[word]
    if word.endswith("ing"):
        return load_wordnet().lemma(word, "v")
    if tag.startswith(("NNS", "NNPS")):
        return _singular(word)
    return word


@lru_cache(maxsize=1)
def _table() -> dict[str, str]:
    """Exceptions from the rules, one `word stem` per line."""
    text = resources.files(__package__).joinpath("okvqa_words.txt").read_text(encoding="utf-8")
    return dict(line.split() for line in text.split("\n") if line and not line.startswith("#"))


def _singular(word: str) -> str:
    singular: str = _inflection().singularize(word)
    return singular


@lru_cache(maxsize=1)
def _inflection() -> ModuleType:
    try:
        import inflection
    except ImportError as error:
        raise MissingDependency(
            "The stemming of OK-VQA answers needs the package inflection, which is not installed.",
            fix="pip install 'flamingo-eval[wups]'",
        ) from error
    module: ModuleType = inflection
    return module
