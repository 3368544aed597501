"""Operator induction, after VL-ICL: `A ? B` in one picture, or one picture for each digit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import rng_of
from flamingo_eval.sample.benchmarks.writers import write_json
from flamingo_eval.sample.fresh.canvas import add_noise, ground, save, write_text
from flamingo_eval.sample.fresh.dials import OperatorDials
from flamingo_eval.sample.fresh.glyphs import HEIGHT, WIDTH
from flamingo_eval.sample.fresh.text_twins import write_text_twin

SIDE = 256  # pixels of a picture
QUESTION = "What is the result of the following mathematical expression?"
OPERATORS = ("+", "-", "x")
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
DIGITS = 10

Pair = tuple[int, int]
_Images = Callable[[str, int, int], list[str]]  # part, first and second digit -> paths below the root


def build_operator_induction(root: Path, dials: OperatorDials) -> None:
    """operator_induction/query.json, support.json, query/ and support/, and its text twin."""
    task = "operator_induction"
    query_pairs, support_pairs = pairs_of(task, dials.pairs)
    for part, pairs in (("query", query_pairs), ("support", support_pairs)):
        for a, b in pairs:
            draw_text(root / task / part / f"{a}_{b}.png", f"{a}?{b}", task, dials)
    _write(root, task, query_pairs, support_pairs, lambda part, a, b: [f"{task}/{part}/{a}_{b}.png"])


def build_interleaved(root: Path, dials: OperatorDials) -> None:
    """operator_induction_interleaved/ with ten digits in support/, which serve both lists, and its text twin."""
    task = "operator_induction_interleaved"
    query_pairs, support_pairs = pairs_of(task, dials.pairs)
    for digit in range(DIGITS):
        draw_text(root / task / "support" / f"{digit}.png", str(digit), task, dials)
    _write(
        root, task, query_pairs, support_pairs, lambda _, a, b: [f"{task}/support/{a}.png", f"{task}/support/{b}.png"]
    )


def pairs_of(task: str, n_queries: int) -> tuple[list[Pair], list[Pair]]:
    """The pairs of digits for queries, and the others."""
    pairs = [(a, b) for a in range(DIGITS) for b in range(DIGITS)]
    rng_of("vl_icl", task).shuffle(pairs)
    return pairs[:n_queries], sorted(pairs[n_queries:])


def results(a: int, b: int) -> list[int]:
    """The results of +, - and x."""
    return [a + b, a - b, a * b]


def _write(root: Path, task: str, query_pairs: list[Pair], support_pairs: list[Pair], images: _Images) -> None:
    asked = [pair for pair in query_pairs for _ in OPERATORS]
    queries: list[dict[str, object]] = [
        {
            "id": f"{task}_query_{a}_{b}_{operator}",
            "image": images("query", a, b),
            "question": QUESTION,
            "answer": result,
            "operator": operator,
        }
        for a, b in query_pairs
        for operator, result in zip(OPERATORS, results(a, b), strict=True)
    ]
    support: list[dict[str, object]] = [
        {
            "id": f"{task}_support_{a}_{b}",
            "image": images("support", a, b),
            "question": QUESTION,
            "answer": results(a, b),
        }
        for a, b in support_pairs
    ]
    for part, rows, pairs in (("query", queries, asked), ("support", support, support_pairs)):
        write_json(root / task / f"{part}.json", rows)
        write_text_twin(root, task, part, rows, [f"{a} ? {b}" for a, b in pairs])


def draw_text(path: Path, text: str, task: str, dials: OperatorDials) -> None:
    """Black on white, as large as possible, with a small random offset."""
    rng = rng_of("vl_icl", task, "picture", text)
    pixels = ground(SIDE, SIDE, WHITE, rng)
    scale = SIDE // ((WIDTH + 1) * max(len(text), 2) + 2)
    width, height = ((WIDTH + 1) * len(text) - 1) * scale, HEIGHT * scale
    x, y = (SIDE - width) // 2 + rng.randint(-4, 4), (SIDE - height) // 2 + rng.randint(-12, 12)
    write_text(pixels, text, x, y, scale, BLACK)
    add_noise(pixels, dials.noise, rng_of("vl_icl", task, "noise", text))
    save(pixels, path)
