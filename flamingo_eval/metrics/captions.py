"""Caption metrics of the COCO toolkit: CIDEr, BLEU-1 to -4, ROUGE-L, METEOR, on its PTB-tokenised text.

Scorers are pycocoevalcap's (tylin/coco-caption in Python 3), values x 100. Text is scored as given; what a protocol
cuts from generated text is cut before. CIDEr's document frequencies come from the references of the scored set: the
score of a subset is not its share of the full score, and one picture alone scores 0 by definition, so it is undefined.

Reads Example.references (one or more captions).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from flamingo_eval.metrics.java import find_java, java_on_path
from flamingo_eval.records import Example, MetricResult, Prediction

Tokenised = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]  # predictions, references of each


def cider(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """CIDEr-D x 100 over all captions of the set."""
    from pycocoevalcap.cider.cider import Cider

    from flamingo_eval.metrics.cider_bootstrap import CiderStatistics

    said, given = _tokenised(predictions, examples)
    if len(said) < 2:
        why = "CIDEr weighs words by how many pictures have them; one picture alone has no weights"
        return MetricResult(None, (None,) * len(said), why_undefined=why, notes=_notes())
    overall, each = Cider().compute_score(*_as_coco(said, given))
    values = tuple(100 * float(v) for v in each)
    return MetricResult(100 * float(overall), values, resample=CiderStatistics(said, given).resample, notes=_notes())


def bleu(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """BLEU-4 x 100 over the corpus (closest reference length), with BLEU-1 to -3 in the breakdown."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    said, given = _tokenised(predictions, examples)

    def scores(rows: Sequence[int]) -> tuple[list[float], list[list[float]]]:
        scorer = BleuScorer(n=4)
        for i in rows:
            scorer += (said[i], list(given[i]))
        overall, each = scorer.compute_score(option="closest", verbose=0)
        return [float(v) for v in overall], each

    overall, each = scores(range(len(said)))
    breakdown: dict[str, float | None] = {f"BLEU-{n}": 100 * v for n, v in enumerate(overall, 1)}
    values = tuple(100 * float(v) for v in each[3])
    return MetricResult(
        100 * overall[3], values, breakdown, resample=lambda rows: 100 * scores(rows.tolist())[0][3], notes=_notes()
    )


def rouge_l(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """ROUGE-L x 100, mean over captions."""
    from pycocoevalcap.rouge.rouge import Rouge

    said, given = _tokenised(predictions, examples)
    overall, each = Rouge().compute_score(*_as_coco(said, given))
    return MetricResult(100 * float(overall), tuple(100 * float(v) for v in each), notes=_notes())


def meteor(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """METEOR 1.5 x 100 over the corpus, by its own Java program."""
    from pycocoevalcap.meteor.meteor import Meteor

    said, given = _tokenised(predictions, examples)
    with java_on_path():
        overall, each = Meteor().compute_score(*_as_coco(said, given))
    return MetricResult(100 * float(overall), tuple(100 * float(v) for v in each), notes=_notes())


def _tokenised(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Tokenised:
    return _tokenise_all(tuple(p.text or "" for p in predictions), tuple(e.references for e in examples))


@lru_cache(maxsize=2)
def _tokenise_all(said: tuple[str, ...], given: tuple[tuple[str, ...], ...]) -> Tokenised:
    """One Java call for all captions; the four metrics of a task share it."""
    from flamingo_eval.metrics.ptb import tokenise

    flat = tokenise([*said, *(r for references in given for r in references)])
    words = iter(flat[len(said) :])
    return tuple(flat[: len(said)]), tuple(tuple(next(words) for _ in references) for references in given)


def _as_coco(said: Sequence[str], given: Sequence[Sequence[str]]) -> tuple[dict[int, Any], dict[int, Any]]:
    """References and predictions by number, as the toolkit wants them."""
    return {i: list(r) for i, r in enumerate(given)}, {i: [s] for i, s in enumerate(said)}


def _notes() -> dict[str, str]:
    java = find_java()
    return {"tokenizer": f"PTB 3.4.1 (Java {java.version}, {java.origin})"}
