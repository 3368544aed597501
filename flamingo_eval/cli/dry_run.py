"""The output of `run --dry-run`: the runs, how much they compute, and the shortest possible time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flamingo_eval.backends.choice import ModelChoice
    from flamingo_eval.models.config import FlamingoConfig
    from flamingo_eval.models.flops import ModelFlops
    from flamingo_eval.models.tokenizer import Tokenizer
    from flamingo_eval.runs.estimate import Estimate, TokenCount
    from flamingo_eval.runs.plan import PlannedRun

REPLICAS = (1, 8, 64, 512)
TITLES = (
    "task", "shots", "seeds", "queries", "official", "prompts", "tokens", "longest", "candidates", "TFLOP", "at least",
)  # fmt: skip


def dry_run(
    runs: Sequence[PlannedRun],
    model: ModelChoice,
    device: str,
    dtype: str,
    tflops: float | None,
    price: float | None,
    as_json: bool,
) -> None:
    """Print the estimate. For a preset without weights, tokens are estimated from characters."""
    from flamingo_eval.cli.console import print_json, print_table, say
    from flamingo_eval.models.flops import ModelFlops
    from flamingo_eval.models.loaded import choose_device, choose_dtype
    from flamingo_eval.runs.estimate import Reader, estimate, matrix_rate

    if model.scheme != "bundled":
        _count_tokens(runs, model, as_json)
        return
    config, tokenizer = _shape(model.target)
    flops = ModelFlops(config)
    target = choose_device(device)
    kind = choose_dtype(dtype, target)
    rate = tflops * 1e12 if tflops else matrix_rate(target, kind)
    work = estimate(runs, flops, Reader(tokenizer))
    if as_json:
        print_json(_json(work, flops, rate, kind.itemsize))
        return
    rows = [
        (
            w.task, w.shots, w.seeds, f"{w.queries:,}", f"{w.official:,}" if w.official else "-", f"{w.prompts:,}",
            f"{w.tokens:.0f}", f"{w.longest:,}", f"{w.candidates:.0f}" if w.candidates else "-",
            f"{w.flops / 1e12:,.1f}", duration(w.flops / rate),
        )
        for w in work.works
    ]  # fmt: skip
    print_table(TITLES, rows, 1)
    for line in _notes(work, flops, rate, kind.itemsize, measured=tflops is None, guessed=tokenizer is None):
        say(line)
    print_table(("replicas", *_headings(work, price)), _times(work, rate, price), 0)


def _count_tokens(runs: Sequence[PlannedRun], model: ModelChoice, as_json: bool) -> None:
    """Print only queries and tokens, for models whose operations are not counted."""
    from flamingo_eval.backends.shape import shape_of
    from flamingo_eval.cli.console import print_json, print_table, say
    from flamingo_eval.runs.estimate import token_counts

    shape = shape_of(model)
    counts = token_counts(runs, shape)
    requests, tokens = _spending(runs, counts)
    if as_json:
        document = {"runs": [asdict(c) for c in counts], "context": shape.context_length}
        print_json(document | ({"requests": requests, "tokens": tokens} if model.scheme == "openai" else {}))
        return
    titles = ("task", "shots", "seeds", "queries", "prompts", "tokens", "longest", "candidates")
    rows = [
        (
            c.task, c.shots, c.seeds, f"{c.queries:,}", f"{c.prompts:,}", f"{c.tokens:.0f}", f"{c.longest:,}",
            f"{c.candidates:.0f}" if c.candidates else "-",
        )
        for c in counts
    ]  # fmt: skip
    print_table(titles, rows, 1)
    total = sum(c.prompts * c.tokens for c in counts)
    say(f"{shape.name}: about {total:,.0f} tokens of prompts, pictures included; it reads {shape.context_length:,}")
    if model.scheme == "openai":
        say(f"{requests:,} requests and at most about {tokens:,} tokens with the answers; token counts are estimates")
    if any(c.longest > shape.context_length for c in counts):
        say(f"{shape.advice}: the longest prompt does not fit")


def _spending(runs: Sequence[PlannedRun], counts: Sequence[TokenCount]) -> tuple[int, int]:
    """Requests to a server and the maximum of tokens: one request per candidate, and one for the prompt alone."""
    newest = {(r.task_label, r.demos.shots): r for r in runs}
    requests, tokens = 0, 0.0
    for count in counts:
        run = newest[count.task, count.shots]
        ranks = not run.generates
        n_requests = count.prompts * (1 + round(count.candidates) if ranks else 1)
        requests += n_requests
        tokens += n_requests * (count.tokens + (1 if ranks else run.decode.max_new_tokens))
    return requests, round(tokens)


def _shape(model: str) -> tuple[FlamingoConfig, Tokenizer | None]:
    from flamingo_eval.models import read_shape
    from flamingo_eval.models.presets import PRESETS

    if model in PRESETS and model != "tiny" and not Path(model).is_dir():
        return PRESETS[model], None
    return read_shape(model)


def _notes(work: Estimate, flops: ModelFlops, rate: float, item: int, *, measured: bool, guessed: bool) -> list[str]:
    longest = max(w.longest for w in work.works)
    context = flops.config.decoder.context
    clips = f" and {work.clips:,} clips of up to {flops.config.preprocess.frames} frames" if work.clips else ""
    token_bytes = (work.pictures + work.clips) * flops.visual_tokens * item
    lines = [
        f"{work.pictures:,} pictures{clips}, each encoded once: {work.picture_flops / 1e12:,.1f} TFLOP, "
        f"at least {duration(work.picture_flops / rate)}; {size(token_bytes)} of visual tokens kept",
        f"{flops.config.name}: {size(flops.parameters * item)} of weights, "
        f"{size(flops.kept_keys(longest) * item)} of keys and values for the longest prompt",
        f"rate: {rate / 1e12:,.3g} TFLOP/s, "
        + ("a matrix product measured here" if measured else "as given")
        + "; no machine takes less than this time",
    ]
    if guessed:
        lines.append("tokens: a preset has no tokenizer; estimated as four characters per token")
    if longest > context:
        lines.append(f"the longest prompt has {longest:,} tokens, {flops.config.name} has a context of {context:,}")
    if any("@sample" in w.task for w in work.works):
        lines.append("@sample: prompts of the embedded sample, which are shorter than real ones")
    return lines


def _is_smaller(work: Estimate) -> bool:
    return any(w.official and w.official != w.queries for w in work.works)


def _headings(work: Estimate, price: float | None) -> list[str]:
    titles = ["these runs"] + (["price"] if price else [])
    return titles + (["official sizes"] + (["price"] if price else []) if _is_smaller(work) else [])


def _times(work: Estimate, rate: float, price: float | None) -> list[list[str]]:
    """Shortest time with more replicas; their hours, and therefore their price, are constant."""
    totals = [work.flops] + ([work.official_flops] if _is_smaller(work) else [])
    rows = []
    for n in REPLICAS:
        row = [str(n)]
        for flops in totals:
            seconds = flops / rate
            row += [duration(seconds / n)] + ([f"{seconds / 3600 * price:,.2f}"] if price else [])
        rows.append(row)
    return rows


def _json(work: Estimate, flops: ModelFlops, rate: float, item: int) -> dict[str, Any]:
    return {
        "runs": [asdict(w) for w in work.works],
        "pictures": work.pictures,
        "clips": work.clips,
        "picture_flops": work.picture_flops,
        "flops": work.flops,
        "official_flops": work.official_flops,
        "flops_per_second": rate,
        "seconds_at_least": work.flops / rate,
        "weight_bytes": flops.parameters * item,
    }


def duration(seconds: float) -> str:
    """`0.4 s`, `12 min`, `3.5 h`, `41 days`."""
    if 0 < seconds < 0.05:
        return "< 0.1 s"
    for limit, unit, divisor in ((90.0, "s", 1.0), (5400.0, "min", 60.0), (172_800.0, "h", 3600.0)):
        if seconds < limit:
            return f"{seconds / divisor:.1f} {unit}"
    return f"{seconds / 86_400:,.1f} days"


def size(n: float) -> str:
    """`12.3 MB`, `1.2 GB`."""
    return f"{n / 1e6:,.1f} MB" if n < 1e9 else f"{n / 1e9:,.1f} GB"
