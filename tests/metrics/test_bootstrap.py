"""Intervals, comparisons and degenerate cases."""

from __future__ import annotations

import numpy as np
import pytest

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.errors import ConfigError, DataError, UsageError
from flamingo_eval.metrics import METRICS, load_metric, metric_row
from flamingo_eval.metrics.bootstrap import bootstrap, draws_note, interval, over_seeds, paired
from flamingo_eval.metrics.dialects import dialect_of, own_dialect
from flamingo_eval.metrics.rareact import RankedRows
from flamingo_eval.metrics.requirements import references_note
from flamingo_eval.metrics.roc_auc import RankedScores
from flamingo_eval.metrics.scoring import score_all
from flamingo_eval.metrics.vqa import question_accuracy
from flamingo_eval.records import Example, MetricResult, Prediction
from tests.support.metrics_golden import case


def rows(values: list[float]) -> MetricResult:
    return MetricResult(sum(values) / len(values), tuple(values))


def test_interval_covers_the_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        values = rng.normal(50, 10, size=60).tolist()
        ci95, _ = bootstrap(rows(values), [str(i) for i in range(60)], draws=200)
        assert ci95 is not None
        inside += ci95[0] <= 50 <= ci95[1]
    assert 86 <= inside <= 99


def test_rows_of_one_picture_are_drawn_together() -> None:
    """Ten equal copies of a row are no more evidence than one."""
    rng = np.random.default_rng(1)
    values = rng.normal(50, 10, size=40).tolist()
    once, _ = bootstrap(rows(values), [str(i) for i in range(40)])
    copies, _ = bootstrap(rows(values * 10), [str(i) for i in range(40)] * 10)
    apart, _ = bootstrap(rows(values * 10), [str(i) for i in range(400)])
    assert once is not None
    assert copies == pytest.approx(once, abs=1e-3)
    assert apart is not None
    assert apart[1] - apart[0] < (once[1] - once[0]) / 2


def test_draws_do_not_depend_on_the_order_of_rows() -> None:
    values, ids = [1.0, 2.0, 4.0, 8.0, 16.0], list("abcde")
    _, forward = bootstrap(rows(values), ids)
    _, backward = bootstrap(rows(values[::-1]), ids[::-1])
    assert forward == backward


def test_paired_comparison_sees_what_separate_intervals_hide() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(50, 20, size=100)
    b = a + rng.normal(2, 1, size=100)
    ids = [str(i) for i in range(100)]
    (ci_a, draws_a), (ci_b, draws_b) = (bootstrap(rows(x.tolist()), ids) for x in (a, b))
    assert ci_a is not None
    assert ci_b is not None
    assert ci_a[1] > ci_b[0]  # they overlap
    comparison = paired(a.mean(), b.mean(), draws_a, draws_b)
    assert comparison is not None
    assert comparison.ci95[0] > 1
    assert comparison.p_value < 0.01
    same = paired(a.mean(), a.mean(), draws_a, draws_a)
    assert same is not None
    assert same.p_value == 1.0
    assert paired(1.0, 2.0, (), draws_b) is None


def test_seeds_are_averaged_draw_by_draw_and_their_spread_stays_apart() -> None:
    summary = over_seeds([10.0, 20.0], [(9.0, 10.0, 11.0), (19.0, 20.0, 21.0)])
    assert summary.value == 15.0
    assert summary.draws == (14.0, 15.0, 16.0)
    assert summary.ci95 == interval((14.0, 15.0, 16.0), 15.0)
    assert summary.spread == pytest.approx(7.0710678)
    assert over_seeds([10.0], [(9.0, 11.0)]).spread is None
    assert over_seeds([10.0, 20.0], [(9.0,), ()]).ci95 is None


@pytest.mark.parametrize("seed", range(5))
def test_weighted_areas_equal_scikit_learn(seed: int) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, size=60).astype(float)  # many ties
    truth = rng.random(60) < 0.4
    weights = rng.integers(0, 4, size=60).astype(float)
    auc = RankedScores(scores.tolist(), truth.tolist()).auc(weights)
    assert auc == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights), abs=1e-12)
    precision = RankedRows(scores, truth).average_precision(weights)
    assert precision == pytest.approx(average_precision_score(truth, scores, sample_weight=weights), abs=1e-12)


def test_auc_of_one_class_is_undefined() -> None:
    examples = [Example(str(i), (), str(i), target=0) for i in range(3)]
    predictions = [Prediction(str(i), scores=(-1.0, -2.0 - i)) for i in range(3)]
    (score,), _ = score_all(predictions, examples, [MetricSpec("roc_auc")])
    assert score.value is None
    assert score.ci95 is None
    assert "one class" in score.why_undefined


