"""Do the prompts of some runs fit the model? Asked before its weights are loaded, of a few queries of each run.

The engine checks every prompt; this finds out in a second what would otherwise stop a command after an hour.
"""

from __future__ import annotations

from collections.abc import Sequence

from flamingo_eval.errors import Problem, PromptError
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.tokenizer import Tokenizer
from flamingo_eval.prompting.prompts import candidate_text, render
from flamingo_eval.records import Episode
from flamingo_eval.runs.plan import Job

LOOKED_AT = 16  # queries of a task and number of shots


def require_short(jobs: Sequence[Job], config: FlamingoConfig, tokenizer: Tokenizer) -> None:
    """Raise PromptError that lists every task and number of shots too long for the model."""
    problems: list[Problem] = []
    looked_at: set[tuple[str, int]] = set()
    for job in jobs:
        key = (job.spec.task_label, job.spec.demos.shots)
        if job.spec.on_error == "skip" or job.episodes is None or key in looked_at:
            continue
        looked_at.add(key)
        some = job.episodes[:: max(1, len(job.episodes) // LOOKED_AT)]
        longest = max((_tokens(e, job, tokenizer) for e in some), default=0)
        if longest > config.decoder.context:
            problems.append(Problem(f"{longest} tokens with the answer.", key=f"{key[0]}, {key[1]} shots"))
    if problems:
        raise PromptError(
            f"prompts longer than the {config.decoder.context} tokens that {config.name} reads:",
            problems,
            fix="Lower --shots for these, or run with --on-error skip: such queries are then counted, never scored.",
        )


def _tokens(episode: Episode, job: Job, tokenizer: Tokenizer) -> int:
    prompt = len(tokenizer.encode(render(episode, job.spec.prompt, job.spec.protocol)).ids)
    if job.spec.task.mode == "open-ended":
        return prompt + job.spec.decode.max_new_tokens
    names = episode.query.candidates or job.data.queries.candidates
    return prompt + len(tokenizer.encode_text(max((candidate_text(n, job.spec.prompt) for n in names), key=len)))
