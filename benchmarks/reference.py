"""Makes results/reference: the bundled model on the sample, every task, number of shots and seed, and the controls.

python -m benchmarks.reference [--runs DIR] [--part 1/2]
    The runs go to results/reference-runs, which git ignores; finished ones are skipped, and parts may run side by side.
    Once all are there, results/reference is written again: scores.csv (one line per run: scores, intervals, and the
    sha256 of its answers), figure.svg, manifest.json and the complete folders of a few runs. NExT-QA needs NLTK's
    data (NLTK_DATA).

python -m benchmarks.reference --check N [--draw SEED]
    Repeats N of the runs, drawn by SEED, and compares the sha256 of their answers and their scores with scores.csv.
    Exit code 1 if any differs, or if none could be repeated. Runs of NExT-QA are skipped, with a message, if NLTK's
    data is missing.

python -m benchmarks.reference --card [--runs DIR] [--part 1/2]
    Writes results/reference/icl.md and report.html: what shots add to every sample task and what is copied from them,
    one seed and few queries a task, from runs below results/reference-card.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flamingo_eval.config.groups import members
from flamingo_eval.errors import MissingDependency
from flamingo_eval.metrics.requirements import require_installed
from flamingo_eval.records import best_of

REPOSITORY = Path(__file__).parents[1]
REFERENCE = REPOSITORY / "results" / "reference"
RUNS = REPOSITORY / "results" / "reference-runs"
CARD_RUNS = REPOSITORY / "results" / "reference-card"
EXAMPLES = "runs"  # below REFERENCE
PAGE_BYTES = 800_000
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
    "visdial --shots 0,4,8,16 --seeds 0,1,2",  # at 32 its dialogues are longer than tiny's context
    "rareact --shots 0 --seeds 0,1,2",
    *(f"fastbind --split {part}-{ways} {BINDING}" for part in ("seen", "unseen") for ways in (5, 8)),
    *(f"fastbind --split {part}-2 --demos balanced --shots 2,4,10" for part in ("seen", "unseen")),
    *(f"fastbind --split {part}-5 --demos balanced --shots 5,10,25" for part in ("seen", "unseen")),
    *(f"{task} --shots 4 --demos rices" for task in WITH_RICES),
    *(f"vqav2 --shots 4 --ablation {name}" for name in CONTROLS),
    *(f"fastbind --split seen-5 --shots 32 --ablation {name}" for name in ("images-shuffled", "labels-shuffled")),
)
# The runs whose folders are kept, by task, split, demonstrations, shots and seed.
KEPT = (
    *(("vqav2@sample", "val", "random", shots, 0) for shots in (0, 4)),
    ("fastbind@sample", "unseen-2", "balanced", 2, 0),
    ("gqa@sample", "testdev", "rices", 4, 0),
    ("hateful_memes@sample", "test_seen", "random", 4, 0),
    ("textvqa@sample", "val", "random", 4, 0),
)
SPAN = "--shots 0,4,8,16"
CARD_CLIPS = ("star", "ivqa", "visdial", "kinetics700", "msrvttqa", "nextqa")
CAPTIONS = ("flickr30k", "youcook2", "textcaps", "nocaps", "vatex")
CARD = (
    *(f"{task} {SPAN} --limit 100" for task in ("vqav2", "okvqa", "hateful_memes", "imagenet", "fastbind", "coco")),
    *(f"{task} {SPAN} --limit 60" for task in ("vizwiz", "textvqa", "gqa", "msvdqa")),
    *(f"{task} --shots 0,8 --limit 24" for task in (*CARD_CLIPS, *CAPTIONS)),
    "rareact --shots 0 --limit 100",
    "vl_icl_open_mi --shots 0,1,2,4 --limit 100 --protocol flamingo",
    *(
        f"vl_icl_{task} --shots 0,4,8 --limit 100 --protocol flamingo"
        for task in ("clevr", "textocr", "matching_mi", "operator_induction", "operator_induction_interleaved")
    ),
    *(f"{task} --shots 0,all" for task in ("smmile", "smmile_plusplus", "smmile_mcqa", "smmile_plusplus_mcqa")),
    *(f"{task} --shots 0,4 --protocol flamingo" for task in ("isekai_10", "isekai_pair", *members("truemicl"))),
)
COLUMNS = (
    "task", "split", "model", "protocol", "demos", "shots", "text_only_shots", "seed", "ablation", "metric", "value",
    "ci95_low", "ci95_high", "n", "n_failed", "undefined", "ceiling", "other_metrics", "answers_sha256",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reference", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, help="folder of the runs (default: results/reference-runs or -card)")
    parser.add_argument("--card", action="store_true", help="run the tasks of the in-context card and write it")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th command, from the i-th on; writes nothing else")
    parser.add_argument("--check", type=int, metavar="N", help="repeat N of the runs and compare")
    parser.add_argument("--draw", type=int, default=0, metavar="SEED", help="which runs --check repeats")
    options = parser.parse_args()
    if options.check is not None:
        sys.exit(check(options.check, options.draw, options.model))
    first, parts = (int(n) for n in options.part.split("/"))
    runs = options.runs or (CARD_RUNS if options.card else RUNS)
    for command in (CARD if options.card else COMMANDS)[first - 1 :: parts]:
        print(f"run {command}", flush=True)
        _run(shlex.split(command), options.model, runs)
    if parts == 1:
        (write_card if options.card else write)(runs, REFERENCE)


def write(runs: Path, reference: Path) -> None:
    """Write the reference results of finished runs. Earlier results below `reference` are replaced."""
    rows = rows_of(runs)
    shutil.rmtree(reference / EXAMPLES, ignore_errors=True)
    reference.mkdir(parents=True, exist_ok=True)
    with (reference / "scores.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    kept = set()
    for folder in run_folders(runs):
        scores = json.loads((folder / "scores.json").read_bytes())
        name = tuple(scores[key] for key in ("task", "split", "demos", "shots", "seed"))
        if name in KEPT and not scores["ablation"]:
            shutil.copytree(folder, reference / EXAMPLES / folder.relative_to(runs))
            kept.add(name)
    if missing := [name for name in KEPT if name not in kept]:
        sys.exit(f"{runs}: missing runs: {missing}")
    _call("report", runs, "--figure", reference / "figure.svg")
    files = {name: _sha256(reference / name) for name in ("scores.csv", "figure.svg")}
    manifest = {**_provenance(runs), "command": "python -m benchmarks.reference", "runs": len(rows), "files": files}
    (reference / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    print(f"{reference}: {len(rows)} runs")


def write_card(runs: Path, reference: Path) -> None:
    """Write results/reference/icl.md and report.html from finished runs."""
    _call("report", runs, "--icl", "--format", "markdown", "--out", reference / "icl.md")
    card = (reference / "icl.md").read_text(encoding="utf-8")
    provenance = _provenance(runs)
    checkpoint, commits = provenance["checkpoint"], ", ".join(commit[:12] for commit in provenance["commits"])
    head = (
        "# The in-context card of the bundled checkpoint on the sample\n\n"
        f"Made by `python -m benchmarks.reference --card` with {checkpoint['name']} ({checkpoint['sha256'][:12]}), "
        f"commit {commits}: seed 0, few queries a task. `docs/scores.md` has the definitions.\n\n"
    )
    (reference / "icl.md").write_text(head + card, encoding="utf-8")
    print(f"{reference / 'icl.md'}: {len(head + card):,} characters")
    _draw(runs, reference)


def check(number: int, draw: int, model: str) -> int:
    """Repeat runs of scores.csv; returns 1 if one gives other outputs or scores, or if all were skipped."""
    with (REFERENCE / "scores.csv").open(encoding="utf-8", newline="") as file:
        recorded = list(csv.DictReader(file))
    chosen = random.Random(draw).sample(recorded, min(number, len(recorded)))
    different, skipped = 0, dict[str, int]()  # why -> runs
    for i, expected in enumerate(chosen, start=1):
        if missing := _missing(expected["metric"]):
            skipped[missing] = skipped.get(missing, 0) + 1
            print(f"{i}/{len(chosen)} {shlex.join(arguments(expected))}: skipped: {missing}", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            words = arguments(expected)
            _run(words, model, Path(folder))
            (row,) = rows_of(Path(folder))
        keys = [key for key in COLUMNS if str(row[key]) != expected[key]]
        different += bool(keys)
        verdict = "".join(f"\n  {key}: expected {expected[key]}, got {row[key]}" for key in keys) or " the same"
        print(f"{i}/{len(chosen)} {shlex.join(words)}:{verdict}", flush=True)
    repeated = len(chosen) - sum(skipped.values())
    print(
        f"{repeated} runs repeated: {repeated - different} the same, {different} not; {sum(skipped.values())} skipped"
    )
    if not repeated:
        reasons = "; ".join(skipped) or f"{number} runs were asked for"
        print(f"nothing was compared: {reasons}\nTry other runs with --draw SEED.", file=sys.stderr)
    return int(different > 0 or not repeated)


def arguments(row: Mapping[str, str]) -> list[str]:
    """The arguments of `flamingo-eval run` for a line of scores.csv."""
    words = [row["task"].removesuffix("@sample"), "--split", row["split"], "--demos", row["demos"]]
    words += ["--shots", row["shots"], "--seeds", row["seed"]]
    return words + (["--ablation", row["ablation"]] if row["ablation"] else [])


def rows_of(runs: Path) -> list[dict[str, Any]]:
    """A line of scores.csv for every finished run, sorted."""
    rows = [_row(folder) for folder in run_folders(runs)]
    return sorted(rows, key=lambda r: (r["task"], r["split"], r["demos"], r["ablation"], r["shots"], r["seed"]))


def run_folders(runs: Path) -> Iterator[Path]:
    """Folders of finished runs, sorted."""
    return (path.parent for path in sorted(runs.rglob("scores.json")))


def _row(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "scores.json").read_bytes())
    score, *others = record["scores"]
    low, high = score.get("ci95") or ("", "")
    return {
        **{key: "" if record[key] is None else record[key] for key in COLUMNS if key in record},
        "text_only_shots": record["text_only_shots"] or 0,
        "metric": score["metric"],
        "value": "" if score["value"] is None else score["value"],
        "ci95_low": low,
        "ci95_high": high,
        "n": score["n"],
        "n_failed": score["n_failed"],
        "undefined": score.get("why_undefined", ""),
        "ceiling": score.get("breakdown", {}).get("ceiling", ""),
        "other_metrics": json.dumps({s["metric"]: [s["value"], *(s.get("ci95") or ())] for s in others})
        if others
        else "",
        "answers_sha256": answers_sha256(folder / "outputs.jsonl"),
    }


def answers_sha256(outputs: Path) -> str:
    """The sha256 over every query's id, demonstrations and answer: the generated text, or the index of the candidate.

    Candidate scores do not count: their last digits depend on the processor and the number of threads. Nor do other
    keys and the layout of a line, so that the value stays the same if the record's format changes.
    """
    digest = hashlib.sha256()
    for line in outputs.read_text(encoding="utf-8").splitlines():
        output = json.loads(line)
        scores, best = output.get("scores"), output.get("best")
        candidate = best["candidate"] if best else best_of([float(s) for s in scores]) if scores else None
        answer = [output["id"], output["shots"], output.get("raw"), output.get("prediction"), candidate]
        digest.update(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def _missing(metric: str) -> str:
    """Why a metric cannot be computed on this machine, or an empty text."""
    try:
        require_installed(metric)
    except MissingDependency as error:
        return str(error)
    return ""


def _provenance(runs: Path) -> dict[str, Any]:
    """Checkpoint, commit and machine of the runs. Exits if they are from several checkpoints."""
    records = [json.loads((folder / "run.json").read_bytes()) for folder in run_folders(runs)]
    checkpoints = sorted({record["inputs"]["checkpoint"] for record in records})
    if len(checkpoints) != 1:
        sys.exit(f"{runs}: expected the runs of one checkpoint, got {len(checkpoints)}: {', '.join(checkpoints)}")
    first = records[0]["provenance"]
    return {
        "checkpoint": {"name": records[0]["spec"]["model"], "sha256": checkpoints[0]},
        "commits": sorted({record["provenance"]["commit"] for record in records}),
        **{key: first[key] for key in ("flamingo_eval", "python", "platform", "device_name", "packages")},
    }


def _draw(runs: Path, reference: Path) -> None:
    """The page: the card, and a query of each task with its pictures, as far as PAGE_BYTES allow."""
    page = reference / "report.html"
    for queries, pictures in ((1, 120), (1, 60), (1, 30), (0, 0)):
        options = ["--queries", str(queries), "--pictures", str(pictures), "--picture-size", "72"]
        title = "flamingo-eval: tiny on the sample"
        _call("report", runs, "--format", "html", "--title", title, *options, "--out", page)
        if page.stat().st_size <= PAGE_BYTES:
            return
    sys.exit(f"{page}: {page.stat().st_size} bytes, at most {PAGE_BYTES} wanted")


def _run(words: Sequence[str], model: str, out: Path) -> None:
    _call("run", *words, "--model", model, "--out", out)


def _call(*words: str | Path) -> None:
    command = [sys.executable, "-m", "flamingo_eval", *map(str, words)]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # errors are printed to the terminal
    if done.returncode:
        sys.exit(f"exit code {done.returncode}: {shlex.join(command)}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
