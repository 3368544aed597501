"""Tasks in TrueMICL's layout, whose rule must be inferred from demonstrations: VL-ICL's records, pictures in img/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from flamingo_eval.sample.benchmarks.draws import rng_of
from flamingo_eval.sample.benchmarks.writers import write_json
from flamingo_eval.sample.fresh.canvas import Pixels, ground, save, stamp, write_text
from flamingo_eval.sample.fresh.clevr import COLOURS, draw_scene, outline, scene_of
from flamingo_eval.sample.fresh.dials import ClevrDials, OperatorDials
from flamingo_eval.sample.fresh.operators import OPERATORS, QUESTION, draw_text, pairs_of, results

QUERIES, SUPPORT = 24, 48
ASKED = 8  # pairs of digits: each is asked with every operator
SIDE = 128  # pixels of a picture
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
SHAPES = ("cylinder", "sphere", "cube")
DIRECTIONS = (  # of the hours 12, 1, ... 11: to the right and down, in thousandths
    (0, -1000), (500, -866), (866, -500), (1000, 0), (866, 500), (500, 866),
    (0, 1000), (-500, 866), (-866, 500), (-1000, 0), (-866, -500), (-500, -866),
)  # fmt: skip

Row = dict[str, object]
Drawn = tuple[Pixels, int | str]  # a picture and the answer to it


def build_operator_induction(root: Path) -> None:
    """operator_induction/: support rows have the answer of one operator each."""
    task = "operator_induction"
    query_pairs, rest = pairs_of(f"true_micl:{task}", ASKED)
    lists: dict[str, list[Row]] = {"query": [], "support": []}
    for part, pairs in (("query", query_pairs), ("support", rest)):
        for a, b in pairs:
            image = f"{task}/img/{a}_{b}.png"
            draw_text(root / image, f"{a}?{b}", f"true_micl:{task}", OperatorDials())
            lists[part] += [
                {
                    "id": f"{task}_{part}_{a}_{b}_{operator}",
                    "image": [image],
                    "question": QUESTION,
                    "answer": result,
                    "operator": operator,
                }
                for operator, result in zip(OPERATORS, results(a, b), strict=True)
            ]
    _write(root, task, lists)


def build_clevr(root: Path) -> None:
    """clevr/, with queryall.json and supportall.json in addition to the two lists."""
    lists: dict[str, list[Row]] = {}
    for part, n in (("query", QUERIES), ("support", SUPPORT)):
        lists[part] = []
        for number in range(n):
            image = f"clevr/img/{part}_{number:04d}.png"
            solids, question, answer = scene_of(rng_of("true_micl", "clevr", part, number), 8)
            draw_scene(root / image, solids, image, ClevrDials())
            lists[part].append(_row(f"clevr_{part}_{number:04d}", image, question, answer))
        lists[f"{part}all"] = lists[part]
    _write(root, "clevr", lists)


def build_sudoku(root: Path) -> None:
    """sudoku/: squares of three digits in every row and column, one of them a question mark."""

    def draw(rng: Random, number: int) -> Drawn:
        digits, turn, hole = rng.sample(range(1, 10), 3), rng.choice((1, 2)), rng.randrange(9)
        cells = [digits[(column + turn * row) % 3] for row in range(3) for column in range(3)]
        pixels = ground(SIDE, SIDE, WHITE, rng)
        for i, cell in enumerate(cells):
            write_text(pixels, "?" if i == hole else str(cell), 16 + 36 * (i % 3), 10 + 38 * (i // 3), 4, BLACK)
        return pixels, cells[hole]

    _build(root, "sudoku", "What is the number in place of the question mark?", draw)


def build_shapes_count(root: Path) -> None:
    """shapes_count/: shapes in one colour and a few in another; the answer is the number in the other colour."""

    def draw(rng: Random, number: int) -> Drawn:
        most, few = rng.sample(sorted(COLOURS), 2)
        places = rng.sample(range(16), rng.randint(7, 12))
        odd = rng.randint(1, 3)
        pixels = ground(SIDE, SIDE, WHITE, rng)
        for i, place in enumerate(places):
            body, _ = outline(rng.choice(SHAPES), 22)
            stamp(pixels, body, 4 + 31 * (place % 4), 4 + 31 * (place // 4), COLOURS[few if i < odd else most])
        return pixels, odd

    _build(root, "shapes_count", "What is the result?", draw)


def build_clock(root: Path) -> None:
    """clock/: a dial with two hands; the answer is the sum of the numbers that they point at."""

    def draw(rng: Random, number: int) -> Drawn:
        short, long = rng.randint(1, 12), rng.randint(1, 12)
        pixels = ground(SIDE, SIDE, WHITE, rng)
        for hour in range(1, 13):
            _dot(pixels, hour, 56, 5 if hour % 3 == 0 else 3)
        for reach, hour, thickness in ((28, short, 6), (46, long, 3)):
            for step in range(reach):
                _dot(pixels, hour, step, thickness)
        return pixels, short + long

    _build(root, "clock", "What is the result?", draw)


def _dot(pixels: Pixels, hour: int, distance: int, side: int) -> None:
    """A black square at this distance in pixels from the middle, in the direction of an hour."""
    right, down = (distance * part // 1000 for part in DIRECTIONS[hour % 12])
    x, y = SIDE // 2 + right - side // 2, SIDE // 2 + down - side // 2
    stamp(pixels, np.ones((side, side), np.bool_), x, y, BLACK)


def build_palindrome(root: Path) -> None:
    """palindrome/: a row of digits; Yes if it is the same from right to left."""

    def draw(rng: Random, number: int) -> Drawn:
        half = [rng.choice("0123456789") for _ in range(3)]
        digits = [*half[:2], *reversed(half)] if number % 2 == 0 else [*half[:2], *rng.sample("0123456789", 3)]
        pixels = ground(SIDE, SIDE, WHITE, rng)
        write_text(pixels, "".join(digits), 4, rng.randint(20, 80), 4, BLACK)
        return pixels, "Yes" if digits == digits[::-1] else "No"

    _build(root, "palindrome", "Does it follow the rule?", draw)


def build_character(root: Path) -> None:
    """character/: a letter or a digit, which the demonstrations call by two new names."""

    def draw(rng: Random, number: int) -> Drawn:
        answer, signs = rng.choice((("dax", "ABCDEFGHKMNPRT"), ("blicket", "0123456789")))
        pixels = ground(SIDE, SIDE, WHITE, rng)
        write_text(pixels, rng.choice(signs), rng.randint(8, 48), rng.randint(8, 40), 10, BLACK)
        return pixels, answer

    _build(root, "character", "What is this?", draw)


def _build(root: Path, task: str, question: str, draw: Callable[[Random, int], Drawn]) -> None:
    """A folder whose rows all have one question; `draw` gets a row's own generator and its number."""
    lists: dict[str, list[Row]] = {"query": [], "support": []}
    for part, n in (("query", QUERIES), ("support", SUPPORT)):
        for number in range(n):
            pixels, answer = draw(rng_of("true_micl", task, part, number), number)
            image = f"{task}/img/{part}_{number:04d}.png"
            save(pixels, root / image)
            lists[part].append(_row(f"{task}_{part}_{number:04d}", image, question, answer))
    _write(root, task, lists)


def _row(id: str, image: str, question: str, answer: int | str) -> Row:
    return {"id": id, "image": [image], "question": question, "answer": answer}


def _write(root: Path, task: str, lists: dict[str, list[Row]]) -> None:
    for name, rows in lists.items():
        write_json(root / task / f"{name}.json", rows)
