"""Metrics: one protocol a file, pinned to the values of the benchmark's own scorer. METRICS is the table.

A metric is a function `(predictions, examples, dialect) -> MetricResult` over aligned sequences, on the 0-100 scale of
published tables. What it reads of an example beyond `references`, `target` and `candidates` stands in
`Example.labels`, under the names that its docstring gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal, Protocol

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.errors import ConfigError, DataError, MissingDependency, Problem, did_you_mean
from flamingo_eval.metrics.bootstrap import bootstrap, draws_note
from flamingo_eval.records import Example, MetricResult, Prediction, Score


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
    target: bool = False  # reads Example.target
    labels: tuple[str, ...] = ()  # keys of Example.labels without which there is no value
    optional_labels: tuple[str, ...] = ()  # keys that add a breakdown
    quick: bool = True  # the mean of cheap per-example values: shown while a run goes on
    best_suffices: bool = False  # the best candidate and its score are enough, the others' are not read
    requires: tuple[Literal["java", "nltk"], ...] = ()  # `openflamingo` stemming needs nltk as well: okvqa_stem.py


# What a metric reads of an Example. Open-ended: Example.references, at least one. Close-ended: Example.target, the
# index of the right candidate (Hateful Memes: 1 for hateful, candidates [no, yes]). Labels, with their types:
#   answer_type, question_type   str. VQA's; STAR: Interaction, ...; NExT-QA: CW, CH, TN, TC, TP, DB, DC, DL, DO
#   extra_references             tuple[str, ...]. NExT-QA: the second reference where there is one
#   relevance, gt_index          tuple[float, ...] one a candidate; int. VisDial, the densely annotated round
#   class_id, verb, noun         int, str, str. RareAct: one class a row
#   annotation, video_id         int 0-4, str. RareAct
#   video_id                     str. YouCook2: the video whose clips make up one macro CIDEr
#   operator, attribute          str. VL-ICL: +, -, x; size, shape, material, color
#   domain                       str. NoCaps: in-domain, near-domain, out-domain
METRICS: Mapping[str, MetricRow] = {
    "vqa_accuracy": MetricRow(
        "flamingo_eval.metrics.vqa:vqa_accuracy",
        "agreement with ten annotators, each left out in turn",
        "text",
        ("official", "openflamingo", "always_normalised", "textvqa", "vizwiz", "prophet"),
        optional_labels=("answer_type", "question_type"),
    ),
    "exact_match": MetricRow(
        "flamingo_eval.metrics.exact_match:exact_match",
        "equal to a reference, character by character",
        "text",
        ("exact", "normalised", "llava", "vqa_clean"),
    ),
    "vl_icl_text": MetricRow(
        "flamingo_eval.metrics.vl_icl:text",
        "equal to the answer after the cut of VL-ICL's scorer",
        "text",
        ("official", "stripped", "first_line"),
    ),
    "vl_icl_count": MetricRow(
        "flamingo_eval.metrics.vl_icl:count",
        "the same for counts (CLEVR of VL-ICL)",
        "text",
        ("official", "stripped", "number"),
        optional_labels=("attribute",),
    ),
    "vl_icl_number": MetricRow(
        "flamingo_eval.metrics.vl_icl:number",
        "the first digits are the answer; a sign is not read (VL-ICL's operator induction)",
        "text",
        ("official", "signed"),
        optional_labels=("operator",),
    ),
    "vl_icl_yes_no": MetricRow(
        "flamingo_eval.metrics.vl_icl:yes_no",
        "`yes` is part of the text or not (VL-ICL's matching)",
        "text",
        ("official", "yes_or_no"),
    ),
    "ivqa": MetricRow("flamingo_eval.metrics.ivqa:ivqa", "min(1, agreeing annotators / 2), of five", "text"),
    "wups": MetricRow(
        "flamingo_eval.metrics.wups:wups",
        "Wu-Palmer similarity of words on WordNet 3.0, NExT-QA's rule",
        "text",
        labels=("question_type",),
        optional_labels=("extra_references",),
        quick=False,
        requires=("nltk",),
    ),
    "cider": MetricRow(
        "flamingo_eval.metrics.captions:cider",
        "CIDEr-D x 100 on PTB tokens",
        "text",
        optional_labels=("video_id", "domain"),
        quick=False,
        requires=("java",),
    ),
    "bleu": MetricRow("flamingo_eval.metrics.captions:bleu", "BLEU-4 x 100", "text", quick=False, requires=("java",)),
    "rouge_l": MetricRow(
        "flamingo_eval.metrics.captions:rouge_l", "ROUGE-L x 100", "text", quick=False, requires=("java",)
    ),
    "meteor": MetricRow(
        "flamingo_eval.metrics.captions:meteor", "METEOR 1.5 x 100", "text", quick=False, requires=("java",)
    ),
    "top1": MetricRow(
        "flamingo_eval.metrics.top_k:top1",
        "the best candidate is the right one",
        "scores",
        target=True,
        best_suffices=True,
    ),
    "top1_top5_mean": MetricRow(
        "flamingo_eval.metrics.top_k:top1_top5_mean",
        "mean of top-1 and top-5 accuracy (Kinetics)",
        "scores",
        target=True,
    ),
    "star_mean": MetricRow(
        "flamingo_eval.metrics.star:star_mean",
        "accuracy, unweighted mean over question types",
        "scores",
        target=True,
        labels=("question_type",),
        quick=False,
        best_suffices=True,
    ),
    "ndcg": MetricRow(
        "flamingo_eval.metrics.ndcg:ndcg",
        "NDCG of the candidates by annotated relevance (VisDial)",
        "scores",
        labels=("relevance",),
        optional_labels=("gt_index",),
    ),
    "roc_auc": MetricRow(
        "flamingo_eval.metrics.roc_auc:roc_auc", "ROC AUC of P(yes)", "scores", target=True, quick=False
    ),
    "mwap": MetricRow(
        "flamingo_eval.metrics.rareact:mwap",
        "mean weighted average precision over the classes with a positive (RareAct)",
        "scores",
        labels=("class_id", "verb", "noun", "annotation", "video_id"),
        quick=False,
    ),
    "msap": MetricRow(
        "flamingo_eval.metrics.rareact:msap",
        "mean sampled average precision, 100 seeded draws of one clip a video (RareAct)",
        "scores",
        labels=("class_id", "verb", "noun", "annotation", "video_id"),
        quick=False,
    ),
}


def metric_row(name: str) -> MetricRow:
    """A row of METRICS. Raises ConfigError with the nearest known name."""
    if name not in METRICS:
        hint = did_you_mean(name, METRICS)
        raise ConfigError(f"unknown metric '{name}'. {hint}".rstrip(), fix=f"Known: {', '.join(METRICS)}.")
    return METRICS[name]


@cache
def load_metric(name: str) -> Metric:
    """The function of a metric, imported on first use."""
    module, function = metric_row(name).path.split(":")
    metric: Metric = getattr(import_module(module), function)
    return metric


def dialect_of(spec: MetricSpec, protocol: str = "") -> str:
    """The dialect that counts: the task's where it names one, else the protocol's, else the metric's first.

    A protocol's dialect that the metric does not have is passed over: protocols name the dialect of VQA accuracy, and
    their other tasks have other metrics. A task's unknown dialect is an error.
    """
    known = metric_row(spec.name).dialects
    if spec.dialect and spec.dialect not in known:
        hint = did_you_mean(spec.dialect, known)
        raise ConfigError(
            f"metric '{spec.name}' has no dialect '{spec.dialect}'. {hint}".rstrip(), fix=f"Known: {', '.join(known)}."
        )
    return spec.dialect or (protocol if protocol in known else known[0])


def require_installed(name: str) -> None:
    """Whether a metric can be computed here. Raises MissingDependency with the one-line install."""
    needed = metric_row(name).requires
    if "java" in needed:
        from flamingo_eval.metrics.java import find_java

        find_java()
    if "nltk" in needed:
        from flamingo_eval.metrics.wordnet import require_nltk_data

        require_nltk_data()


def check_inputs(name: str, predictions: Sequence[Prediction], examples: Sequence[Example]) -> None:
    """Whether the rows have what the metric reads. Raises DataError naming the first rows that do not."""
    row = metric_row(name)
    problems: list[Problem] = []
    for prediction, example in zip(predictions, examples, strict=True):
        lacking = [f"label '{key}'" for key in row.labels if key not in example.labels]
        if row.needs == "text" and not example.references:
            lacking.append("references")
        if row.target and example.target is None:
            lacking.append("target")
        given = prediction.text if row.needs == "text" else prediction.scores
        if given is None and not (row.best_suffices and prediction.best is not None):
            lacking.append("a predicted text" if row.needs == "text" else "candidate scores")
        if lacking:
            problems.append(Problem(f"'{example.id}' has no {', no '.join(lacking)}."))
    if problems:
        fix = f"The task's layout does not give what {name} reads; `flamingo-eval list metrics` names other metrics."
        raise DataError(f"metric {name}: {len(problems)} of {len(examples)} examples cannot be scored", problems, fix)


def score_all(
    predictions: Sequence[Prediction],
    examples: Sequence[Example],
    metrics: Sequence[MetricSpec],
    *,
    dialect: str = "",
    n_failed: int = 0,
    keep_unscored: bool = False,
) -> tuple[list[Score], list[float | None]]:
    """Every metric of a task with its interval, and the per-example values of the first (the headline).

    `dialect` is the protocol's wish for metrics whose task names none. Predictions and examples are aligned. A metric
    that needs what is not installed raises MissingDependency, or with `keep_unscored` is undefined and says why.
    """
    scores: list[Score] = []
    headline: list[float | None] = [None] * len(predictions)
    for i, spec in enumerate(metrics):
        chosen = dialect_of(spec, dialect)
        if not predictions:
            why = "no query was answered"
            scores.append(Score(spec.name, None, 0, n_failed, why_undefined=why))
            continue
        check_inputs(spec.name, predictions, examples)
        try:
            result = load_metric(spec.name)(predictions, examples, chosen)
        except MissingDependency as missing:
            if not keep_unscored:
                raise
            why = " ".join(str(missing).split())
            scores.append(Score(spec.name, None, len(predictions), n_failed, why_undefined=why, unscored=True))
            continue
        ci95, draws = bootstrap(result, [e.media_id for e in examples])
        notes = {"dialect": chosen, **result.notes} if chosen else dict(result.notes)
        if remark := draws_note(draws):
            notes["bootstrap"] = remark
        scores.append(
            Score(
                spec.name,
                result.value,
                len(predictions),
                n_failed,
                ci95,
                result.why_undefined,
                breakdown=dict(result.breakdown),
                notes=notes,
                draws=draws,
            )
        )
        if i == 0:
            headline = list(result.per_example)
    return scores, headline
