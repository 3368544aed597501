"""Makes results/reference: the bundled model on the sample, every task, number of shots and seed, and the controls.

python -m benchmarks.reference [--out DIR] [--model DIR] [--part 1/2]. Commands that are done are passed over, as `run`
does; parts may run side by side. NExT-QA is scored where NLTK's data is at hand (NLTK_DATA).
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys

SHOTS = "--shots 0,4,8,16,32 --seeds 0,1,2"
BINDING = "--shots 4,8,16,32 --seeds 0,1,2"
PICTURES = ("okvqa", "vizwiz", "textvqa", "gqa", "hateful_memes", "imagenet", "textcaps", "flickr30k", "nocaps")
CLIPS = ("msvdqa", "msrvttqa", "ivqa", "nextqa", "star", "vatex", "youcook2", "kinetics700")
WITH_RICES = ("vqav2", "coco", "flickr30k", "gqa", "okvqa", "msvdqa")
CONTROLS = ("query-images-shuffled", "query-image-removed", "images-shuffled", "labels-shuffled")
COMMANDS = (
    f"coco {SHOTS}",
    f"vqav2 {SHOTS}",
    *(f"{task} {SHOTS}" for task in (*PICTURES, *CLIPS)),
    "visdial --shots 0,4,8,16 --seeds 0,1,2",  # at 32 its dialogues are longer than what tiny reads
    "rareact --shots 0 --seeds 0,1,2",
    *(f"fastbind --split {part}-{ways} {BINDING}" for part in ("seen", "unseen") for ways in (5, 8)),
    *(f"fastbind --split {part}-2 --demos balanced --shots 2,4,10" for part in ("seen", "unseen")),
    *(f"fastbind --split {part}-5 --demos balanced --shots 5,10,25" for part in ("seen", "unseen")),
    *(f"{task} --shots 4 --demos rices" for task in WITH_RICES),
    *(f"vqav2 --shots 4 --ablation {name}" for name in CONTROLS),
    *(f"fastbind --split seen-5 --shots 32 --ablation {name}" for name in ("images-shuffled", "labels-shuffled")),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference", description=__doc__)
    parser.add_argument("--out", default="results/reference")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th command, from the i-th on")
    asked = parser.parse_args()
    first, parts = (int(n) for n in asked.part.split("/"))
    for command in COMMANDS[first - 1 :: parts]:
        print(f"run {command}", flush=True)
        words = [sys.executable, "-m", "flamingo_eval", "run", *shlex.split(command)]
        subprocess.run([*words, "--model", asked.model, "--out", asked.out], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
