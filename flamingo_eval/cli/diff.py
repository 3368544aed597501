"""flamingo-eval diff: what differs between two runs, and whether the difference of their scores is significant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flamingo_eval.cli.options import Json, one_of

if TYPE_CHECKING:
    from flamingo_eval.report.diff import Comparison, ScoreDifference
    from flamingo_eval.runs.identity import Difference

WIDEST = 60  # characters of a value in a terminal


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    limit: Annotated[int, typer.Option(min=0, help="Show up to this many changed answers.")] = 20,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            help="Exit with code 4 if B is `worse` (a lower headline score, p < --alpha) or `changed`.",
            autocompletion=one_of("worse", "changed"),
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --fail-on worse: fail below this p-value.")
    ] = 0.05,
    as_json: Json = False,
) -> None:
    """Show what differs between runs A and B: configuration, provenance, inputs, answers, and scores.

    Scores are compared pairwise over the same queries: B - A with its 95 % interval and two-sided p-value.
    """
    from flamingo_eval.cli.console import print_json
    from flamingo_eval.errors import ExpectationError, UsageError, did_you_mean
    from flamingo_eval.report.diff import as_json as json_of
    from flamingo_eval.report.diff import compare, one_run

    if fail_on not in (None, "worse", "changed"):
        hint = did_you_mean(fail_on, ("worse", "changed"))
        raise UsageError(f"invalid value for --fail-on: '{fail_on}'. {hint}".rstrip(), fix="Expected worse or changed.")
    comparison = compare(one_run(a), one_run(b))
    if as_json:
        print_json(json_of(comparison))
    else:
        print_comparison(comparison, limit)
    reason = why_failed(comparison, fail_on, alpha)
    if reason:
        raise ExpectationError(f"--fail-on {fail_on}: {reason}")


def why_failed(comparison: Comparison, fail_on: str | None, alpha: float) -> str:
    """Why --fail-on fails, with the numbers; empty if it does not. Raises RunError if it cannot be decided."""
    from flamingo_eval.errors import RunError

    if fail_on == "changed" and not comparison.same_results:
        return f"{_counts(comparison)}; scores: {', '.join(map(_gap_text, comparison.scores))}"
    if fail_on != "worse":
        return ""
    headline = comparison.scores[0] if comparison.scores else None
    if headline is not None and headline.a is not None and headline.b is None:
        return f"{_gap_text(headline)}: {headline.why}"
    if headline is None or headline.paired is None:
        why = headline.why if headline is not None else "the runs have no metric in common"
        raise RunError(
            f"--fail-on worse: the runs cannot be compared: {why}.", fix="Compare runs over the same queries."
        )
    is_worse = headline.paired.difference < 0 and headline.paired.p_value < alpha
    return f"{_gap_text(headline)}, below {alpha:g}" if is_worse else ""


def _gap_text(score: ScoreDifference) -> str:
    text = f"{score.metric} {_number(score.a)} -> {_number(score.b)}"
    paired = score.paired
    return text if paired is None else f"{text} ({paired.difference:+.2f}, p {p_text(paired.p_value)})"


def print_comparison(comparison: Comparison, limit: int) -> None:
    """The comparison as text on standard output."""
    from flamingo_eval.cli.console import print_table, say

    for title, differences in (
        ("configuration", comparison.configuration),
        ("provenance", comparison.provenance),
        ("inputs", comparison.inputs),
    ):
        if differences:
            print_table((title, "A", "B"), [_row(d) for d in differences])
        else:
            print(f"{title}: the same")
    print_table(("metric", "A", "B", "B - A", "95 % interval", "p"), [_score_row(s) for s in comparison.scores], 1)
    for score in comparison.scores:
        if score.why:
            say(f"{score.metric}: {score.why}")
    print(_counts(comparison))
    if comparison.changed and limit:
        rows = [
            (c.id, _short(c.a), _short(c.b), _number(c.score_a), _number(c.score_b)) for c in comparison.changed[:limit]
        ]
        print_table(("query", "A", "B", "score A", "score B"), rows, 3)
    if len(comparison.changed) > limit:
        say(f"{len(comparison.changed) - limit} more changed answers: --limit {len(comparison.changed)}, or --json")


def _row(d: Difference) -> tuple[str, str, str]:
    return d.key, _short(d.a), _short(d.b)


def _score_row(s: ScoreDifference) -> Sequence[str]:
    paired = s.paired
    if paired is None:
        difference = "-" if s.a is None or s.b is None else f"{s.b - s.a:+.2f}"
        return s.metric, _number(s.a), _number(s.b), difference, "-", "-"
    low, high = paired.ci95
    return (
        s.metric,
        _number(s.a),
        _number(s.b),
        f"{paired.difference:+.2f}",
        f"{low:+.2f} ... {high:+.2f}",
        p_text(paired.p_value),
    )


def _counts(comparison: Comparison) -> str:
    parts = [f"answers: {len(comparison.changed)} of {comparison.common} changed"]
    if comparison.moved:
        parts.append(f"candidate scores of {comparison.moved} differ")
    for name, ids in (("A", comparison.only_a), ("B", comparison.only_b)):
        if ids:
            parts.append(f"{len(ids)} queries only in {name}")
    return ", ".join(parts)


def p_text(p: float) -> str:
    """A p-value, with as many digits as a thousand draws can give."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return printable if len(printable) <= WIDEST else f"{printable[: WIDEST - 3]}..."
