"""iVQA: a CSV with one question per clip and five answers; every cell is text ("null" and "NA" are answers).

The clip is the start..end window of a how-to video, named by its YouTube id. Many downloads contain only the window,
under the same name: a file about as long as the window is shown completely (videos.py decides when it opens it).
"""

from __future__ import annotations

from flamingo_eval.data.annotation_files import read_csv
from flamingo_eval.data.annotations import unique
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.layouts.names import question_text
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split

ANSWERS = ("answer1", "answer2", "answer3", "answer4", "answer5")


def load(source: Source) -> Split:
    """Examples in file order. id: video_id."""
    columns = ["video_id", "start", "end", "question", *ANSWERS]
    records = read_csv(source.file("annotations"), columns, source.log)
    folders = source.folders("videos")
    examples = []
    for id, record in unique([(record.id("video_id"), record) for record in records], "video_id").items():
        references = tuple(record.text(key) for key in ANSWERS)
        start, end = record.number("start"), record.number("end")
        if end <= start:
            record.problem("end", f"{end:g} is not after start {start:g}.")
        examples.append(
            Example(
                id=id,
                media=source.clip(folders, (id,), start, end, maybe_cut=True),
                media_id=id,
                fields={"question": question_text(source, record)},
                answer=demonstration_answer(source, references),
                references=references,
            )
        )
    return source.finish(examples)
