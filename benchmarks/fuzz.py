"""Tests everything that reads files with damaged files: python -m benchmarks.fuzz --cases 10000.

Real files (the embedded sample in the official layouts, the tiny checkpoint, the shipped tasks, prompts and recipes, a
run folder, predictions in every form, a demonstrations file, settings) are damaged in one to three ways and read again.
Allowed are success and a FlamingoEvalError; a finding is any other exception, more than 10 s of processor time or more
than 4 GB. Accepted predictions must be those that a strict reader finds. Prints the cases of
each target and every finding; exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

import flamingo_eval
from flamingo_eval.api import load_flamingo_model
from flamingo_eval.config.load import load_prompt, load_spec
from flamingo_eval.config.names import find_task
from flamingo_eval.config.protocols import load_protocol
from flamingo_eval.config.settings import Settings
from flamingo_eval.config.specs import DemoSpec, ProtocolSpec, TaskSpec
from flamingo_eval.data.layouts import load_labelled, load_split, splits_on_disk
from flamingo_eval.data.media import open_image, open_video
from flamingo_eval.data.source import NoExamplesError
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import FlamingoEvalError
from flamingo_eval.models.checkpoint import load_flamingo
from flamingo_eval.models.convert.foreign_weights import close_files, file_weights, folder_weights
from flamingo_eval.models.convert.openflamingo import convert_openflamingo
from flamingo_eval.models.tokenizer import read_tokenizer
from flamingo_eval.prompting.ablations import BLANK
from flamingo_eval.prompting.given_demos import read_demos_file
from flamingo_eval.prompting.prompts import render
from flamingo_eval.records import Episode, Example, Image, Prompt, Split, Video
from flamingo_eval.report.formats import csv_text, json_value, latex, markdown
from flamingo_eval.report.page import PageOptions, html_page
from flamingo_eval.report.tables import table_of
from flamingo_eval.runs.folder import find_runs
from flamingo_eval.runs.predictions import read_predictions
from flamingo_eval.sample import sample_root
from flamingo_eval.training.bridge.recipe import load_bridge_recipe
from flamingo_eval.training.recipe import load_recipe, stage_of

FOREIGN = Path(flamingo_eval.__file__).parent.parent / "tests/data/openflamingo/opt"
CONVERTED = (
    *("checkpoint.pt", "lm/config.json", "lm/model.safetensors", "tokenizer/tokenizer.json"),
    *("vision_hf/config.json", "vision_hf/model.safetensors"),
)
ROWS = """
name: rows
title: Rows
modality: image
mode: open-ended
prompt: qa
data:
  layout: rows
  query: val
  support: train
  splits: {val: {rows: [val.parquet], images: [.]}, train: {rows: [train.arrow], images: [.]}}