def hateful(positives: int, of: int) -> tuple[list[Prediction], list[Example]]:
    examples = [Example(str(i), (), str(i), target=int(i < positives)) for i in range(of)]
    return [Prediction(e.id, scores=(0.0, -0.1 * (i * 7 % of))) for i, e in enumerate(examples)], examples


def test_draws_without_a_value_are_counted_and_never_filled() -> None:
    """One positive among 40 is missing from a bootstrap sample more than every third time."""
    (rare,), _ = score_all(*hateful(1, 40), [MetricSpec("roc_auc")])
    lacking = sum(d is None for d in rare.draws)
    assert 300 < lacking < 440
    assert rare.value is not None
    assert rare.ci95 is None
    assert rare.notes["bootstrap"] == f"undefined on {lacking} of 1,000 draws, too many, so there is no interval"
    (some,), _ = score_all(*hateful(4, 40), [MetricSpec("roc_auc")])
    assert some.ci95 is not None
    assert some.notes["bootstrap"].startswith("undefined on ")
    assert "interval" not in some.notes["bootstrap"]
    assert paired(1.0, 2.0, rare.draws, some.draws) is None
    mended = paired(50.0, 60.0, some.draws, tuple(None if d is None else d + 10 for d in some.draws))
    assert mended is not None
    assert mended.ci95 == pytest.approx((10.0, 10.0))


def test_a_draw_counts_for_the_mean_of_seeds_where_every_seed_has_it() -> None:
    summary = over_seeds([10.0, 20.0], [(9.0, None, *[10.0] * 18), (19.0, 20.0, *[20.0] * 18)])
    assert summary.draws[:3] == (14.0, None, 15.0)
    assert summary.ci95 is not None


def test_queries_that_all_scored_alike_show_no_doubt_and_claim_none() -> None:
    examples = [Example(str(i), (), str(i), references=("cat",)) for i in range(40)]
    (score,), _ = score_all([Prediction(e.id, "cat") for e in examples], examples, [MetricSpec("exact_match")])
    assert (score.value, score.ci95) == (100.0, None)
    assert score.notes["bootstrap"] == "every draw is the same, so there is no interval"
    assert len(score.draws) == 1000  # a comparison with another run still needs them


def test_one_query_has_a_value_but_no_interval() -> None:
    (score,), _ = score_all(
        [Prediction("1", "cat")], [Example("1", (), "1", references=("cat",))], [MetricSpec("exact_match")]
    )
    assert (score.value, score.n, score.ci95) == (100.0, 1, None)


def test_no_query_is_undefined() -> None:
    for name in METRICS:
        (score,), _ = score_all([], [], [MetricSpec(name)])
        assert score.value is None
        assert score.why_undefined


def test_cider_of_one_picture_is_undefined(java: None) -> None:
    example = Example("1", (), "1", references=("a cat on a mat",))
    (score,), _ = score_all([Prediction("1", "a cat")], [example], [MetricSpec("cider")])
    assert score.value is None
    assert "one picture" in score.why_undefined


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("hateful_memes", "roc_auc"),
        ("rareact", "mwap"),
        ("star", "star_mean"),
        ("visdial", "ndcg"),
        ("vqav2", "vqa_accuracy"),
    ],
)
def test_the_interval_holds_the_value(task: str, metric: str) -> None:
    golden = case(task)
    (score,), _ = score_all(golden.predictions, golden.examples, [MetricSpec(metric)])
    assert score.value is not None
    assert score.ci95 is not None
    assert score.ci95[0] < score.value < score.ci95[1]
    (again,), _ = score_all(golden.predictions, golden.examples, [MetricSpec(metric)])
    assert again.draws == score.draws


@pytest.mark.parametrize(("task", "metric"), [("hateful_memes", "roc_auc"), ("rareact", "mwap"), ("star", "star_mean")])
def test_resampling_every_row_once_gives_the_value(task: str, metric: str) -> None:
    golden = case(task)
    summary = load_metric(metric)(golden.predictions, golden.examples)
    assert summary.resample is not None
    assert summary.resample(np.arange(len(golden.examples))) == pytest.approx(summary.value, abs=1e-9)


def test_matches_of_ten_references() -> None:
    """The anchors: 0, 0.3, 0.6, 0.9, 1 for 0, 1, 2, 3, 4 and more."""
    for matches, value in [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)]:
        references = ["cat"] * matches + [f"other {i}" for i in range(10 - matches)]
        assert question_accuracy("cat", references) == pytest.approx(value)


