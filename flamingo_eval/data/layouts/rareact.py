"""RareAct: rows of a CSV, each a segment with a verb-noun class and its visible part; 149 candidate sentences.

The sentence of a class is "a person", the verb in the third person and the noun with its article (Flamingo v2 B.1.5).
Some nouns are plurals ("shoes") or not countable ("hair"), one is misspelt ("clothe"), and "microwave" is also a verb,
so the phrases are a table and not a rule. Class table: RareAct, Apache-2.0.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from flamingo_eval.data.annotation_files import read_csv
from flamingo_eval.data.annotations import ProblemLog, unique
from flamingo_eval.data.layouts.clips import clip_of
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split

ANNOTATIONS = (0, 1, 2, 3, 4)  # negative, positive, verb only, noun only, both but not together


@cache
def classes() -> tuple[tuple[str, str, str], ...]:
    """(verb, noun, phrase) by class_id: 149 of them."""
    table = files("flamingo_eval.data.layouts").joinpath("rareact_phrases.csv")
    rows = read_csv(Path(str(table)), ["class_id", "verb", "noun", "phrase"], ProblemLog())
    return tuple((row.text("verb"), row.text("noun"), row.text("phrase")) for row in rows)


def load(source: Source) -> Split:
    """One example per row, in file order. id: id. labels: verb, noun, annotation, class_id, video_id."""
    columns = ["id", "video_id", "start", "end", "class_id", "verb", "noun", "annotation"]
    records = read_csv(source.file("annotations"), columns, source.log)
    table = classes()
    candidates = tuple(f"a person {phrase}" for _, _, phrase in table)
    folders = source.folders("videos")
    examples = []
    for id, record in unique([(record.id("id"), record) for record in records], "id").items():
        number, annotation = record.integer("class_id"), record.integer("annotation")
        verb, noun, video = record.text("verb"), record.text("noun"), record.id("video_id")
        if not 0 <= number < len(table):
            record.problem("class_id", f"{number} is not one of 0 to {len(table) - 1}.")
            continue
        if (verb, noun) != table[number][:2]:
            record.problem("class_id", f"class {number} is '{' '.join(table[number][:2])}', not '{verb} {noun}'.")
        if annotation not in ANNOTATIONS:
            record.problem("annotation", f"expected one of 0 to 4, got {annotation}.")
        start, end = record.number("start"), record.number("end")
        cut = f"{video}_{start:g}_{end:g}"
        examples.append(
            Example(
                id=id,
                media=clip_of(source, folders, (cut,), video, start, end),
                media_id=cut,
                target=number,
                labels={
                    "verb": verb,
                    "noun": noun,
                    "annotation": annotation,
                    "class_id": number,
                    "video_id": video,
                },
            )
        )
    return source.finish(examples, candidates)
