"""Caption metrics of the COCO toolkit: CIDEr, BLEU-1 to -4, ROUGE-L, METEOR, on its PTB-tokenised text.

Scorers are pycocoevalcap's (tylin/coco-caption in Python 3), values x 100. The text is scored unchanged; the protocol
cleans it before. CIDEr's document frequencies come from the references of the scored set: the score of a subset is not
its share of the full score, and one picture alone scores 0 by definition, so it is undefined.

YouCook2 is reported micro, with every clip of the split as one item. Its macro mode (LuoweiZhou/densevid_eval_spice)
scores the clips of each video among themselves, on text without non-ASCII characters, and averages over videos. NoCaps
is reported by domain; it is not known whether the evaluation server takes document frequencies from the domain or from
all pictures, so the breakdown has both.

Reads Example.references (one or more captions); labels `video_id` (macro) and `domain`, if present, for the breakdown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean
from typing import Any

from flamingo_eval.metrics.bootstrap import group_means
from flamingo_eval.metrics.java import find_java
from flamingo_eval.records import Example, MetricResult, Prediction

WORDS = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
Tokenised = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]  # predictions, references of each


def cider(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """CIDEr-D x 100 over all captions of the set."""
    from pycocoevalcap.cider.cider import Cider

    from flamingo_eval.metrics.cider_bootstrap import CiderStatistics

    candidates, references = _tokenised(predictions, examples)
    if len(candidates) < 2:
        why = "CIDEr weighs words by how many pictures have them; one picture alone has no weights"
        return MetricResult(None, (None,) * len(candidates), why_undefined=why, notes=_notes())
    overall, per_caption = Cider().compute_score(*_as_coco(candidates, references))
    values = tuple(100 * float(v) for v in per_caption)
    breakdown: dict[str, float | None] = {}
    breakdown |= _by_domain(candidates, references, values, [e.labels.get("domain") for e in examples])
    videos = [e.labels.get("video_id") for e in examples]
    if all(v is not None for v in videos):
        breakdown["macro"] = _macro(predictions, examples, videos)
    resample = CiderStatistics(candidates, references).resample
    return MetricResult(100 * float(overall), values, breakdown, resample=resample, notes=_notes())


def _by_domain(
    candidates: Sequence[str], references: Sequence[Sequence[str]], values: Sequence[float], domains: Sequence[object]
) -> dict[str, float]:
    """CIDEr of each domain, with document frequencies from the domain, and from all pictures."""
    names = [None if d is None else str(d) for d in domains]
    within_domain = {
        f"domain: {name}": _corpus_cider([i for i, d in enumerate(names) if d == name], candidates, references)
        for name in sorted({d for d in names if d is not None})
    }
    return within_domain | group_means(values, names, "domain, frequencies of all")


def _macro(predictions: Sequence[Prediction], examples: Sequence[Example], videos: Sequence[object]) -> float:
    """Mean over videos of the CIDEr of their clips; a video with one clip counts as 0, as in the original."""
    candidates, references = _tokenise_all(
        tuple(_ascii(p.text or "") for p in predictions), tuple(tuple(map(_ascii, e.references)) for e in examples)
    )
    clips: dict[object, list[int]] = {}
    for i, video in enumerate(videos):
        clips.setdefault(video, []).append(i)
    return fmean(_corpus_cider(rows, candidates, references) for rows in clips.values())


def _corpus_cider(rows: Sequence[int], candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr x 100 of some rows among themselves."""
    from pycocoevalcap.cider.cider import Cider

    overall, _ = Cider().compute_score(*_as_coco([candidates[i] for i in rows], [references[i] for i in rows]))
    return 100 * float(overall)


def _ascii(text: str) -> str:
    return "".join(c if c.isascii() else " " for c in text)


def bleu(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """BLEU-4 x 100 over the corpus (closest reference length), with BLEU-1 to -3 in the breakdown."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    candidates, references = _tokenised(predictions, examples)

    def scores(rows: Sequence[int]) -> tuple[list[float], list[list[float]]]:
        scorer = BleuScorer(n=4)
        for i in rows:
            scorer += (candidates[i], list(references[i]))
        overall, per_caption = scorer.compute_score(option="closest", verbose=0)
        return [float(v) for v in overall], per_caption

    overall, per_caption = scores(range(len(candidates)))
    breakdown: dict[str, float | None] = {f"BLEU-{n}": 100 * v for n, v in enumerate(overall, 1)}
    values = tuple(100 * float(v) for v in per_caption[3])
    return MetricResult(
        100 * overall[3], values, breakdown, resample=lambda rows: 100 * scores(rows.tolist())[0][3], notes=_notes()
    )


def rouge_l(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """ROUGE-L x 100, mean over captions."""
    from pycocoevalcap.rouge.rouge import Rouge

    candidates, references = _tokenised(predictions, examples)
    overall, per_caption = Rouge().compute_score(*_as_coco(candidates, references))
    return MetricResult(100 * float(overall), tuple(100 * float(v) for v in per_caption), notes=_notes())


def meteor(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """METEOR 1.5 x 100 over the corpus, by its own Java program."""
    from flamingo_eval.metrics.meteor import meteor_scores

    overall, per_caption = meteor_scores(*_tokenised(predictions, examples))
    return MetricResult(100 * overall, tuple(100 * v for v in per_caption), notes=_notes())


def words_of(caption: str) -> str:
    """The words of a caption in lower case, without punctuation: two captions with the same words are equal
    (copying.py).
    """
    return " ".join(WORDS.findall(caption.lower()))


def _tokenised(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Tokenised:
    return _tokenise_all(tuple(p.text or "" for p in predictions), tuple(e.references for e in examples))


@lru_cache(maxsize=2)
def _tokenise_all(candidates: tuple[str, ...], reference_lists: tuple[tuple[str, ...], ...]) -> Tokenised:
    """One Java call for all captions; the four metrics of a task share it."""
    from flamingo_eval.metrics.ptb import tokenise

    flat = tokenise([*candidates, *(r for references in reference_lists for r in references)])
    words = iter(flat[len(candidates) :])
    return tuple(flat[: len(candidates)]), tuple(
        tuple(next(words) for _ in references) for references in reference_lists
    )


def _as_coco(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[dict[int, Any], dict[int, Any]]:
    """References and predictions by number, as the toolkit needs them."""
    return {i: list(r) for i, r in enumerate(references)}, {i: [s] for i, s in enumerate(candidates)}


def _notes() -> dict[str, str]:
    java = find_java()
    return {"tokenizer": f"PTB 3.4.1 (Java {java.version}, {java.origin})"}
