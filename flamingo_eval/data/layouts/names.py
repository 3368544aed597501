"""Ids -> file names, by the patterns of the task YAML: `COCO_val2014_{image_id:012d}.jpg`."""

from __future__ import annotations

from flamingo_eval.data.annotations import Record
from flamingo_eval.data.source import Source
from flamingo_eval.errors import ConfigError


def image_names(source: Source, record: Record, key: str = "image_id") -> tuple[str, ...]:
    """The possible names of a picture: one for each pattern of the split's `image_name` role."""
    image_id = record.id(key)
    if not image_id:
        return ("",)
    names = []
    for pattern in source.words("image_name") or ("{image_id}.jpg",):
        try:
            names.append(pattern.format(image_id=int(image_id) if image_id.isdecimal() else image_id))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            if image_id.isdecimal():
                raise ConfigError(
                    f"task '{source.task.name}', data.splits.{source.split}.image_name: '{pattern}' is not a pattern "
                    f"over image_id ({error})."
                ) from error
            record.problem(key, f"expected an integer for '{pattern}', got '{image_id}'.")
    return tuple(names) or ("",)


def question_text(source: Source, record: Record, key: str = "question") -> str:
    """A question. With option `question_mark: append`, a missing question mark is added."""
    question = record.filled(key)
    if source.option("question_mark") == "append" and question and not question.rstrip().endswith("?"):
        return question.rstrip() + "?"
    return question
