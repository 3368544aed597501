"""Pictures in words, if a benchmark has them: text twins of VL-ICL, COCO's captions next to VQA's questions.

They are read only for the ablation images-in-words, so that nothing else depends on these files.

    twin       VL-ICL: support.json of the task's `_text` folder. The words are a row's `text`, `description` or
               `caption`, else its `question` where the row of the plain folder asks another one
    captions   VQA: COCO's captions file of the same pictures; of several captions the one with the lowest id
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.annotation_files import read_list, read_object
from flamingo_eval.data.annotations import Record, unique
from flamingo_eval.data.layouts import source_of
from flamingo_eval.data.layouts.names import image_names
from flamingo_eval.data.roots import DataRoot
from flamingo_eval.data.source import Source
from flamingo_eval.records import IN_WORDS, Example, Split

KEYS = ("text", "description", "caption")  # of a twin's row


def with_words(task: TaskSpec, root: Path | DataRoot, split: Split) -> Split:
    """The split with label `in_words` on every row whose pictures a file puts into words; its file is then read too.

    Raises DataError for a file that is there and broken.
    """
    source = source_of(task, root, split.name, media=False)
    for role, read in READERS.items():
        path = source.optional_file(role)
        if path is not None:
            words = read(source, path, split)
            source.log.raise_if_any(source.title)
            examples = tuple(_labelled(example, words.get(example.id, "")) for example in split.examples)
            return replace(split, examples=examples, files=(*split.files, path))
    return split


def _labelled(example: Example, words: str) -> Example:
    return replace(example, labels={**example.labels, IN_WORDS: words}) if words else example


def _twin(source: Source, path: Path, split: Split) -> Mapping[str, str]:
    """Words by the id of the plain row. The twin's ids may name its folder (`clevr_text_support_...`)."""
    rows = unique([(row.id("id"), row) for row in read_list(path, source.log)], "id")
    twins = {id.replace("_text_", "_", 1): row for id, row in rows.items()}
    return {e.id: _words(twins[e.id], str(e.fields.get("question", ""))) for e in split.examples if e.id in twins}


def _words(row: Record, question: str) -> str:
    key = next((key for key in KEYS if row.has(key)), "")
    text = row.filled(key or "question")
    return text if key or text != question else ""


def _captions(source: Source, path: Path, split: Split) -> Mapping[str, str]:
    """Words by question id, from the captions of its picture."""
    captions: dict[str, str] = {}
    annotations = read_object(path, source.log).records("annotations")
    for record in sorted(annotations, key=lambda r: (len(r.id("id")), r.id("id"))):
        captions.setdefault(image_names(source, record)[0], record.filled("caption").strip())
    return {e.id: captions[e.media_id] for e in split.examples if e.media_id in captions}


READERS: Mapping[str, Callable[[Source, Path, Split], Mapping[str, str]]] = {"twin": _twin, "captions": _captions}
