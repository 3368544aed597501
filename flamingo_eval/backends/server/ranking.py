"""Log-likelihoods of candidates, from servers that return log-probabilities of prompt tokens (vLLM).

The candidate is sent as the start of the assistant's turn (`continue_final_message`); its tokens are found by comparing
with the same prompt without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flamingo_eval.backends.server.client import Client, QueryError
from flamingo_eval.config.specs import RankSpec
from flamingo_eval.errors import PromptError
from flamingo_eval.records import Answer

FIELDS = "prompt_logprobs and prompt_token_ids"
PROBE = ({"role": "user", "content": "What colour is the sky?"},)


def gives_log_probabilities(client: Client, body: Mapping[str, Any]) -> bool:
    """Check with one request whether the server returns the fields for ranking. Raises ServerError."""
    try:
        answer = score_candidates(client, {**body, "messages": list(PROBE)}, ("blue", "green"), RankSpec(), "probe")
    except PromptError:
        return False
    return answer.scores is not None


def score_candidates(
    client: Client, body: Mapping[str, Any], candidates: Sequence[str], spec: RankSpec, id: str
) -> Answer:
    """The log-likelihood of each candidate after the prompt. Raises PromptError, ServerError."""
    request = {**body, "prompt_logprobs": 0, "return_token_ids": True}
    start, _ = _read(client.chat(request, id), id)
    scores = []
    for candidate in candidates:
        turn = {"role": "assistant", "content": candidate}
        continued = {
            **request,
            "messages": [*body["messages"], turn],
            "add_generation_prompt": False,
            "continue_final_message": True,
        }
        ids, rows = _read(client.chat(continued, id), id)
        if ids[: len(start)] != start or len(ids) == len(start):
            raise QueryError(f"{id}: the server's template does not continue the prompt with the candidate.")
        log_probabilities = [_log_probability(row, token, id) for row, token in zip(rows, ids, strict=True)][
            len(start) :
        ]
        scores.append(
            sum(log_probabilities) / len(log_probabilities) if spec.normalise == "mean" else sum(log_probabilities)
        )
    return Answer(len(start), scores=tuple(scores))


def _read(reply: Mapping[str, Any], id: str) -> tuple[list[int], list[Any]]:
    choice = reply["choices"][0]
    ids = reply.get("prompt_token_ids") or choice.get("prompt_token_ids")
    rows = reply.get("prompt_logprobs") or choice.get("prompt_logprobs")
    if not isinstance(ids, list) or not isinstance(rows, list) or len(ids) != len(rows):
        raise QueryError(f"{id}: the server does not return {FIELDS}.")
    return ids, rows


def _log_probability(row: Any, token: int, id: str) -> float:
    if row is None:
        return 0.0  # of the first token, which has no previous token
    try:
        return float(row[str(token)]["logprob"])
    except (KeyError, TypeError, ValueError) as error:
        raise QueryError(f"{id}: the server returns no log-probability of token {token}.") from error