metrics: [exact_match]
"""
SECONDS = 10
GIGABYTES = 4
PACKAGE = Path(flamingo_eval.__file__).parent
REPOSITORY = PACKAGE.parent
FIELDS = {"question": "What?", "caption": "a kite"}
RECIPES = PACKAGE / "training/recipes"
TABLES = ("vqav2", "coco", "nextqa", "ivqa", "rareact", "hateful_memes", "visdial", "kinetics700", "msrvttqa", "star")

HOSTILE = (
    *(
        "<script>alert(1)</script>",
        "\x00",
        "\ufeff",
        "\u202e\u2066",
        "../../../../etc/passwd",
        "/dev/zero",
        "-0",
        "NaN",
    ),
    *("1e999", "-1e999", "9" * 5000, "\\ud800", "{{ ''.__class__.__mro__ }}", "{% for x in range(10**9) %}", "%s%n"),
    *(
        "!!python/object/apply:os.system [id]",
        "&a [*a, *a]",
        "a" * 70_000,
        "'\"`;--",
        "\r\n\r\n",
        "\u0000".encode().hex(),
    ),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10**400, 2**63, 1e308, float("inf"), float("nan"), "", [], {}, [[]], [{}], {"a": None}),
    *("\ud800", "\x00", "../../../../etc/passwd", "<script>", [None], 0.5, "NaN", [1, "a", None], 2**31, "x" * 5000),
)


# ------------------------------------------------------------------------------------------------------------- damages


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` broken in one to three ways; structured text half of the time by its structure."""
    if rng.random() < 0.5 and (changed := _other_values(data, rng)) is not None:
        return changed if rng.random() < 0.8 else damage_bytes(changed, rng)
    for _ in range(rng.randint(1, 3)):
        data = damage_bytes(data, rng)
    return data


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """One damage, independent of the format."""
    n = len(data)
    at, end = sorted((rng.randint(0, n), rng.randint(0, n)))
    kind = rng.randrange(12)
    if kind == 0 and n:  # bits flipped
        out = bytearray(data)
        for _ in range(rng.randint(1, 16)):
            out[rng.randrange(n)] ^= 1 << rng.randrange(8)
        return bytes(out)
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + rng.randbytes(rng.randint(1, 200)) + data[at:]
    if kind == 3:
        return data[:at] + rng.choice(HOSTILE).encode("utf-8", "surrogatepass") + data[at:]
    if kind == 4:  # a piece removed
        return data[:at] + data[min(end, at + 4096) :]
    if kind == 5:  # a piece repeated
        return data[: min(end, at + 4096)] + data[at:]
    if kind == 6:
        return b"\xef\xbb\xbf" + data
    if kind == 7:
        text = data.decode("utf-8", "replace")
        return text.encode(rng.choice(("utf-16", "utf-32", "latin-1", "cp1252", "utf-7")), "replace")
    if kind == 8:
        return rng.choice((b"[", b'{"a":', b"- ", b"{a: ", b"[[")) * rng.choice((10, 3000, 100_000))
    if kind == 9:  # a huge number, as in a header
        out = bytearray(data)
        where = rng.randint(0, min(n, 64))
        out[where : where + 8] = rng.choice((b"\xff" * 8, b"\x00" * 8, (2**40).to_bytes(8, "little"), b"\x7f" * 4))
        return bytes(out)
    if kind == 10:
        return rng.choice((b"", b"\n", b"\x00" * 100, b"null", b"[]", b"{}", b"---\n---\n", b"0"))
    return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\x00\n")), rng.choice((1, -1)))


def _other_values(data: bytes, rng: random.Random) -> bytes | None:
    """A JSON file or lines of it with wrong types, missing, unknown and duplicate keys; None if it is neither."""
    try:
        value = json.loads(data)
        lines = None
    except ValueError:
        lines = data.decode("utf-8", "replace").split("\n")
        picked = rng.randrange(len(lines))
        try:
            value = json.loads(lines[picked])
        except ValueError:
            return None
    for _ in range(rng.randint(1, 3)):
        value = _changed(value, rng)
    text = json.dumps(value)
    if rng.random() < 0.1 and text.startswith("{") and len(text) > 2:
        text = "{" + text[1:-1] + "," + text[1:-1] + "}"  # duplicate every key
    if lines is None:
        return text.encode()
    lines[picked] = text
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.15:
            return {**value, rng.choice(HOSTILE): rng.choice(VALUES)}
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        if rng.random() < 0.15:
            return [*value, value[at]]
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int) and rng.random() < 0.5:
        return rng.choice((value + 1, -value, value * 10**6, value + 0.5 if abs(value) < 2**60 else 0.5))
    return rng.choice(VALUES)


# ------------------------------------------------------------------------------------------------------------- targets


@dataclass(frozen=True, slots=True)
class Target:
    """Files to damage, and the code that reads them. `read` gets the path of the damaged copy."""

    name: str
    files: tuple[Path, ...]
    read: Callable[[Path], None]
    root: Path | None = None  # the folder that is copied with the file; None: only the file


