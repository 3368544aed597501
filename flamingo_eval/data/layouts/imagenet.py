"""ImageNet-1k: the class index is the position among the sorted WordNet ids, never the development kit's own number.

Labels come from folders named by WordNet id, or, where val is flat, from Kaggle's LOC_val_solution.csv, or from the
development kit's ground truth (a 1-based ILSVRC2012_ID a line, in file-name order). The name of a class is the first
lemma of its synset; if another class has that name, the next lemma, or a number is added. Scoring uses the index.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from flamingo_eval.data.annotation_files import read_csv, read_text
from flamingo_eval.data.annotations import ProblemLog
from flamingo_eval.data.folders import IMAGE_SUFFIXES, is_hidden
from flamingo_eval.data.source import Source
from flamingo_eval.errors import DataError
from flamingo_eval.records import Example, Image, Split

WAYS = "folders named by class, LOC_val_solution.csv, or the development kit"


def load(source: Source) -> Split:
    """Examples sorted by file name. id: the file name without suffix. target: index of the class."""
    synsets = _synsets(source)
    names = class_names(list(synsets.values()))
    index = {wnid: i for i, wnid in enumerate(synsets)}
    pictures, labels = _labels(source, synsets)
    fields: dict[str, object] = {}
    examples = []
    unknown: dict[str, str] = {}  # class -> its first picture
    for stem in sorted(labels):
        wnid = labels[stem]
        if wnid not in index:
            unknown.setdefault(wnid, stem)
            continue
        path = pictures.get(stem, _expected(source, stem))
        examples.append(
            Example(
                id=stem,
                media=(Image(path),) if source.with_media else (),
                media_id=stem,
                fields=fields,
                answer=names[index[wnid]],
                target=index[wnid],
            )
        )
    for wnid, stem in unknown.items():
        what = f"class {wnid} is not among the {len(index)} synsets."
        folder = pictures[stem].parent if stem in pictures else source.root
        if folder.name == wnid:
            source.log.add(folder, "", what, "Move it out of the folder of classes, or rename it.")
        else:
            source.log.add(source.root, stem, what)
    return source.finish(examples, names)


def class_names(lemmas: Sequence[str]) -> tuple[str, ...]:
    """One name per class from its comma-separated lemmas: the first that no earlier class has, or with a number."""
    shared = [text.split(", ") for text in lemmas]
    first = [words[0] for words in shared]
    names: dict[str, None] = {}
    for words in shared:
        # for a shared first lemma, the next lemma that is not the first of any class
        own_words = words if first.count(words[0]) == 1 else [w for w in words[1:] if w not in first] + [words[0]]
        free = [word for word in own_words if word not in names]
        names[free[0] if free else _numbered(own_words[-1], names)] = None
    return tuple(names)


def _numbered(name: str, names: Mapping[str, None]) -> str:
    number = 2
    while f"{name} ({number})" in names:
        number += 1
    return f"{name} ({number})"


def _synsets(source: Source) -> dict[str, str]:
    """WordNet id -> lemmas, sorted by id: the download's LOC_synset_mapping.txt, or the list of ILSVRC 2012."""
    own_file = source.optional_file("synsets")
    text = read_text(own_file) if own_file else _shipped("imagenet_synsets.txt")
    synsets = {}
    for number, line in enumerate(text.splitlines(), start=1):
        wnid, _, lemmas = line.partition(" ")
        if own_file and not lemmas.strip():
            source.log.add(own_file, "", f"expected '<WordNet id> <names>', got '{line[:60]}'.", line=number)
        synsets[wnid] = lemmas.strip()
    return dict(sorted(synsets.items()))


def _shipped(name: str) -> str:
    return files("flamingo_eval.data.layouts").joinpath(name).read_text("utf-8")


def _labels(source: Source, synsets: Mapping[str, str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Paths and WordNet ids of the pictures, by file stem."""
    pictures: dict[str, Path] = {}
    by_folder: dict[str, str] = {}
    for folder in source.folders("images").existing[:1]:
        for name in _entries(folder):
            if (folder / name).is_dir():
                for stem, path in _pictures(folder / name):
                    if stem in by_folder:
                        source.log.add(path, "", f"duplicate picture name, also in {by_folder[stem]}.")
                    pictures[stem], by_folder[stem] = path, name
            elif name.lower().endswith(IMAGE_SUFFIXES):
                pictures[os.path.splitext(name)[0]] = folder / name
    if by_folder:
        return pictures, by_folder
    solution = source.optional_file("solution")
    if solution is not None:
        return pictures, _kaggle(solution, source.log)
    ground_truth = source.optional_file("ground_truth")
    if ground_truth is not None:
        return pictures, _devkit(ground_truth, pictures, source.log)
    raise DataError(f"{source.title}: found no classes of the pictures: expected {WAYS} in {source.root}.")


def _pictures(folder: Path) -> Iterable[tuple[str, Path]]:
    for name in _entries(folder):
        if name.lower().endswith(IMAGE_SUFFIXES):
            yield os.path.splitext(name)[0], folder / name


def _entries(folder: Path) -> list[str]:
    """Names in a folder, sorted, without hidden files of other programs."""
    return sorted(name for name in os.listdir(folder) if not is_hidden(name))


def _kaggle(path: Path, log: ProblemLog) -> dict[str, str]:
    """`ILSVRC2012_val_00000001,n01751748 111 108 230 366 ...`: the first word of the boxes is the class."""
    rows = read_csv(path, ["ImageId", "PredictionString"], log)
    labels: dict[str, str] = {}
    for row in rows:
        id, boxes = row.filled("ImageId"), row.filled("PredictionString")
        if id in labels:
            row.problem("ImageId", f"duplicate id {id}.", "Remove one of them.")
        labels[id] = boxes.split(" ")[0]
    return labels


def _devkit(path: Path, pictures: Mapping[str, Path], log: ProblemLog) -> dict[str, str]:
    """The n-th line is the ILSVRC2012_ID of the n-th file by name; the n-th shipped id has number n."""
    wnids = _shipped("ilsvrc2012_ids.txt").split()
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    stems = sorted(pictures) or [f"ILSVRC2012_val_{n:08d}" for n in range(1, len(lines) + 1)]
    if len(stems) != len(lines):
        raise DataError(
            f"{path}: {len(lines)} lines for {len(stems)} pictures.", fix="Use files of the same ILSVRC 2012 release."
        )
    labels = {}
    for number, (stem, line) in enumerate(zip(stems, lines, strict=True), start=1):
        if not (line.isascii() and line.isdecimal() and 1 <= int(line[:9]) <= len(wnids)):
            log.add(path, "", f"expected a class number from 1 to {len(wnids)}, got '{line[:40]}'.", line=number)
            continue
        labels[stem] = wnids[int(line) - 1]
    return labels


def _expected(source: Source, stem: str) -> Path:
    folders = source.folders("images")
    return (folders.existing or folders.candidates)[0] / f"{stem}.JPEG"
