"""A finished run's answers as a per-sample log, in the format of lm-evaluation-harness and lmms-eval.

One JSON line per answered query: `doc`, `target`, `arguments`, `resps`, `filtered_resps`, and the headline metric's
value for the query, 0 to 1 as in the harnesses. Values that a run does not record (is a candidate greedy) are null.
Prompts and targets need the data; without it these keys are empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flamingo_eval.prompting.prompts import candidate_text, shown
from flamingo_eval.records import Example, Output, Prediction
from flamingo_eval.report.recorded_prompts import Run, TaskPrompts


def sample_lines(run: Run, prompts: TaskPrompts | None) -> Iterator[dict[str, Any]]:
    """The lines of one run, in query order; failed queries are omitted, as the harnesses have no failures."""
    examples = prompts.queries(run) if prompts else {}
    metric = run.scores.headline.metric
    index_of = {id: i for i, id in enumerate(examples or run.outputs)}
    for id, output in run.outputs.items():
        if output.error:
            continue
        example = examples.get(id)
        names = _candidates(example, prompts)
        line: dict[str, Any] = {
            "doc_id": index_of[id],
            "doc": {"id": id, **_fields(example)},
            "target": _target(example, names),
            "arguments": _arguments(run, output, prompts, names),
            **_responses(output, names),
            "filter": "none",
            "metrics": [metric],
        }
        if output.score is not None:
            line[metric] = output.score / 100
        yield line


def _candidates(example: Example | None, prompts: TaskPrompts | None) -> tuple[str, ...]:
    if example is None or prompts is None:
        return ()
    return example.candidates or prompts.data.queries.candidates


def _fields(example: Example | None) -> dict[str, str]:
    """The text fields of the row."""
    fields = example.fields if example is not None else {}
    return {k: v for k, v in fields.items() if isinstance(v, str) and k != "id"}


def _target(example: Example | None, names: tuple[str, ...]) -> str | list[str]:
    if example is None:
        return ""
    if example.target is not None and example.target < len(names):
        return names[example.target]
    return list(example.references)


def _arguments(
    run: Run, output: Output, prompts: TaskPrompts | None, names: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    prompt = prompts.prompt(run, output.id)[0] if prompts is not None else None
    if prompt is None:
        return {}
    text = shown(prompt, run.spec.protocol)
    if run.spec.generates:
        decode = run.spec.decode
        options = {"do_sample": False, "num_beams": decode.beams, "max_gen_toks": decode.max_new_tokens}
        return {"gen_args_0": {"arg_0": text, "arg_1": options}}
    continuations = [candidate_text(name, run.spec.prompt) for name in names]
    return {f"gen_args_{i}": {"arg_0": text, "arg_1": c} for i, c in enumerate(continuations)}


def _responses(output: Output, names: tuple[str, ...]) -> dict[str, Any]:
    if output.scores is not None:
        pairs = [[score, None] for score in output.scores]  # log-likelihood, is it greedy (not known)
        return {"resps": [[pair] for pair in pairs], "filtered_resps": pairs}
    best_index = Prediction.of(output).chosen
    if best_index is not None:
        text = names[best_index] if best_index < len(names) else str(best_index)
        return {"resps": [[text]], "filtered_resps": [text]}
    raw = output.prediction if output.raw is None else output.raw
    return {"resps": [[raw]], "filtered_resps": [output.prediction]}
