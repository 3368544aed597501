"""Lines for the user: why a run is new although there is a similar one, and which pictures have changed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flamingo_eval.errors import RunError
from flamingo_eval.runs.folder import RunFolder
from flamingo_eval.runs.identity import explain, family, in_words
from flamingo_eval.runs.record import RunRecord, read_run

MOST_NAMED = 3  # pictures in a sentence


def why_new(folder: RunFolder, record: RunRecord) -> str:
    """How a new run differs from the most similar existing one; "" if there is none."""
    same_name = re.compile(re.escape(family(record.spec)) + r"-[0-9a-f]{8}")
    similar = []
    for path in sorted(folder.path.parent.iterdir()):
        if path == folder.path or not same_name.fullmatch(path.name):
            continue
        try:
            similar.append((explain(read_run(RunFolder(path).run), record), path.name))
        except RunError:
            continue  # damaged, or from a later version: cannot be compared
    if not similar:
        return ""
    differences, name = min(similar, key=lambda candidate: len(candidate[0]))
    if not differences:
        return f"new run: {name} is from an earlier version of flamingo-eval"
    return f"new run, not {name}: {in_words(differences)} differ{'s' if len(differences) == 1 else ''}"


def changed_sentence(names: Sequence[str]) -> str:
    """`2 pictures or clips have changed since they were answered: a.jpg, b.jpg.` and what to do; "" for none."""
    if not names:
        return ""
    count = "1 picture or clip has" if len(names) == 1 else f"{len(names)} pictures or clips have"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    names_text = ", ".join(names[:MOST_NAMED])
    return f"{count} changed since this run used them: {names_text}{more}. Run it again with --fresh."