def targets(work: Path) -> list[Target]:
    """Everything in the package that reads a user's file. New files are created in `work`."""
    tiny = PACKAGE / "sample/tiny"
    all_targets = [
        Target("task YAML", _files(REPOSITORY / "tasks", "*.yaml"), lambda p: _ignore(load_task(p))),
        Target("prompt YAML", _files(REPOSITORY / "prompts", "*/qa.yaml"), _prompt),
        Target("protocol YAML", _files(REPOSITORY / "prompts", "*/protocol.yaml"), lambda p: _ignore(load_protocol(p))),
        *(
            Target(f"own prompts from {name}", _files(REPOSITORY / "prompts" / name, "*.yaml"), _own_prompts, folder)
            for name in ("flamingo", "chat")
            for folder in (REPOSITORY / "prompts" / name,)
        ),
        Target("settings", _settings(work), lambda p: _ignore(load_spec(p, Settings))),
        Target("recipes", _files(RECIPES, "*.yaml"), _recipe),
        Target("checkpoint", _files(tiny, "*.*"), lambda p: _checkpoint(p.parent), tiny),
        Target("foreign weights", (*_files(tiny, "*.safetensors"), *_pickles(work)), _foreign),
        Target("conversion", tuple(FOREIGN / name for name in CONVERTED), lambda p: _convert(p, work), FOREIGN),
        _parquet(work),
    ]
    for task in TABLES:
        spec, root = load_task(find_task(task)), sample_root(task)
        files = tuple(p for p in _files(root, "**/*") if p.suffix in (".json", ".jsonl", ".csv", ".txt"))
        all_targets.append(Target(f"rows of {task}", files, _checking(spec, root), root))
    vqav2 = sample_root("vqav2")
    clips = [p for t in ("msrvttqa", "nextqa") for p in _files(sample_root(t), "**/*") if p.suffix in (".mp4", ".avi")]
    pictures = [p for p in _files(vqav2, "**/*") if p.suffix in (".jpg", ".png")][:8]
    all_targets += [
        Target("pictures", (*pictures, BLANK.path), lambda p: _ignore(open_image(Image(p)))),
        Target("clips", tuple(clips[:8]), lambda p: _ignore(open_video(Video(p)))),
        Target("predictions", _predictions(work), _score),
        Target("prediction forms", _prediction_forms(work), _score_any_form),
        Target("demonstrations file", _demos_file(work), _demos),
    ]
    runs = sorted((REPOSITORY / "results/reference").rglob("scores.json"))
    smallest = min(runs, key=lambda p: (p.parent / "outputs.jsonl").stat().st_size)
    return [
        *all_targets,
        Target("report", _files(smallest.parent, "*.json*"), lambda p: _report(p.parent), smallest.parent),
    ]


def _files(folder: Path, pattern: str) -> tuple[Path, ...]:
    return tuple(sorted(p for p in folder.glob(pattern) if p.is_file()))


def _ignore(_: object) -> None:
    pass


def _prompt(path: Path) -> None:
    spec = load_prompt(path)
    example = Example("1", (), "", fields={"question": "What?", "caption": "a kite"}, answer="a kite")
    render(Episode(example, (example,)), spec, ProtocolSpec("p", "P"))


def _own_prompts(path: Path) -> None:
    """A folder of prompts as `--protocol FOLDER` reads it: the protocol, and every prompt of a task in it."""
    protocol = load_protocol(path.parent / "protocol.yaml")
    for prompt in _files(path.parent, "*.yaml"):
        if prompt.name == "protocol.yaml":
            continue
        spec = load_prompt(prompt)
        if prompt.stem in ("qa", "caption"):
            example = Example("1", (BLANK,), "", fields=FIELDS, answer="a kite", candidates=("a kite", "a dog"))
            render(Episode(example, (example,)), spec, protocol)


def _recipe(path: Path) -> None:
    _ignore(load_bridge_recipe(path) if stage_of(path) == "bridge" else load_recipe(str(path)))


def _settings(work: Path) -> tuple[Path, ...]:
    path = work / "flamingo-eval.yaml"
    path.write_text(
        "data: /data/flamingo\nimages: [/data/coco, /data/clips]\nmodel: tiny\nprotocol: flamingo\nout: results\n"
        "cache_gb: 12.5\n"
    )
    return (path,)


