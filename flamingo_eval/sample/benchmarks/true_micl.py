"""Tasks in TrueMICL's layout, whose rule must be inferred from demonstrations: VL-ICL's records, pictures in img/."""

from __future__ import annotations

from pathlib import Path

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
    lists: dict[str, list[Row]] = {"query": [], "support": []}
    for part, n in (("query", QUERIES), ("support", SUPPORT)):
        for number in range(n):
            rng = rng_of("true_micl", "sudoku", part, number)
            digits, turn, hole = rng.sample(range(1, 10), 3), rng.choice((1, 2)), rng.randrange(9)
            cells = [digits[(column + turn * row) % 3] for row in range(3) for column in range(3)]
            image = f"sudoku/img/{part}_{number:04d}.png"
            pixels = ground(SIDE, SIDE, WHITE, rng)
            for i, cell in enumerate(cells):
                write_text(pixels, "?" if i == hole else str(cell), 16 + 36 * (i % 3), 10 + 38 * (i // 3), 4, BLACK)
            save(pixels, root / image)
            question = "What is the number in place of the question mark?"
            lists[part].append(_row(f"sudoku_{part}_{number:04d}", image, question, cells[hole]))
    _write(root, "sudoku", lists)


def build_shapes_count(root: Path) -> None:
    """shapes_count/: shapes in one colour and a few in another; the answer is the number in the other colour."""
    lists: dict[str, list[Row]] = {"query": [], "support": []}
    for part, n in (("query", QUERIES), ("support", SUPPORT)):
        for number in range(n):
            rng = rng_of("true_micl", "shapes_count", part, number)
            most, few = rng.sample(sorted(COLOURS), 2)
            places = rng.sample(range(16), rng.randint(7, 12))
            odd = rng.randint(1, 3)
            pixels = ground(SIDE, SIDE, WHITE, rng)
            for i, place in enumerate(places):
                body, _ = outline(rng.choice(SHAPES), 22)
                stamp(pixels, body, 4 + 31 * (place % 4), 4 + 31 * (place // 4), COLOURS[few if i < odd else most])
            image = f"shapes_count/img/{part}_{number:04d}.png"
            save(pixels, root / image)
            lists[part].append(_row(f"shapes_count_{part}_{number:04d}", image, "What is the result?", odd))
    _write(root, "shapes_count", lists)


def build_clock(root: Path) -> None:
    """clock/: a dial with two hands; the answer is the sum of the numbers that they point at."""
    lists: dict[str, list[Row]] = {"query": [], "support": []}
    for part, n in (("query", QUERIES), ("support", SUPPORT)):
        for number in range(n):
            rng = rng_of("true_micl", "clock", part, number)
            short, long = rng.randint(1, 12), rng.randint(1, 12)
            pixels = ground(SIDE, SIDE, WHITE, rng)
            for hour in range(1, 13):
                _dot(pixels, hour, 56, 5 if hour % 3 == 0 else 3)
            for reach, hour, thickness in ((28, short, 6), (46, long, 3)):
                for step in range(reach):
                    _dot(pixels, hour, step, thickness)
            image = f"clock/img/{part}_{number:04d}.png"
            save(pixels, root / image)
            lists[part].append(_row(f"clock_{part}_{number:04d}", image, "What is the result?", short + long))
    _write(root, "clock", lists)


def _dot(pixels: Pixels, hour: int, distance: int, side: int) -> None:
    """A black square at this distance in pixels from the middle, in the direction of an hour."""
    right, down = (distance * part // 1000 for part in DIRECTIONS[hour % 12])
    x, y = SIDE // 2 + right - side // 2, SIDE // 2 + down - side // 2
    stamp(pixels, np.ones((side, side), np.bool_), x, y, BLACK)


def build_palindrome(root: Path) -> None:
    """palindrome/: a row of digits; Yes if it is the same from right to left."""
    lists: dict[str, list[Row]] = {"query": [], "support": []}
    for part, n in (("query", QUERIES), ("support", SUPPORT)):
        for number in range(n):
            rng = rng_of("true_micl", "palindrome", part, number)
            half = [rng.choice("0123456789") for _ in range(3)]
            digits = [*half[:2], *reversed(half)] if number % 2 == 0 else [*half[:2], *rng.sample("0123456789", 3)]
            image = f"palindrome/img/{part}_{number:04d}.png"
            pixels = ground(SIDE, SIDE, WHITE, rng)
            write_text(pixels, "".join(digits), 4, rng.randint(20, 80), 4, BLACK)
            save(pixels, root / image)
            answer = "Yes" if digits == digits[::-1] else "No"
            lists[part].append(_row(f"palindrome_{part}_{number:04d}", image, "Does it follow the rule?", answer))
    _write(root, "palindrome", lists)


def build_character(root: Path) -> None:
    """character/: a letter or a digit, which the demonstrations call by two new names."""
    lists: dict[str, list[Row]] = {"query": [], "support": []}
    for part, n in (("query", QUERIES), ("support", SUPPORT)):
        for number in range(n):
            rng = rng_of("true_micl", "character", part, number)
            answer, signs = rng.choice((("dax", "ABCDEFGHKMNPRT"), ("blicket", "0123456789")))
            image = f"character/img/{part}_{number:04d}.png"
            pixels = ground(SIDE, SIDE, WHITE, rng)
            write_text(pixels, rng.choice(signs), rng.randint(8, 48), rng.randint(8, 40), 10, BLACK)
            save(pixels, root / image)
            lists[part].append(_row(f"character_{part}_{number:04d}", image, "What is this?", answer))
    _write(root, "character", lists)


def _row(id: str, image: str, question: str, answer: int | str) -> Row:
    return {"id": id, "image": [image], "question": question, "answer": answer}


def _write(root: Path, task: str, lists: dict[str, list[Row]]) -> None:
    for name, rows in lists.items():
        write_json(root / task / f"{name}.json", rows)
