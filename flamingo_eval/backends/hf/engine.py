"""Prompts in, answers out, through a model of transformers: pictures encoded once, batches of one padded length.

The padded length depends on the prompt alone, and candidates are scored prompt by prompt from one prefill, so results
do not depend on the other prompts of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from flamingo_eval.backends.hf.candidates import row_sums, tree_sums
from flamingo_eval.backends.hf.network import Network, Prefilled
from flamingo_eval.backends.hf.own_code import OwnCode
from flamingo_eval.backends.hf.prefilling import Prefiller, Query
from flamingo_eval.backends.hf.reader import Read
from flamingo_eval.backends.hf.vision import ADVICE, Pictures
from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.engine.batching import Limits, batches
from flamingo_eval.engine.beam_search import BeamState
from flamingo_eval.engine.trie import TokenTrie
from flamingo_eval.errors import FlamingoEvalError, PromptError
from flamingo_eval.records import SCORE_DECIMALS, Answer, Best, Prompt, Turn, best_of

CHECK_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.1}  # in log-probability, fast against plain
FULL = "full_attention"
AUTO_ROWS = {"cpu": 8, "cuda": 32}
LENGTH_STEPS = {"cpu": 16, "cuda": 64}
UNPADDED_FROM = {"cpu": 512}  # tokens: without padding there is no mask, and attention is causal at half the cost
WINDOW = 8  # prompts to choose from, in batches
TOKEN_BUDGET = {"cpu": 32_768, "cuda": 131_072}  # of a batch; out of memory halves it

Asked: TypeAlias = Iterator[tuple[int, Prompt, tuple[tuple[int, ...], ...], int]]


class HFEngine:
    """Generates and scores with a model of transformers."""

    def __init__(
        self, network: Network, pictures: Pictures, context: int, stop_ids: Sequence[int], rows: int | None = None
    ) -> None:
        self.network, self.pictures, self.context = network, pictures, context
        self.reader = pictures.reader
        self.candidate_turns = False  # candidates are what an assistant says in the template, not generated text
        self.stop_ids = torch.tensor(stop_ids, dtype=torch.long, device=network.device)
        kind = network.device.type if network.device.type in AUTO_ROWS else "cuda"
        self.step, self.unpadded_from = LENGTH_STEPS[kind], UNPADDED_FROM.get(kind, context + 1)
        rows = rows or AUTO_ROWS[kind]
        self.limits = Limits(rows, TOKEN_BUDGET[kind], WINDOW * rows)
        self.fast = network.takes_features and not pictures.family.plain
        self.tree = self.fast and _may_take_tree(network)
        self.pads_behind_prefix = _layer_kinds(network) == {FULL}  # windows and states count padding as tokens
        tokenizer = self.reader.tokenizer
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0)
        self.prefiller = Prefiller(network, pictures, self.pad_id)
        self.prefiller.shares_prefixes, self.prefiller.packs = self.fast, self.tree
        self.prefiller.in_pieces = self.tree and kind == "cpu" and _kernel(network) == "sdpa"
        self.own_code, self.own = OwnCode(network), False  # whether that alone answers
        self.clip_features = self.fast  # of clips as videos; without, prompts with clips are read one at a time
        self.own_clips = False  # whether the model's own code alone answers those
        self.no_clips = ""  # why it cannot
        self._counts = dict.fromkeys(("batches", "prompts", "prompt_tokens", "failed", "memory_halvings"), 0)

    @property
    def tolerance(self) -> float:
        """How far the fast ways may be from the model's own, in log-probability."""
        return CHECK_TOLERANCE[str(self.network.dtype).removeprefix("torch.")]

    def close(self) -> None:
        """Do nothing: there are no worker processes to end."""

    @property
    def stats(self) -> Mapping[str, Any]:
        """Counts since the engine was made."""
        counts = {**self._counts, "heads": self.prefiller.prefixes.read_count, "batch_size": self.limits.rows}
        return {**counts, **self.pictures.stats}

    # -------------------------------------------------------------------------------------------- prompts to answers

    def generate(self, prompts: Iterable[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        """The best continuation of each prompt, as (index, Answer), batch by batch in the order of finishing.

        A prompt that cannot be answered (too long, a picture that cannot be opened) gives an Answer with an error.
        """

        def answered(queries: list[Query]) -> list[Answer]:
            texts = self._generated(queries, spec)
            return [Answer(q.length, text=text) for q, text in zip(queries, texts, strict=True)]

        return self._answers(((i, p, (), spec.max_new_tokens) for i, p in enumerate(prompts)), answered)

    def score(
        self, prompts: Iterable[Prompt], candidates: Iterable[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """Log-likelihood of each candidate as continuation of its prompt, summed or averaged over its tokens."""

        def answered(queries: list[Query]) -> list[Answer]:
            return [
                Answer(q.length, scores=tuple(row)) for q, row in zip(queries, self._scored(queries, spec), strict=True)
            ]

        return self._answers(self._ranked(prompts, candidates, spec), answered)

    def best(
        self, prompts: Iterable[Prompt], candidates: Iterable[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """The best candidate of each prompt and its score, as from `score`."""
        for index, answer in self.score(prompts, candidates, spec):
            if answer.scores is None:
                yield index, answer
                continue
            best_index = best_of([round(s, SCORE_DECIMALS) for s in answer.scores])
            yield index, Answer(answer.tokens, best=Best(best_index, answer.scores[best_index]))

    def _ranked(self, prompts: Iterable[Prompt], candidates: Iterable[Sequence[str]], spec: RankSpec) -> Asked:
        ids_of: dict[tuple[str, ...], tuple[tuple[int, ...], ...]] = {}
        names_of = iter(candidates)
        for i, prompt in enumerate(prompts):
            names = next(names_of, None)
            if names is None:
                raise PromptError(f"more prompts than lists of candidates ({i}).")
            key = tuple(names)
            if self.candidate_turns and prompt.turns:
                prompt = replace(prompt, turns=(*prompt.turns, Turn("assistant", "")))
                key = tuple(f"{self.reader.turn_space}{name}" for name in names)
            if key not in ids_of:
                if len(ids_of) > 64:
                    ids_of.clear()
                ids_of[key] = self._candidate_ids(key, spec)
            yield i, prompt, ids_of[key], max(map(len, ids_of[key]), default=0)

    def _candidate_ids(self, names: Sequence[str], spec: RankSpec) -> tuple[tuple[int, ...], ...]:
        end = self.reader.end_ids if spec.end_of_chunk else ()
        return tuple(self.reader.continuation(name) + end for name in names)

    def _answers(
        self, requests: Asked, answer_batch: Callable[[list[Query]], list[Answer]]
    ) -> Iterator[tuple[int, Answer]]:
        failed: list[tuple[int, Answer]] = []

        def prepare() -> Iterator[Query]:
            for index, prompt, candidates, room in requests:
                try:
                    yield self._prepared(index, prompt, candidates, room)
                except FlamingoEvalError as error:
                    failed.append((index, Answer(0, error=error)))

        for batch in batches(prepare(), self.limits if self.fast else Limits(1, 1, 1)):
            yield from self._settled(failed)
            yield from self._answered(batch, answer_batch, failed)
        yield from self._settled(failed)

    def _settled(self, failed: list[tuple[int, Answer]]) -> Iterator[tuple[int, Answer]]:
        while failed:
            self._counts["failed"] += 1
            yield failed.pop(0)

    def _prepared(self, index: int, prompt: Prompt, candidates: tuple[tuple[int, ...], ...], room: int) -> Query:
        if candidates == () and room == 0:
            raise PromptError(f"{prompt.id or 'prompt'}: there are no candidates to score.")
        if any(not ids for ids in candidates):
            raise PromptError(f"{prompt.id or 'prompt'}: an empty candidate cannot be scored.")
        read = self.read(prompt)
        if len(read.ids) + room > self.context:
            raise PromptError(
                f"{prompt.id or 'prompt'}: {len(read.ids) + room} tokens with the answer, the model reads "
                f"{self.context}.",
                fix=f"{ADVICE}.",
            )
        shared = bool(prompt.common_prefix) and self.prefiller.shares_prefixes
        exact = len(read.ids) >= self.unpadded_from or (shared and not self.pads_behind_prefix)
        packed = shared and self.prefiller.packs
        return Query(index, prompt, read, candidates, 1 if exact else self.step, packed, self._alone(prompt))

    def read(self, prompt: Prompt) -> Read:
        """A prompt as input of the model; with pixels where it cannot be given features.

        Raises MediaError, PromptError.
        """
        if self.no_clips and self.reader.shows_video(prompt):
            raise PromptError(
                f"{prompt.id or 'prompt'}: clips cannot be shown to this model as videos: {self.no_clips}.",
                fix="Show their frames as pictures: --model-args clips=frames.",
            )
        known = self.fast and not self._alone(prompt)
        return self.pictures.read(prompt) if known else self.pictures.read_opened(prompt)

    def _alone(self, prompt: Prompt) -> bool:
        return not self.clip_features and self.reader.shows_video(prompt)

    def _by_own_code(self, queries: Sequence[Query]) -> bool:
        return self.own or (self.own_clips and self.reader.shows_video(queries[0].prompt))

    def _answered(
        self,
        batch: list[Query],
        answer_batch: Callable[[list[Query]], list[Answer]],
        failed: list[tuple[int, Answer]],
    ) -> Iterator[tuple[int, Answer]]:
        """Answer one batch; split it in halves when the device runs out of memory."""
        try:
            answers = answer_batch(batch)
        except torch.OutOfMemoryError:
            answers = None  # leaving the block first frees what the failed attempt still holds
        if answers is not None:
            self._counts["batches"] += 1
            self._counts["prompts"] += len(batch)
            self._counts["prompt_tokens"] += sum(q.length for q in batch)
            yield from zip((q.index for q in batch), answers, strict=True)
            return
        self.prefiller.prefixes.forget()
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            query = batch[0]
            error = PromptError(f"{query.prompt.id or 'prompt'}: {query.length} tokens do not fit into the memory.")
            failed.append((query.index, Answer(query.length, error=error)))
            return
        self._counts["memory_halvings"] += 1
        half = (len(batch) + 1) // 2
        self.limits.rows = min(self.limits.rows, half)
        yield from self._answered(batch[:half], answer_batch, failed)
        yield from self._answered(batch[half:], answer_batch, failed)

    # ---------------------------------------------------------------------------------------------------- the model

    def _states(self, queries: Sequence[Query]) -> Iterator[tuple[list[int], Prefilled]]:
        if self.fast:
            yield from self.prefiller.states(queries)
            return
        (query,) = queries
        yield [0], self.network.prefill([query.read], query.length, self.pad_id)

    @torch.inference_mode()
    def _generated(self, queries: Sequence[Query], spec: DecodeSpec) -> list[str]:
        """Greedy or beam search (engine/beam_search.py) from one prefill of each prompt."""
        if self._by_own_code(queries):
            ids = [self.own_code.generate(q.read, spec, self.stop_ids, self.pad_id) for q in queries]
            return [spec.cut(self.reader.decode(row)) for row in ids]
        texts = [""] * len(queries)
        for places, state in self._states(queries):
            for place, text in zip(places, self._continued(state, spec), strict=True):
                texts[place] = text
        return texts

    def _continued(self, state: Prefilled, spec: DecodeSpec) -> list[str]:
        B, K = len(state.logits), spec.beams
        beams = BeamState.start(B, K, spec.length_penalty, self.network.device)
        first = torch.log_softmax(state.logits, dim=-1)
        beams.step(first[:, None].expand(B, K, -1), self.stop_ids)
        if K > 1:
            state = state.rows(torch.arange(B, device=self.network.device).repeat_interleave(K))
        for _ in range(spec.max_new_tokens - 1):
            if beams.finished() or (spec.stop and K == 1 and self._all_stopped(beams, spec)):
                break
            if K > 1:
                owner = torch.arange(B, device=self.network.device)[:, None] * K
                state.reorder((owner + beams.parents).view(-1))
            logits = self.network.extend(state, beams.tokens[:, :, -1].reshape(B * K, 1))[:, -1]
            beams.step(torch.log_softmax(logits, dim=-1).view(B, K, -1), self.stop_ids)
        tokens, lengths = beams.best()
        rows = zip(tokens.tolist(), lengths.tolist(), strict=True)
        return [spec.cut(self.reader.decode(row[:n])) for row, n in rows]

    def _all_stopped(self, beams: BeamState, spec: DecodeSpec) -> bool:
        """Whether every greedy answer that is not done holds a stop string: what would follow is cut off."""
        rows = zip(beams.tokens[:, 0].tolist(), beams.done.tolist(), strict=True)
        return all(done or spec.cut(text := self.reader.decode(row)) != text for row, done in rows)

    @torch.inference_mode()
    def _scored(self, queries: Sequence[Query], spec: RankSpec) -> list[list[float]]:
        rows: list[list[float]] = [[]] * len(queries)
        for place, sums in self._sums(queries):
            lengths = torch.tensor([len(ids) for ids in queries[place].candidates], dtype=torch.float64)
            rows[place] = (sums / lengths if spec.normalise == "mean" else sums).tolist()
        return rows

    def _sums(self, queries: Sequence[Query]) -> Iterator[tuple[int, Tensor]]:
        """The log-likelihoods of a prompt's candidates, float64[C], with the prompt's place."""
        if self._by_own_code(queries):
            yield from ((i, self.own_code.sums(q.read, q.candidates)) for i, q in enumerate(queries))
            return
        for places, state in self._states(queries):
            for row, place in enumerate(places):
                candidates = queries[place].candidates
                own_state = state if len(places) == 1 else state.rows(torch.tensor([row], device=self.network.device))
                if self.tree:
                    yield place, tree_sums(self.network, own_state, TokenTrie.of(candidates))
                else:
                    yield place, row_sums(self.network, own_state, candidates)


def _may_take_tree(network: Network) -> bool:
    """Whether the model accepts our own mask in every layer: full attention, by a kernel with masks."""
    return _layer_kinds(network) == {FULL} and _kernel(network) in ("sdpa", "eager")


def _kernel(network: Network) -> str:
    return str(network.model.config.get_text_config()._attn_implementation)


def _layer_kinds(network: Network) -> set[str]:
    """What the decoder's layers are: full or sliding attention, or layers with a state of their own."""
    config = network.model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return set(kinds or ((FULL,) if window is None else ("sliding_attention",)))
