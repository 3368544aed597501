"""The plainest generation and scoring: one prompt at a time, with a KV cache of that prompt and nothing else.

The engine must give the same results, faster.

Shapes: S tokens, N beams, W vocabulary, M pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.engine.numbers_check import check_scores, no_numbers, no_visual_tokens
from flamingo_eval.errors import PromptError
from flamingo_eval.models.kv_cache import KVCache
from flamingo_eval.models.tokenizer import Encoded
from flamingo_eval.models.xattn import VisualKV
from flamingo_eval.records import Prompt

if TYPE_CHECKING:
    from flamingo_eval.models.loaded import LoadedModel


@torch.inference_mode()
def logits(model: LoadedModel, prompt: Prompt) -> Tensor:
    """Logits of every position of the prompt. -> float32[S, W] on the CPU"""
    encoded = model.encode(prompt)
    _check_length(model, prompt, len(encoded.ids))
    return _read(model, encoded, _visual(model, encoded), None)[0].float().cpu()


@torch.inference_mode()
def score(model: LoadedModel, prompt: Prompt, candidates: Sequence[str], rank: RankSpec) -> list[float]:
    """Log-likelihood of each candidate's tokens after the prompt, summed or averaged over them.

    Raises ModelError if one is NaN or all are minus infinity.
    """
    encoded = model.encode(prompt)
    visual = _visual(model, encoded)
    scores = []
    for candidate in candidates:
        ids = model.tokenizer.encode_text(candidate)
        if rank.end_of_chunk:
            ids += model.tokenizer.encode_text(model.end_of_chunk)
        if not ids:
            raise PromptError(f"{prompt.id or 'prompt'}: an empty candidate cannot be scored.")
        _check_length(model, prompt, len(encoded.ids) + len(ids))
        last = encoded.image_of_token[-1]
        full = Encoded(encoded.ids + ids, encoded.image_of_token + (last,) * len(ids), encoded.media)
        logits = _read(model, full, visual, None)[0, len(encoded.ids) - 1 : -1]  # [candidate's tokens, W]
        log_probs = logits.float().log_softmax(dim=-1)[range(len(ids)), list(ids)]
        scores.append(float(log_probs.sum() if rank.normalise == "sum" else log_probs.mean()))
    error = check_scores(prompt.id, scores, model.dtype)
    if error is not None:
        raise error
    return scores


@torch.inference_mode()
def generate(model: LoadedModel, prompt: Prompt, spec: DecodeSpec) -> str:
    """The best continuation under beam search (greedy with one beam), cut at the end of the chunk."""
    return model.tokenizer.decode(generate_ids(model, prompt, spec))


@torch.inference_mode()
def generate_ids(model: LoadedModel, prompt: Prompt, spec: DecodeSpec) -> list[int]:
    """Generated ids, including the stop token if it was reached.

    Beam search as Hugging Face's (which OpenFlamingo evaluates with, early stopping off): 2N candidates a step; stop
    tokens among the first N of them finish a beam; finished beams are ranked by log-likelihood / tokens^length_penalty,
    the stop token counted. It ends when no running beam, with its present score, can beat the worst of N finished ones.
    Raises ModelError if the logits are NaN.
    """
    encoded = model.encode(prompt)
    _check_length(model, prompt, len(encoded.ids) + spec.max_new_tokens)
    visual = _visual(model, encoded)
    cache = KVCache(model.config.decoder.layers)
    first = _read(model, encoded, visual, cache)[:, -1]  # [1, W]
    last_image = encoded.image_of_token[-1:]

    finished: list[tuple[float, list[int]]] = []
    beams: list[list[int]] = [[]]
    sums = torch.zeros(1, device=model.device)
    log_probs = first.float().log_softmax(dim=-1)  # [beams, W]
    stop = model.tokenizer.stop_ids
    for n_new in range(1, spec.max_new_tokens + 1):
        if log_probs.isnan().any():
            raise no_numbers(prompt.id, "logits", model.dtype)
        totals = (sums[:, None] + log_probs).flatten()
        best = totals.topk(min((len(stop) + 1) * spec.beams, len(totals)))
        running: list[tuple[float, int, list[int]]] = []  # log-likelihood, beam it comes from, ids
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        for rank, (total, index) in enumerate(pairs):
            parent, token = divmod(index, log_probs.shape[1])
            if token in stop:
                if rank < spec.beams:
                    finished.append((total / n_new**spec.length_penalty, [*beams[parent], token]))
            elif len(running) < spec.beams:
                running.append((total, parent, [*beams[parent], token]))
        finished = sorted(finished, key=lambda f: f[0], reverse=True)[: spec.beams]
        best_now = float(best.values[0]) / n_new**spec.length_penalty
        if len(finished) == spec.beams and finished[-1][0] >= best_now:
            break
        beams = [ids for _, _, ids in running]
        sums = torch.tensor([total for total, _, _ in running], device=model.device)
        if n_new == spec.max_new_tokens:
            finished += [(total / n_new**spec.length_penalty, ids) for total, _, ids in running]
            break
        cache = cache.select(torch.tensor([parent for _, parent, _ in running], device=model.device))
        tokens = Encoded(tuple(ids[-1] for ids in beams), last_image * len(beams), encoded.media)
        log_probs = _step(model, tokens, visual, cache)
    return max(finished, key=lambda f: f[0])[1]


def _visual(model: LoadedModel, encoded: Encoded) -> Mapping[int, VisualKV] | None:
    """Keys and values of the prompt's pictures, two of [1, M, H, L, d] per gated block; None without pictures."""
    if not encoded.media:
        return None
    tokens = torch.stack([model.visual_tokens(media) for media in encoded.media])  # [M, L, R]
    for media, picture_tokens in zip(encoded.media, tokens, strict=True):
        if not picture_tokens.isfinite().all():
            raise no_visual_tokens(media, model.dtype)
    return model.flamingo.project_visual(tokens[None])


def _read(model: LoadedModel, encoded: Encoded, visual: Mapping[int, VisualKV] | None, cache: KVCache | None) -> Tensor:
    """One row of tokens -> logits [1, S, W]"""
    tokens = torch.tensor([encoded.ids], device=model.device)
    image_of_token = torch.tensor([encoded.image_of_token], device=model.device)
    out: Tensor = model.flamingo(tokens, visual, image_of_token, cache=cache)
    return out


def _step(model: LoadedModel, encoded: Encoded, visual: Mapping[int, VisualKV] | None, cache: KVCache) -> Tensor:
    """One token of every beam -> log-probabilities float32[N, W]"""
    tokens = torch.tensor(encoded.ids, device=model.device)[:, None]  # [N, 1]
    image_of_token = torch.tensor(encoded.image_of_token, device=model.device)[:, None]
    if visual is not None:
        visual = {
            i: (k.expand(len(tokens), *k.shape[1:]), v.expand(len(tokens), *v.shape[1:]))
            for i, (k, v) in visual.items()
        }
    out: Tensor = model.flamingo(tokens, visual, image_of_token, cache=cache)[:, -1]
    return out.float().log_softmax(dim=-1)


def _check_length(model: LoadedModel, prompt: Prompt, tokens: int) -> None:
    if tokens > model.context_length:
        raise PromptError(
            f"{prompt.id or 'prompt'}: {tokens} tokens with the answer, {model.name} reads {model.context_length}.",
            fix="Lower --shots.",
        )