def test_ndcg_and_ivqa_anchors() -> None:
    ndcg, ivqa = load_metric("ndcg"), load_metric("ivqa")
    for scores, value in [((3, 2, 1, 0), 100), ((2, 3, 1, 0), 85.97186998521971), ((1, 0, 3, 2), 0)]:
        example = Example("1", (), "1", labels={"relevance": (1.0, 0.5, 0.0, 0.0)})
        assert ndcg([Prediction("1", scores=scores)], [example]).value == pytest.approx(value, abs=1e-9)
    for count, value in [(0, 0), (1, 50), (2, 100), (5, 100)]:
        example = Example("1", (), "1", references=("cat",) * count + ("dog",) * (5 - count))
        assert ivqa([Prediction("1", "cat")], [example]).value == value


def test_star_is_the_mean_over_types_whatever_their_counts() -> None:
    types = ["Interaction"] * 5 + ["Sequence"] * 50 + ["Prediction"] * 3 + ["Feasibility"]
    examples = [Example(str(i), (), str(i), target=0, labels={"question_type": t}) for i, t in enumerate(types)]
    predictions = [Prediction(e.id, scores=(1.0, 0.0) if i < 5 else (0.0, 1.0)) for i, e in enumerate(examples)]
    assert load_metric("star_mean")(predictions, examples).value == 25.0


def test_gqa_dialects() -> None:
    match = load_metric("exact_match")
    example = [Example("1", (), "1", references=("on the left",))]
    cases = [("On the left.", "exact", 0), ("On the left.", "llava", 100), ("left on", "vqa_clean", 0)]
    for text, dialect, value in [*cases, ("On, left!", "vqa_clean", 100)]:
        assert match([Prediction("1", text)], example, dialect).value == value


def test_unknown_names_are_errors_with_the_nearest_word() -> None:
    with pytest.raises(ConfigError, match=r"unknown metric 'vqa_acuracy'\. Did you mean 'vqa_accuracy'"):
        metric_row("vqa_acuracy")
    with pytest.raises(ConfigError, match=r"no dialect 'oficial'\. Did you mean 'official'"):
        dialect_of(MetricSpec("vqa_accuracy", "oficial"))
    assert dialect_of(MetricSpec("cider"), "openflamingo") == ""


def test_a_users_dialect_takes_the_place_of_the_tasks() -> None:
    metrics = (MetricSpec("vqa_accuracy", "textvqa"), MetricSpec("cider"))
    assert own_dialect(metrics, "openflamingo") == (MetricSpec("vqa_accuracy", "openflamingo"), MetricSpec("cider"))
    assert own_dialect(metrics, "") == metrics
    with pytest.raises(UsageError, match=r"--dialect oficial.*Did you mean 'official'"):
        own_dialect(metrics, "oficial")
    with pytest.raises(UsageError, match="no dialects"):
        own_dialect(metrics[1:], "official")


def test_few_references_are_said_with_what_can_be_reached() -> None:
    examples = [Example(str(n), (), str(n), references=("a cat",) * n) for n in (1, 2, 3, 10)]
    (score,), values = score_all([Prediction(e.id, "a cat") for e in examples], examples, [MetricSpec("vqa_accuracy")])
    assert values == pytest.approx([0.0, 100 / 3, 200 / 3, 100.0])
    assert score.notes["references"].startswith("3 of 4 queries have fewer than 4 references")
    (score,), _ = score_all([Prediction("10", "a cat")], examples[3:], [MetricSpec("vqa_accuracy")])
    assert "references" not in score.notes
    assert references_note("ivqa", examples).startswith("1 of 4 queries have fewer than 2")
    assert references_note("exact_match", examples) == ""


@pytest.mark.parametrize("value", [0.0, 5.0, 16.45, 40.0, 99.0])
def test_an_interval_always_contains_its_value(value: float) -> None:
    """Draws that lie beside the value keep their width, unless an end would be below 0, and the notes say so."""
    draws = tuple(20 + 0.01 * i for i in range(1000))
    ends = interval(draws, value)
    assert ends is not None
    assert 0 <= ends[0] <= value <= ends[1]
    assert "the draws are above the value" in draws_note(draws, 5.0)
    assert draws_note(draws, 25.0) == ""
    assert interval(draws, 25.0) == pytest.approx((20.24975, 29.74025))


def test_the_interval_of_a_difference_contains_the_difference() -> None:
    draws = [float(i % 7) for i in range(1000)]
    summary = paired(10.0, 40.0, draws, [d + i % 5 for i, d in enumerate(draws)])
    assert summary is not None
    assert summary.ci95[0] <= summary.difference <= summary.ci95[1]


def test_rows_that_a_metric_cannot_read_are_named() -> None:
    with pytest.raises(DataError, match="'7' has no label 'question_type', no target"):
        score_all([Prediction("7", scores=(1.0, 2.0))], [Example("7", (), "7")], [MetricSpec("star_mean")])


def test_every_metric_loads() -> None:
    for name in METRICS:
        assert callable(load_metric(name))
