"""The verdict on a curve over shots, in one sentence.

The first one that applies, at the largest number of shots (docs/scores.md):

    nothing   0 at every number of shots, or full marks at zero shots: it cannot show learning in context
    copies    at least 90 % of the answers are the shots' most frequent answer, or the last shot's
    no more   the score is not above that of always giving one of these two answers (paired over pictures, p < 0.05)
    flat      the change from the fewest shots to the most could be chance
    falls     the score falls
    shown     it rises, but only among queries whose answer a shot shows
    rises     it rises
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from flamingo_eval.metrics.bootstrap import Paired
from flamingo_eval.report.copying import CopyingAt
from flamingo_eval.report.curve import Curve

Kind: TypeAlias = Literal["nothing", "copies", "no more", "flat", "falls", "shown", "rises", ""]

NOTHING_TO_SEE = "cannot show learning in context"
MOSTLY = 90.0  # per cent of the answers, from which on the run as a whole copies
ZERO, FULL = 0.5, 98.0  # points: up to it none was right, from it on there is no room above
CHANCE = 0.05  # p-value from which on a difference could be chance
UNBOUNDED = ("cider",)  # metrics that have no full marks


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a row; `kind` is empty if there are too few runs."""

    kind: Kind
    text: str


def verdict(metric: str, curve: Curve | None, copying: Sequence[CopyingAt]) -> Verdict:
    """The verdict on a row, from its curve and copying at each number of shots, in ascending order."""
    scored = [c for c in copying if c.score.value is not None]
    if not scored:
        return Verdict("", "no score")
    return _nothing(metric, scored) or _copies(scored[-1]) or _no_more(scored[-1]) or _change(curve, scored[-1])


def nothing_to_see(metric: str, scores: Mapping[int, float]) -> str:
    """Why scores by shots cannot show learning in context: 0 at all of them, or full marks at zero; "" if they can."""
    most = max(scores.values(), default=FULL)
    if most <= ZERO:
        if len(scores) == 1:
            return f"{most:.1f} at {_shots(min(scores))}"
        return f"{most:.1f} at {'every number of shots' if most < 0.05 else 'most'}"
    if scores.get(0, 0.0) >= FULL and metric not in UNBOUNDED:
        return f"{scores[0]:.1f} at 0 shots already"
    return ""


def _nothing(metric: str, scored: Sequence[CopyingAt]) -> Verdict | None:
    reason = nothing_to_see(metric, {c.shots: c.score.value or 0.0 for c in scored})
    return Verdict("nothing", f"{NOTHING_TO_SEE}: {reason}") if reason else None


def _copies(at: CopyingAt) -> Verdict | None:
    majority, last = at.majority.value or 0.0, at.last.value or 0.0
    if max(majority, last) < MOSTLY:
        return None
    what, share, baseline = ("most frequent answer", majority, at.always_majority)
    if last > majority:
        what, share, baseline = ("last answer", last, at.always_last)
    beside = f", always saying it {baseline.value:.1f}" if baseline.value is not None else ""
    text = (
        f"copies: {share:.0f} % of the answers at {_shots(at.shots)} are the shots' {what}; score {_points(at)}{beside}"
    )
    return Verdict("copies", text)


def _no_more(at: CopyingAt) -> Verdict | None:
    pairs = ((at.above_majority, at.always_majority, "most frequent"), (at.above_last, at.always_last, "last"))
    for difference, baseline, what in sorted(pairs, key=lambda pair: -(pair[1].value or 0.0)):
        if baseline.value is not None and not _above(at.score.value or 0.0, baseline.value, difference):
            score = f"score {_points(at)} at {_shots(at.shots)}"
            text = f"no better than copying: {score}, always saying the shots' {what} answer {baseline.value:.1f}"
            return Verdict("no more", text)
    return None


def _above(score: float, baseline: float, difference: Paired | None) -> bool:
    """Whether the score is above a baseline; without a test, by the values."""
    return score > baseline and (difference is None or difference.p_value < CHANCE)


def _change(curve: Curve | None, at: CopyingAt) -> Verdict:
    if curve is None or curve.most == curve.fewest:
        return Verdict("", "one number of shots: there is no curve")
    span = f"from {curve.fewest} to {curve.most} shots"
    if curve.change is None:
        return Verdict("", f"no test {span}: other queries, or too few pictures")
    moved, p = curve.change.difference, curve.change.p_value
    if p >= CHANCE:
        return Verdict("flat", f"no change {span} that could not be chance ({moved:+.1f}, p {p:.2f})")
    if moved < 0:
        return Verdict("falls", f"falls by {-moved:.1f} {span}")
    text = f"rises by {moved:.1f} {span}"
    if at.above_majority is not None and at.above_last is not None:
        nearest = min(at.above_majority.difference, at.above_last.difference)
        text += f", {nearest:.1f} above always saying the shots' most frequent or last answer"
    if at.uncovered.value is None:
        return Verdict("rises", text)
    if at.uncovered.value <= ZERO:
        return Verdict("shown", f"{text}; {at.uncovered.value:.1f} where no shot shows the answer")
    return Verdict("rises", f"{text}; {at.uncovered.value:.1f} where no shot shows the answer")


def _shots(n: int) -> str:
    return "1 shot" if n == 1 else f"{n} shots"


def _points(at: CopyingAt) -> str:
    return "undefined" if at.score.value is None else f"{at.score.value:.1f}"
