"""Metrics: one protocol a file, pinned to the values of the benchmark's own scorer. METRICS is the table.

A metric is a function `(predictions, examples, dialect) -> MetricResult` over aligned sequences, on the 0-100 scale of
published tables. What it reads of an example beyond `references`, `target` and `candidates` is in
`Example.labels`, under the names in its docstring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Literal, Protocol

from flamingo_eval.errors import ConfigError, did_you_mean
from flamingo_eval.metrics import own
from flamingo_eval.records import Example, MetricResult, Prediction


class Metric(Protocol):
    """What every metric is."""

    def __call__(
        self, predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = ""
    ) -> MetricResult: ...


@dataclass(frozen=True, slots=True)
class MetricRow:
    """Where a metric lives, what it needs, and which dialects it has; the first is what an empty dialect means."""

    path: str
    about: str
    needs: Literal["text", "scores"]
    dialects: tuple[str, ...] = ("",)
    title: str = field(kw_only=True)  # in tables and figures
    published: str = ""  # what the sources of published scores call the same quantity
    target: bool = False  # reads Example.target
    labels: tuple[str, ...] = ()  # keys of Example.labels without which there is no value
    optional_labels: tuple[str, ...] = ()  # keys that add a breakdown
    quick: bool = True  # the mean of cheap per-example values: shown during a run
    best_suffices: bool = False  # the best candidate and its score are enough, the others' are not read
    letter_suffices: bool = False  # so is the letter of a choice; an answer without a letter counts as wrong
    full_marks_from: int = 1  # references that an example needs before an answer can reach 100
    short_of_that: str = ""  # what an example with fewer can reach
    reads: str = "flamingo_eval.metrics.exact_match:normalise"  # what makes two answers the same answer (copying.py)
    one_answer: bool = True  # whether one answer alone has a score: rankings of all candidates have none
    requires: tuple[Literal["java", "nltk"], ...] = ()  # `openflamingo` stemming needs nltk as well: okvqa_stem.py


# What a metric reads of an Example. Open-ended: Example.references, at least one. Close-ended: Example.target, the
# index of the right candidate (Hateful Memes: 1 for hateful, candidates [no, yes]). Labels, with their types:
#   answer_type, question_type   str. VQA's; STAR: Interaction, ...; NExT-QA: CW, CH, TN, TC, TP, DB, DC, DL, DO
#   extra_references             tuple[str, ...]. NExT-QA: the second reference if there is one
#   relevance, gt_index          tuple[float, ...] one a candidate; int. VisDial, the densely annotated round
#   class_id, verb, noun         int, str, str. RareAct: one class a row
#   annotation, video_id         int 0-4, str. RareAct
#   video_id                     str. YouCook2: the video whose clips make up one macro CIDEr
#   operator, attribute          str. VL-ICL: +, -, x; size, shape, material, color
#   other_name                   str. ISEKAI: the name that is wrong
#   domain                       str. NoCaps: in-domain, near-domain, out-domain
METRICS: Mapping[str, MetricRow] = {
    "vqa_accuracy": MetricRow(
        "flamingo_eval.metrics.vqa:vqa_accuracy",
        "agreement with ten annotators, each left out in turn",
        "text",
        ("official", "openflamingo", "always_normalised", "textvqa", "vizwiz", "prophet"),
        title="VQA acc.",
        published="vqa_accuracy",
        optional_labels=("answer_type", "question_type"),
        full_marks_from=4,
        short_of_that="one answer always scores 0, two reach 33.3, three 66.7; `exact_match` has no such limit",
        reads="flamingo_eval.metrics.vqa:clean",
    ),
    "exact_match": MetricRow(
        "flamingo_eval.metrics.exact_match:exact_match",
        "equal to a reference, character by character",
        "text",
        ("exact", "normalised", "llava", "vqa_clean", "smmile"),
        title="top-1",
        published="top1_accuracy",
    ),
    "ivqa": MetricRow(
        "flamingo_eval.metrics.ivqa:ivqa",
        "min(1, agreeing annotators / 2), of five",
        "text",
        title="iVQA acc.",
        published="ivqa_accuracy",
        full_marks_from=2,
        short_of_that="one answer reaches 50",
    ),
    "vl_icl_text": MetricRow(
        "flamingo_eval.metrics.vl_icl:text",
        "equal to the answer after the cut of VL-ICL's scorer",
        "text",
        ("official", "stripped", "first_line"),
        published="vl_icl_accuracy",
        title="VL-ICL acc.",
        reads="flamingo_eval.metrics.vl_icl:read_text",
    ),
    "vl_icl_count": MetricRow(
        "flamingo_eval.metrics.vl_icl:count",
        "as vl_icl_text, for counts (CLEVR of VL-ICL)",
        "text",
        ("official", "stripped", "number"),
        title="VL-ICL acc.",
        optional_labels=("attribute",),
        published="vl_icl_accuracy",
        reads="flamingo_eval.metrics.vl_icl:read_number",
    ),
    "vl_icl_number": MetricRow(
        "flamingo_eval.metrics.vl_icl:number",
        "the first digits are the answer; a sign is not read (VL-ICL's operator induction)",
        "text",
        ("official", "signed"),
        title="VL-ICL acc.",
        optional_labels=("operator",),
        published="vl_icl_accuracy",
        reads="flamingo_eval.metrics.vl_icl:read_number",
    ),
    "vl_icl_yes_no": MetricRow(
        "flamingo_eval.metrics.vl_icl:yes_no",
        "`yes` is part of the text or not (VL-ICL's matching)",
        "text",
        ("official", "yes_or_no"),
        title="VL-ICL acc.",
        reads="flamingo_eval.metrics.vl_icl:read_yes_no",
    ),
    "true_micl": MetricRow(
        "flamingo_eval.metrics.true_micl:true_micl",
        "the number that the answer names, with its sign, or its first line (TrueMICL)",
        "text",
        ("answer", "exact"),
        title="TrueMICL acc.",
        optional_labels=("operator",),
        reads="flamingo_eval.metrics.true_micl:read_answer",
    ),
    "isekai": MetricRow(
        "flamingo_eval.metrics.isekai:isekai",
        "the right name is part of the answer, the other one is not (ISEKAI)",
        "text",
        ("official", "any_case"),
        title="ISEKAI acc.",
        labels=("other_name",),
        reads="flamingo_eval.metrics.isekai:read_name",
    ),
    "wups": MetricRow(
        "flamingo_eval.metrics.wups:wups",
        "Wu-Palmer similarity of words on WordNet 3.0, NExT-QA's rule",
        "text",
        title="WUPS",
        published="wups",
        labels=("question_type",),
        optional_labels=("extra_references",),
        quick=False,
        requires=("nltk",),
    ),
    "cider": MetricRow(
        "flamingo_eval.metrics.captions:cider",
        "CIDEr-D x 100 on PTB tokens",
        "text",
        title="CIDEr",
        published="cider",
        optional_labels=("video_id", "domain"),
        quick=False,
        requires=("java",),
        reads="flamingo_eval.metrics.captions:words_of",
    ),
    "bleu": MetricRow(
        "flamingo_eval.metrics.captions:bleu", "BLEU-4 x 100", "text", title="BLEU-4", quick=False, requires=("java",)
    ),
    "rouge_l": MetricRow(
        "flamingo_eval.metrics.captions:rouge_l",
        "ROUGE-L x 100",
        "text",
        title="ROUGE-L",
        quick=False,
        requires=("java",),
    ),
    "meteor": MetricRow(
        "flamingo_eval.metrics.captions:meteor",
        "METEOR 1.5 x 100",
        "text",
        title="METEOR",
        quick=False,
        requires=("java",),
    ),
    "top1": MetricRow(
        "flamingo_eval.metrics.top_k:top1",
        "the best candidate is the right one",
        "scores",
        title="top-1",
        published="top1_accuracy",
        target=True,
        best_suffices=True,
        letter_suffices=True,
    ),
    "top1_top5_mean": MetricRow(
        "flamingo_eval.metrics.top_k:top1_top5_mean",
        "mean of top-1 and top-5 accuracy (Kinetics)",
        "scores",
        title="mean top-1/5",
        published="mean_top1_top5",
        target=True,
        one_answer=False,
    ),
    "star_mean": MetricRow(
        "flamingo_eval.metrics.star:star_mean",
        "accuracy, unweighted mean over question types",
        "scores",
        title="mean of types",
        published="top1_accuracy",
        target=True,
        labels=("question_type",),
        quick=False,
        best_suffices=True,
        letter_suffices=True,
    ),
    "ndcg": MetricRow(
        "flamingo_eval.metrics.ndcg:ndcg",
        "NDCG of the candidates by annotated relevance (VisDial)",
        "scores",
        title="NDCG",
        published="ndcg",
        labels=("relevance",),
        optional_labels=("gt_index",),
        one_answer=False,
    ),
    "roc_auc": MetricRow(
        "flamingo_eval.metrics.roc_auc:roc_auc",
        "ROC AUC of P(yes)",
        "scores",
        title="ROC AUC",
        published="roc_auc",
        target=True,
        quick=False,
        letter_suffices=True,
    ),
    "mwap": MetricRow(
        "flamingo_eval.metrics.rareact:mwap",
        "mean weighted average precision over the classes with a positive (RareAct)",
        "scores",
        title="mWAP",
        published="mwap",
        labels=("class_id", "verb", "noun", "annotation", "video_id"),
        quick=False,
        one_answer=False,
    ),
    "msap": MetricRow(
        "flamingo_eval.metrics.rareact:msap",
        "mean sampled average precision, 100 seeded draws of one clip a video (RareAct)",
        "scores",
        title="mSAP",
        labels=("class_id", "verb", "noun", "annotation", "video_id"),
        quick=False,
        one_answer=False,
    ),
}


def metric_row(name: str) -> MetricRow:
    """A row of METRICS, or of a metric of your own that is loaded. Raises ConfigError with the nearest name."""
    if own.is_own(name):
        return MetricRow("", "your own", own.loaded(name).needs, title=name, quick=False)
    if name not in METRICS:
        hint = did_you_mean(name, METRICS)
        raise ConfigError(f"unknown metric '{name}'. {hint}".rstrip(), fix=f"Known: {', '.join(METRICS)}.")
    return METRICS[name]


def load_metric(name: str) -> Metric:
    """The function of a metric, imported on first use. Raises ConfigError."""
    return own.loaded(name) if own.is_own(name) else _load_shipped(name)


@cache
def _load_shipped(name: str) -> Metric:
    module, function = metric_row(name).path.split(":")
    metric: Metric = getattr(import_module(module), function)
    return metric


@cache
def answer_reader(name: str) -> Callable[[str], str]:
    """What a metric compares of an answer: two answers are equal if this is equal. Imported on first use."""
    module, function = metric_row(name).reads.split(":")
    reader: Callable[[str], str] = getattr(import_module(module), function)
    return reader
