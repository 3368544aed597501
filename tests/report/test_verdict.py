"""What is said of a curve over shots."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flamingo_eval.metrics.bootstrap import Paired
from flamingo_eval.report.copying import NOTHING, CopyingAt, Estimate
from flamingo_eval.report.curve import Curve
from flamingo_eval.report.verdict import verdict

SURE, CHANCE = 0.001, 0.6


def curve(change: float, p: float = SURE) -> Curve:
    return Curve(Estimate(40.0), Estimate(50.0), 8, NOTHING, 0, 8, Paired(change, (change - 3, change + 3), p))


def at(
    shots: int,
    score: float | None,
    *,
    majority: float = 30.0,
    last: float = 20.0,
    baselines: tuple[float, float] = (10.0, 5.0),
    p: float = SURE,
    uncovered: float | None = None,
) -> CopyingAt:
    value = score or 0.0
    return CopyingAt(
        shots,
        Estimate(score),
        majority=Estimate(majority),
        last=Estimate(last),
        always_majority=Estimate(baselines[0]),
        always_last=Estimate(baselines[1]),
        uncovered=Estimate(uncovered),
        above_majority=Paired(value - baselines[0], (0, 0), p),
        above_last=Paired(value - baselines[1], (0, 0), p),
    )


def test_full_marks_or_nothing_at_all_cannot_show_learning() -> None:
    full = verdict("exact_match", curve(0.0, 1.0), [at(0, 100.0), at(8, 100.0)])
    assert (full.kind, full.text) == ("nothing", "cannot show learning in context: 100.0 at 0 shots already")
    none = verdict("exact_match", curve(0.0, 1.0), [at(0, 0.0), at(8, 0.0)])
    assert (none.kind, none.text) == ("nothing", "cannot show learning in context: 0.0 at every number of shots")


def test_full_marks_with_shots_are_no_reason_to_doubt() -> None:
    assert verdict("exact_match", None, [at(2, 99.0)]).kind == ""
    assert verdict("exact_match", curve(9.0), [at(2, 99.0), at(4, 99.5)]).kind == "rises"


def test_cider_has_no_full_marks() -> None:
    assert verdict("cider", curve(20.0), [at(0, 110.0), at(8, 130.0)]).kind == "rises"


@pytest.mark.parametrize(
    ("majority", "last", "words"),
    [
        (97.2, 20.0, "copies: 97 % of the answers at 8 shots are the shots' most frequent answer; score 41.3, "
                     "always saying it 41.2"),
        (40.0, 95.0, "copies: 95 % of the answers at 8 shots are the shots' last answer; score 41.3, "
                     "always saying it 39.0"),
    ],
)  # fmt: skip
def test_a_curve_that_is_nothing_but_copying_says_so(majority: float, last: float, words: str) -> None:
    copied = at(8, 41.3, majority=majority, last=last, baselines=(41.2, 39.0))
    conclusion = verdict("exact_match", curve(20.0), [at(0, 20.0), copied])
    assert (conclusion.kind, conclusion.text) == ("copies", words)


def test_a_score_not_above_a_baseline_is_no_better_than_copying() -> None:
    conclusion = verdict("exact_match", curve(20.0), [at(0, 20.0), at(8, 41.3, baselines=(30.0, 42.0), p=CHANCE)])
    assert conclusion.kind == "no more"
    assert conclusion.text.endswith("score 41.3 at 8 shots, always saying the shots' last answer 42.0")


def test_without_a_test_the_value_decides() -> None:
    corpus = replace(at(8, 41.3, baselines=(42.0, 5.0)), above_majority=None, above_last=None)
    assert verdict("roc_auc", curve(20.0), [corpus]).kind == "no more"
    assert verdict("roc_auc", curve(20.0), [replace(corpus, score=Estimate(43.0))]).kind == "rises"


def test_changes_are_named_with_their_direction() -> None:
    assert verdict("exact_match", curve(1.0, CHANCE), [at(0, 40.0), at(8, 41.0)]).kind == "flat"
    assert verdict("exact_match", curve(-9.0), [at(0, 50.0), at(8, 41.0)]).text == "falls by 9.0 from 0 to 8 shots"
    rises = verdict("exact_match", curve(9.0), [at(0, 40.0), at(8, 49.0, uncovered=12.0)])
    assert rises.kind == "rises"
    assert rises.text == (
        "rises by 9.0 from 0 to 8 shots, 39.0 above always saying the shots' most frequent or last answer; "
        "12.0 where no shot shows the answer"
    )
    assert verdict("exact_match", curve(9.0), [at(0, 40.0), at(8, 49.0, uncovered=0.0)]).kind == "shown"


def test_too_little_to_say_is_said() -> None:
    assert verdict("exact_match", None, [at(4, 30.0)]).text == "one number of shots: there is no curve"
    assert verdict("exact_match", None, [at(4, None)]).text == "no score"
    assert verdict("exact_match", replace(curve(1.0), change=None), [at(0, 30.0), at(8, 40.0)]).kind == ""