def _checkpoint(folder: Path) -> None:
    load_flamingo(folder, torch.device("cpu"), torch.float32)
    read_tokenizer(folder / "tokenizer.json")


def _foreign(path: Path) -> None:
    for foreign in list(file_weights(path).values())[:20]:
        foreign.read()
    _ignore(folder_weights(path.parent))
    close_files()


def _convert(path: Path, work: Path) -> None:
    """An accepted conversion must create a folder that loads."""
    folder = next(parent for parent in path.parents if parent.name == FOREIGN.name)
    out = work / "converted"
    shutil.rmtree(out, ignore_errors=True)
    convert_openflamingo(folder / "checkpoint.pt", folder / "lm", folder / "vision_hf", folder / "tokenizer", 1, out)
    model = load_flamingo_model(out, device="cpu", dtype="float32")
    model.logits(Prompt(["a", BLANK, "b"]))


def _parquet(work: Path) -> Target:
    """A user's rows with pictures in the table, read as in a run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = work / "rows"
    folder.mkdir()
    (work / "rows.yaml").write_text(ROWS)
    picture = BLANK.path.read_bytes()
    columns = {
        "id": [f"q{i}" for i in range(40)],
        "question": [f"What is {i}?" for i in range(40)],
        "answers": [["cat", "kitten"]] * 40,
        "image": [{"bytes": picture, "path": f"{i}.png"} for i in range(40)],
    }
    pq.write_table(pa.table(columns), folder / "val.parquet", row_group_size=16)
    with pa.OSFile(str(folder / "train.arrow"), "wb") as sink, pa.ipc.new_stream(sink, pa.table(columns).schema) as to:
        to.write_table(pa.table(columns))
    spec = load_task(work / "rows.yaml")

    def read(path: Path) -> None:
        for name in ("val", "train"):
            examples = load_split(spec, path.parent, name).examples
            for example in examples[::13]:
                media = example.media[0]
                assert isinstance(media, Image)
                open_image(media)

    return Target("tables with pictures", _files(folder, "*"), read, folder)


def _checking(spec: TaskSpec, root: Path) -> Callable[[Path], None]:
    return lambda path: _check(path, spec, root)


def _check(path: Path, spec: TaskSpec, root: Path) -> None:
    """Read all splits; pictures and clips have separate targets."""
    copy = next(parent for parent in path.parents if parent.name == root.name)
    first: FlamingoEvalError | None = None
    for name in splits_on_disk(spec, root):
        try:
            load_split(spec, copy, name, media=False)
        except NoExamplesError:
            pass  # the sample does not have every split
        except FlamingoEvalError as error:
            first = first or error
    if first is not None:
        raise first


def _predictions(work: Path) -> tuple[Path, ...]:
    paths = []
    for task in ("vqav2", "hateful_memes"):
        spec = load_task(find_task(task))
        split = load_labelled(spec, sample_root(task))
        path = work / f"{task}.jsonl"
        answer: dict[str, Any] = {"scores": [-1.0, -2.5]} if spec.mode == "close-ended" else {"prediction": "a kite"}
        rows = [{"id": e.id, **answer} for e in split.examples]
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        paths.append(path)
    return tuple(paths)


def _prediction_forms(work: Path) -> tuple[Path, ...]:
    """The answers of VQAv2's sample in each form that `score` reads."""
    folder = work / "forms"
    folder.mkdir()
    ids = [e.id for e in load_labelled(load_task(find_task("vqav2")), sample_root("vqav2")).examples]
    answers = {id: ("a kite", "2", "yes", "")[i % 4] for i, id in enumerate(ids)}
    log = [
        {"doc_id": i, "doc": {"question_id": int(id)}, "target": "x", "resps": [[text]], "filtered_resps": [text]}
        for i, (id, text) in enumerate(answers.items())
    ]
    exported = [
        {"id": id, "shots": 1, "seed": 0, "shot_ids": ids[:1], "task": "vqav2", "prediction": text}
        for id, text in answers.items()
    ]
    texts = {
        "results.json": json.dumps([{"question_id": int(id), "answer": text} for id, text in answers.items()]),
        "map.json": json.dumps(answers),
        "answers.csv": "question_id,answer\n" + "".join(f"{id},{text}\n" for id, text in answers.items()),
        "answers.tsv": "question_id\tanswer\n" + "".join(f"{id}\t{text}\n" for id, text in answers.items()),
        "samples.jsonl": "".join(json.dumps(row) + "\n" for row in log),
        "samples.json": json.dumps({"args": {}, "logs": log}),
        "episodes.jsonl": "".join(json.dumps(row) + "\n" for row in exported),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return _files(folder, "*")


def _demos_file(work: Path) -> tuple[Path, ...]:
    queries, support = _vqav2_splits()
    path = work / "demos.jsonl"
    shot_ids = [e.id for e in support.examples]
    rows = [
        {"id": e.id, "shots": [shot_ids[(i + j) % len(shot_ids)] for j in range(4)]}
        for i, e in enumerate(queries.examples)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (path,)


@cache
def _vqav2_splits() -> tuple[Split, Split]:
    spec, root = load_task(find_task("vqav2")), sample_root("vqav2")
    return load_split(spec, root, "val", media=False), load_split(spec, root, "train", media=False)


def _demos(path: Path) -> None:
    """In an accepted file, every query's shots must be in the support split."""
    queries, support = _vqav2_splits()
    demos = read_demos_file(path, queries, support)
    rows = {e.id for e in support.examples}
    for query in queries.examples[:20]:
        if not set(demos(query, DemoSpec("file", 2, 0))) <= rows:
            raise WrongScoreError("a shot that the support split does not have")


def _pickles(work: Path) -> tuple[Path, ...]:
    path = work / "state.pt"
    torch.save({"model_state_dict": {"a": torch.zeros(3, 4), "b": torch.ones(2)}}, path)
    return (path,)


def _score(path: Path) -> None:
    """Accepted predictions must be those that a separate reader finds; otherwise the score would be wrong."""
    spec = load_task(find_task(path.stem))
    split = load_labelled(spec, sample_root(path.stem))
    predictions = read_predictions(path, spec, split).predictions
    strict: dict[str, Any] = {}
    known = {example.id for example in split.examples}
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    for line in data.decode(encoding).split("\n"):
        if line.strip():
            pairs: list[tuple[str, Any]] = json.loads(line, object_pairs_hook=list)
            row = dict(pairs)
            answer = row.get("prediction", row.get("scores"))
            while isinstance(answer, list) and len(answer) == 1:  # a text in a list, as harnesses write it
                answer = answer[0]
            other = any(row[key] != value and repr(row[key]) != repr(value) for key, value in pairs)  # NaN != NaN
            if other or strict.get(str(row["id"]), answer) != answer:
                raise WrongScoreError(f"accepted a duplicate with another answer: {line[:80]}")
            if str(row["id"]) in known:  # answers to other queries are skipped, which the form says
                strict[str(row["id"])] = answer
    if {p.id: p.text if p.scores is None else list(p.scores) for p in predictions} != strict:
        raise WrongScoreError("other predictions than in the file")


def _score_any_form(path: Path) -> None:
    """Accepted predictions must have a text for each query of the split, and no other query."""
    spec = load_task(find_task("vqav2"))
    split, _ = _vqav2_splits()
    file = read_predictions(path, spec, split, partial=True)
    known = {e.id for e in split.examples}
    if not {p.id for p in file.predictions} <= known or any(p.text is None for p in file.predictions):
        raise WrongScoreError("predictions for unknown queries, or without a text")
    file.form.encode()


def _report(folder: Path) -> None:
    runs = find_runs([folder])
    table = table_of(runs)
    for text in (markdown(table), csv_text(table), latex(table), json.dumps(json_value(table))):
        text.encode()
    page = html_page(runs, table, PageOptions("t", None, 3, 3, 32))
    page.html.encode()
    if any(word in page.html for word in ("<script>alert(1)",)):
        raise WrongScoreError("a record's text stands in the page unescaped")


class WrongScoreError(Exception):
    """A damaged file was accepted and gave a different result."""


class HangError(BaseException):
    """A case took too long; no `except Exception` of the code under test stops it."""


# ------------------------------------------------------------------------------------------------------------ the loop


@dataclass(slots=True)
class Report:
    """Number of cases and findings by target."""

    cases: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)  # where -> the traceback
    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # seconds
    slowest: float = 0.0


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """HangError after this processor time in seconds, or ten times this wall time, because other work may run."""

    def stop(*_: object) -> None:
        raise HangError(f"more than {seconds} s")

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, 10 * seconds))
    before = [signal.signal(number, stop) for _, number, _ in timers]
    for timer, _, limit_of_timer in timers:
        signal.setitimer(timer, limit_of_timer)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def fuzz(
    seed: int, cases: int | None = None, seconds: float | None = None, only: str = "", total: int | None = None
) -> Report:
    """Damaged files: `cases` for each target, `total` over all, or what fits into `seconds`. Same seed, same cases."""
    report, began = Report(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        chosen = [t for t in targets(work) if only in t.name]
        places = [_placed(target, work / f"target{i}") for i, target in enumerate(chosen)]
        for target, files in zip(chosen, places, strict=True):
            for path in files:
                target.read(path)  # undamaged files must be readable, or the target would test nothing
        number = 0
        while cases is None or number < cases:
            for target, files in zip(chosen, places, strict=True):
                if seconds is not None and time.monotonic() - began > seconds:
                    return report
                if total is not None and sum(report.cases.values()) >= total:
                    return report
                _case(target, files, random.Random(f"{seed} {target.name} {number}"), report)
            number += 1
    return report


def _placed(target: Target, place: Path) -> list[Path]:
    """Copies of the target's files that may be damaged."""
    if target.root is not None:
        shutil.copytree(target.root, place / target.root.name)
        return [place / target.root.name / p.relative_to(target.root) for p in target.files]
    place.mkdir()
    return [Path(shutil.copy(p, place / p.name)) for p in target.files]


def _case(target: Target, files: list[Path], rng: random.Random, report: Report) -> None:
    path = rng.choice(files)
    whole = path.read_bytes()
    path.write_bytes(damaged(whole, rng))
    report.cases[target.name] += 1
    began = time.monotonic()
    try:
        with limit(SECONDS):
            target.read(path)
    except FlamingoEvalError as error:
        str(error).encode()
        report.refused[target.name] += 1
    except (Exception, HangError) as error:  # the string that the test suite searches
        where = traceback.extract_tb(error.__traceback__)
        ours = [f for f in where if "flamingo_eval" in f.filename] or where
        place = f"{target.name}: {type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].name}"
        report.findings.setdefault(place, f"{path.name}\n" + "".join(traceback.format_exception(error)[-6:]))
    finally:
        path.write_bytes(whole)
    took = time.monotonic() - began
    report.spent[target.name] += took
    report.slowest = max(report.slowest, took)
    if _peak() > GIGABYTES:
        report.findings.setdefault(f"{target.name}: memory", f"{_peak():.1f} GB after {path.name}")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--cases", type=int, help="number of cases over all targets, instead of --seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose name contains this")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.cases is None:
        report = fuzz(args.seed, seconds=args.seconds, only=args.only)
    else:
        report = fuzz(args.seed, total=args.cases, only=args.only)
    for name, count in report.cases.items():
        print(f"{name:20} {count:7} cases {report.refused[name]:7} refused {report.spent[name]:8.1f} s")
    total = f"{sum(report.cases.values())} cases, {len(report.findings)} kinds of findings"
    print(f"{total}, slowest {report.slowest:.1f} s, at most {_peak():.1f} GB")
    for place, text in report.findings.items():
        print(f"\n{place}\n{text}")
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(main())
