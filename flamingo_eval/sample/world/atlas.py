"""Makes atlas.png and atlas.json from the npm package emoji-datasource-google (Noto emoji artwork, Apache-2.0).

    python -m flamingo_eval.sample.world.atlas PACKAGE_FOLDER

concepts.txt lists the emoji: short name, the word for it, and a star for concepts that are held out of every stage
of training. Run once; the two files are part of the repository.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

TILE = 64
COLUMNS = 20
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Concept:
    """One kind of object: the word for it, its superordinate, and whether training may show it."""

    name: str
    kind: str
    held_out: bool
    source: str  # short name in the emoji package


def read_list(file: Path) -> tuple[Concept, ...]:
    """concepts.txt -> concepts, in file order."""
    concepts: list[Concept] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        kind, _, words = line.partition(":")
        for word in words.split():
            source, _, name = word.rstrip("*").partition("=")
            concepts.append(Concept(name or source, kind, word.endswith("*"), source))
    return tuple(concepts)


def make_atlas(package: Path, concepts: tuple[Concept, ...], out: Path) -> None:
    """Writes out/atlas.png (tiles of 64 x 64 RGBA, row by row) and out/atlas.json."""
    rows = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    files = {row["short_name"]: row["image"] for row in rows if row["has_img_google"]}
    sheet = Image.new("RGBA", (COLUMNS * TILE, -(-len(concepts) // COLUMNS) * TILE))
    for i, concept in enumerate(concepts):
        with Image.open(package / "img" / "google" / "64" / files[concept.source]) as picture:
            tile = picture.convert("RGBA").resize((TILE, TILE), Image.Resampling.LANCZOS)
        # 64 colours per tile keep the file small; the difference is not visible in a scene
        tile = tile.quantize(64, method=Image.Quantize.FASTOCTREE).convert("RGBA")
        sheet.paste(tile, (i % COLUMNS * TILE, i // COLUMNS * TILE))
    (out / "atlas.png").write_bytes(unfiltered_png(sheet))
    table = [{"name": c.name, "kind": c.kind, "held_out": c.held_out, "source": c.source} for c in concepts]
    text = ",\n".join("  " + json.dumps(row) for row in table)
    (out / "atlas.json").write_text(f'{{"tile": {TILE}, "columns": {COLUMNS}, "concepts": [\n{text}\n]}}\n', "utf-8")


def unfiltered_png(picture: Image.Image) -> bytes:
    """An RGBA picture as PNG whose rows are not filtered: tiles of few colours take 57 % of Pillow's bytes."""
    row = picture.width * 4
    pixels = picture.tobytes()
    unfiltered = b"".join(b"\0" + pixels[at : at + row] for at in range(0, len(pixels), row))
    head = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 6, 0, 0, 0)  # 8 bits, RGBA
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(unfiltered, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


if __name__ == "__main__":
    make_atlas(Path(sys.argv[1]), read_list(HERE / "concepts.txt"), HERE)
