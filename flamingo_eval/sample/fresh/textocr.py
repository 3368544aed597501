"""Text in a red box, after VL-ICL's TextOCR: made-up words in letters, digits and marks, one of them framed."""

from __future__ import annotations

from pathlib import Path
from random import Random

from flamingo_eval.sample.benchmarks.draws import rng_of
from flamingo_eval.sample.benchmarks.writers import write_json
from flamingo_eval.sample.fresh.canvas import Colour, add_noise, any_ground, frame, save, write_text
from flamingo_eval.sample.fresh.dials import TextDials
from flamingo_eval.sample.fresh.glyphs import HEIGHT, WIDTH

SIDE = 256  # pixels of a picture
BANDS = 6  # one text per band, from top to bottom
SCALES = (2, 3)  # pixels of a dot
MARGIN = 4  # between a text and its box
RED: Colour = (230, 0, 0)
INKS: tuple[Colour, ...] = ((20, 20, 20), (250, 250, 246), (30, 40, 110))
QUESTION = "What text is shown in the red box?"
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"


def build_textocr(root: Path, dials: TextDials) -> None:
    """textocr/query.json, support.json, query/ and support/."""
    for part, rows in (("query", dials.queries), ("support", dials.support)):
        records = [_record(root, part, number, dials) for number in range(rows)]
        write_json(root / "textocr" / f"{part}.json", records)


def _record(root: Path, part: str, number: int, dials: TextDials) -> dict[str, object]:
    rng = rng_of("vl_icl", "textocr", part, number)
    image = rng.randbytes(8).hex()
    annotation = f"{image}_{number % 10}"
    path = f"textocr/{part}/{annotation}.png"
    pixels = any_ground(SIDE, rng)
    texts = [_text(rng_of("vl_icl", "textocr", part, number, band), dials) for band in range(BANDS)]
    bands = rng.sample(range(BANDS), BANDS)
    boxes = []
    for band in bands[: 1 + dials.distractors]:
        scale, ink = rng.choice(SCALES), rng.choice(INKS)
        width, height = ((WIDTH + 1) * len(texts[band]) - 1) * scale, HEIGHT * scale
        x = rng.randint(2 * MARGIN, SIDE - 2 * MARGIN - width)
        y = band * SIDE // BANDS + rng.randint(2 * MARGIN, SIDE // BANDS - MARGIN - height)
        write_text(pixels, texts[band], x, y, scale, ink)
        boxes.append((x - MARGIN, y - MARGIN, width + 2 * MARGIN, height + 2 * MARGIN))
    x, y, width, height = boxes[0]
    frame(pixels, boxes[0], 2, RED)
    add_noise(pixels, dials.noise, rng_of("vl_icl", "textocr", "noise", part, number))
    save(pixels, root / path)
    return {
        "id": f"textocr_{part}_{annotation}",
        "image": [path],
        "question": QUESTION,
        "answer": texts[bands[0]],
        "img_id": image,
        "width": SIDE,
        "height": SIDE,
        "ann_id": annotation,
        "box": [float(x), float(y), float(width), float(height)],
        "points": [float(v) for v in (x, y, x + width, y, x + width, y + height, x, y + height)],
        "area": float(width * height),
    }


def _text(rng: Random, dials: TextDials) -> str:
    """A word in one of three cases, a number, or either with a mark."""
    length = rng.randint(min(2, dials.letters), dials.letters)
    word = "".join(rng.choice((CONSONANTS, VOWELS)[i % 2]) for i in range(length))
    number = "".join(rng.choice("0123456789") for _ in range(length))
    text = rng.choice((word, word.upper(), word.capitalize(), number))
    with_period, place = rng.random() < dials.periods, rng.randrange(1, length + 1)
    return f"{text[:place]}.{text[place:]}"[: dials.letters + 1] if with_period else text
