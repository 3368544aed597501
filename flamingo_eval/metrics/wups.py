"""WUPS of NExT-QA's open-ended questions (doc-doc/NExT-OE, eval_oe.py and metrics.py), the headline at threshold 0.

Both sides are lemmatised (Porter stem if WordNet does not know the lemma), and 156 stop words are removed, but not no,
not, before, after, in, on, up and down. Each word then takes its best Wu-Palmer match on the other side; words without
any match are skipped, the others multiplied, and the lesser of the two directions counts. Two empty sides score 0.

    CW, CH, TN, TP, TC, DL, DO   the better of the two references, if there is a second one
    DB, DC (yes or no, count)    equal to a reference after this preparation, 1 or 0

Mean over questions. The breakdown has WUPS_C, WUPS_T, WUPS_D, every type (TP counts as TN) and threshold 0.9, which
multiplies lower similarities by 0.1. WordNet 3.0 and the similarity of nltk 3.3: see wordnet.py. The tokenizer and the
tagger are those of the installed NLTK.

Reads Example.references (one answer), labels `question_type` and, if there is one, `extra_references`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import fmean
from typing import cast

from flamingo_eval.metrics.bootstrap import group_means
from flamingo_eval.metrics.wordnet import WuPalmer, load_wordnet, require_nltk_data
from flamingo_eval.records import Example, MetricResult, Prediction

_STOP_WORDS = """
i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself yourselves he him his himself
she she's her hers herself it it's its itself they them their theirs themselves what which who whom this that that'll
these those am is are was were be been being have has had having do does did doing a an the and but if or because as
until while to from of at for with about into through during again further then here there when where why how all any
each most other some such only own so than too very s t can will just don don't should should've now d ll m o re ve y
ain aren aren't couldn couldn't didn didn't doesn doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma mightn
mightn't mustn mustn't needn needn't shan shan't shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
EXACT_TYPES = ("DB", "DC")
LOWERED = 0.1  # factor of similarities below the threshold
PARTS = {"NN": "n", "JJ": "a", "VB": "v", "RB": "r"}  # Penn tags by their first two letters


def wups(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """WUPS at threshold 0, 0-100. Raises MissingDependency without nltk or its data."""
    version = require_nltk_data()
    similarity = _similarity()
    values, strict = [], []
    for prediction, example in zip(predictions, examples, strict=True):
        answer = prepare(prediction.text or "")
        prepared_references = [prepare(r) for r in (*example.references[:1], *_extra(example))]
        kind = str(example.labels["question_type"])
        values.append(100 * max(answer_score(answer, g, kind, 0.0, similarity) for g in prepared_references))
        strict.append(100 * max(answer_score(answer, g, kind, 0.9, similarity) for g in prepared_references))
    types = ["TN" if t == "TP" else t for t in (str(e.labels["question_type"]) for e in examples)]
    breakdown: dict[str, float | None] = {}
    breakdown |= group_means(values, [t[:1] for t in types], "WUPS")
    breakdown |= group_means(values, types, "question_type")
    breakdown["WUPS at 0.9"] = fmean(strict)
    notes = {"similarity": "Wu-Palmer as nltk 3.3, WordNet 3.0", "tokenizer and tagger": f"nltk {version}"}
    return MetricResult(fmean(values), tuple(values), breakdown, notes=notes)


def _extra(example: Example) -> tuple[str, ...]:
    return cast(tuple[str, ...], example.labels.get("extra_references", ()))


def answer_score(
    answer: str, reference: str, kind: str, threshold: float, similarity: Callable[[str, str], float]
) -> float:
    """Score of a prepared answer against a prepared reference, 0-1."""
    if kind in EXACT_TYPES:
        return float(answer == reference)
    one, other = _tokens(answer), _tokens(reference)
    return min(_directed(one, other, threshold, similarity), _directed(other, one, threshold, similarity))


def _directed(
    words: Sequence[str], others: Sequence[str], threshold: float, similarity: Callable[[str, str], float]
) -> float:
    """Product over the words of their best match; words without a match are skipped; 0 if all are skipped."""
    product, has_match = 1.0, False
    for word in words:
        best = max((_lowered(word, other, threshold, similarity) for other in others), default=0.0)
        if best:
            product *= best
            has_match = True
    return product if has_match else 0.0


def _lowered(one: str, other: str, threshold: float, similarity: Callable[[str, str], float]) -> float:
    value = similarity(one, other)
    return LOWERED * value if one != other and value < threshold else value


@lru_cache(maxsize=100_000)
def prepare(sentence: str) -> str:
    """Lemmas of the sentence's words without the stop words, joined by spaces."""
    from nltk import pos_tag

    lemmas = [_lemma(word.lower(), tag) for word, tag in pos_tag(_tokens(sentence))]
    return " ".join(lemma for lemma in lemmas if lemma not in STOP_WORDS)


@lru_cache(maxsize=100_000)
def _lemma(word: str, tag: str) -> str:
    """WordNet's lemma if WordNet knows it, else the Porter stem if it knows that, else the word."""
    from nltk import pos_tag

    part = PARTS.get(tag[:2]) or PARTS.get(pos_tag([word])[0][1][:2], "n")
    wordnet = load_wordnet()
    lemma = wordnet.lemma(word, part)
    if wordnet.first_sense(lemma):
        return lemma
    stem = _porter()(word)
    return stem if wordnet.first_sense(stem) else word


@lru_cache(maxsize=1)
def _porter() -> Callable[[str], str]:
    from nltk.stem import PorterStemmer

    stem: Callable[[str], str] = PorterStemmer().stem
    return stem


@lru_cache(maxsize=1)
def _similarity() -> Callable[[str, str], float]:
    return WuPalmer(load_wordnet()).of_words


def _tokens(text: str) -> list[str]:
    from nltk import word_tokenize

    words: list[str] = word_tokenize(text)
    return words
