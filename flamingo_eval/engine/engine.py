"""Engine: prompts in, answers out, in batches. The same answers as reference.py gives one prompt at a time.

Pictures are encoded once (vision.py), each prompt is read once (prefill.py) into a cache of fixed columns
(kv_slots.py), and beams (generation.py) or candidates (ranking.py) branch off it without copying anything. Prompts
share a batch with others of their own padded length (batching.py), and no matrix product has fewer rows than
MIN_ROWS. Both together make float32 results on a CPU independent of the batch, bit for bit (checked with PyTorch's MKL;
on CUDA they agree to rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias

import torch

from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.engine.batching import Limits, batches, drawn_ahead
from flamingo_eval.engine.best_first import SearchTree, all_columns
from flamingo_eval.engine.generation import generate
from flamingo_eval.engine.media_loader import PictureLoader
from flamingo_eval.engine.numbers_check import check_scores, no_numbers
from flamingo_eval.engine.packed_linear import packed
from flamingo_eval.engine.prefill import Prefill, VisualTokens
from flamingo_eval.engine.prefix_cache import with_prefixes
from flamingo_eval.engine.query import Candidates, Query, check_length
from flamingo_eval.engine.ranking import Ranker
from flamingo_eval.engine.vision import PictureEncoder
from flamingo_eval.engine.vision_cache import VisionCache
from flamingo_eval.errors import FlamingoEvalError, MediaError, PromptError
from flamingo_eval.models.config import DecoderConfig
from flamingo_eval.models.loaded import LoadedModel
from flamingo_eval.records import Answer, Prompt

AUTO_ROWS = {"cpu": 16, "cuda": 64}
WINDOW = 16  # prompts to choose from, in batches
CACHE_BYTES_ON_CPU = 768 * 2**20
SHARE_OF_FREE_CUDA = 0.4

# How a batch is answered, given its pictures' visual tokens
Answering: TypeAlias = Callable[[list[Query], VisualTokens], list[Answer]]


class Engine:
    """Generates and scores with a model. Close it, or use it in a `with` block, to end its worker processes."""

    def __init__(
        self,
        model: LoadedModel,
        batch_size: int | None = None,
        token_budget: int | None = None,
        cache: VisionCache | None = None,
        workers: int = 0,
    ) -> None:
        """`batch_size` and `token_budget` (columns of a batch) None: as memory allows; `cache` None: memory only."""
        if model.config.xattn.sees != "last":
            raise ValueError(f"{model.name} attends to all pictures: use PlainEngine.")
        self.model = model
        self.cache = cache or VisionCache(namespace=model.name)
        self.loader = PictureLoader(model.config.preprocess, workers)
        flamingo = packed(model.flamingo)
        self.pictures = PictureEncoder(flamingo, self.cache, self.loader)
        rows = batch_size or AUTO_ROWS.get(model.device.type, 16)
        self.limits = Limits(rows, token_budget or affordable_columns(model), WINDOW * rows)
        self.prefill = Prefill(model, flamingo, self.limits.budget // 4)
        self.ranker = Ranker(self.prefill)
        self._counts = dict.fromkeys(("batches", "prompts", "prompt_tokens", "failed", "memory_halvings"), 0)

    def close(self) -> None:
        """End the worker processes."""
        self.loader.close()
        self.pictures.kept.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def stats(self) -> Mapping[str, Any]:
        """Counts since the engine was made, and the hit rate of the vision cache."""
        return {
            **self._counts,
            **self.ranker.counts,
            "heads": self.prefill.prefixes_read,
            "batch_size": self.limits.rows,
            "pictures_encoded": self.pictures.encoded,
            "vision_cache": self.cache.stats,
        }

    # -------------------------------------------------------------------------------------------- prompts to answers

    def generate(self, prompts: Iterable[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        """The best continuation of each prompt, as (index, Answer), batch by batch in the order of finishing.

        A prompt that cannot be answered (too long, a picture that cannot be opened) gives an Answer with an error.
        """
        branching = spec.beams * (spec.max_new_tokens - 1)

        def prepare(index: int, prompt: Prompt) -> Query:
            encoded = self.model.encode(prompt)
            check_length(self.model, prompt, len(encoded.ids) + spec.max_new_tokens)
            return Query(index, prompt.id, encoded, branching, common_prefix=prompt.common_prefix)

        def answer_batch(queries: list[Query], pictures: VisualTokens) -> list[Answer]:
            texts = generate(self.prefill, queries, pictures, spec)
            return [
                Answer(q.length, text=text)
                if text is not None
                else Answer(q.length, error=no_numbers(q.id, "logits", self.model.dtype))
                for q, text in zip(queries, texts, strict=True)
            ]

        return self._answers(((i, p, prepare) for i, p in enumerate(prompts)), answer_batch)

    def score(
        self, prompts: Iterable[Prompt], candidates: Iterable[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """Log-likelihood of each candidate as continuation of its prompt, summed or averaged over its tokens.

        Yields as `generate` does, errors included. The permutations in `spec` are not used: prompts exist already.
        """

        def answer_batch(queries: list[Query], pictures: VisualTokens) -> list[Answer]:
            rows = self.ranker.score(queries, pictures, spec)
            return [
                self._checked(q, row, Answer(q.length, scores=tuple(row))) for q, row in zip(queries, rows, strict=True)
            ]

        return self._answers(self._ranked(prompts, candidates, spec, all_columns), answer_batch)

    def best(
        self, prompts: Iterable[Prompt], candidates: Iterable[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """The best candidate of each prompt and its score, by best-first search in the tree (best_first.py).

        `score` would rank the same candidate first (ties, at six decimals, go to the first one), with the same score
        up to rounding.
        """

        def answer_batch(queries: list[Query], pictures: VisualTokens) -> list[Answer]:
            best = self.ranker.best(queries, pictures, spec, self.limits)
            return [self._checked(q, [b.score], Answer(q.length, best=b)) for q, b in zip(queries, best, strict=True)]

        columns_of = self.ranker.columns_for_search
        return self._answers(self._ranked(prompts, candidates, spec, columns_of), answer_batch)

    def _checked(self, query: Query, scores: Sequence[float], answer: Answer) -> Answer:
        """The answer; an answer with an error if its scores are NaN or infinite."""
        error = check_scores(query.id, scores, self.model.dtype)
        return answer if error is None else Answer(query.length, error=error)

    def _ranked(
        self,
        prompts: Iterable[Prompt],
        candidates: Iterable[Sequence[str]],
        spec: RankSpec,
        columns_of: Callable[[SearchTree], int],
    ) -> Iterator[tuple[int, Prompt, Callable[[int, Prompt], Query]]]:
        """Prompts with their candidates; `columns_of`: the columns that a tree of them will need."""
        trees = Candidates(self.model, spec)

        def prepare(index: int, prompt: Prompt, names: Sequence[str]) -> Query:
            encoded = self.model.encode(prompt)
            try:
                tree = trees.tree(names)
            except PromptError as error:
                raise PromptError(f"{prompt.id or 'prompt'}: {error}") from error
            check_length(self.model, prompt, len(encoded.ids) + max(tree.trie.lengths))
            return Query(index, prompt.id, encoded, columns_of(tree), tree, common_prefix=prompt.common_prefix)

        names_of = iter(candidates)
        for i, prompt in enumerate(prompts):
            names = next(names_of, None)
            if names is None:
                raise PromptError(f"more prompts than lists of candidates ({i}).")
            yield i, prompt, lambda index, prompt, names=names: prepare(index, prompt, names)  # type: ignore[misc]

    def _answers(
        self,
        prompts: Iterable[tuple[int, Prompt, Callable[[int, Prompt], Query]]],
        answer_batch: Answering,
    ) -> Iterator[tuple[int, Answer]]:
        """Prepare prompts as they arrive and answer them batch by batch; a failed prompt yields its error."""
        failed: list[tuple[int, Answer]] = []

        def prepare() -> Iterator[Query]:
            for index, prompt, make_query in prompts:
                try:
                    query = make_query(index, prompt)
                except (PromptError, MediaError) as error:
                    failed.append((index, Answer(0, error=error)))
                    continue
                for media in query.encoded.media:
                    self.pictures.ahead(media)
                yield query

        queries = drawn_ahead(prepare(), self.loader.room)  # pictures are opened while earlier queries are computed
        for batch in batches(with_prefixes(queries), self.limits):
            yield from self._flush(failed)
            yield from self._answer_batch(batch, answer_batch, failed)
            yield from self._flush(failed)
        yield from self._flush(failed)

    def _flush(self, failed: list[tuple[int, Answer]]) -> Iterator[tuple[int, Answer]]:
        self._counts["failed"] += len(failed)
        yield from failed
        failed.clear()

    def _answer_batch(
        self,
        batch: list[Query],
        answer_batch: Answering,
        failed: list[tuple[int, Answer]],
    ) -> Iterator[tuple[int, Answer]]:
        """Answer one batch; split it in halves when the device runs out of memory."""
        batch, pictures = self._with_tokens(batch, failed)
        if not batch:
            return
        try:
            answers = answer_batch(batch, pictures)
        except torch.OutOfMemoryError:
            answers = None  # leaving the block first frees what the failed attempt still holds
        if answers is not None:
            self._counts["batches"] += 1
            n_errors = sum(answer.error is not None for answer in answers)
            self._counts["failed"] += n_errors
            self._counts["prompts"] += len(batch) - n_errors
            self._counts["prompt_tokens"] += sum(q.length for q in batch)
            yield from zip((q.index for q in batch), answers, strict=True)
            return
        self.prefill.forget_prefixes()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            error = PromptError(f"{batch[0].id or 'prompt'}: {batch[0].length} tokens do not fit in memory.")
            failed.append((batch[0].index, Answer(batch[0].length, error=error)))
            return
        self._counts["memory_halvings"] += 1
        half = (len(batch) + 1) // 2
        self.limits.rows = min(self.limits.rows, half)
        self.limits.budget = min(self.limits.budget, sum(q.cost for q in batch[:half]))
        yield from self._answer_batch(batch[:half], answer_batch, failed)
        yield from self._answer_batch(batch[half:], answer_batch, failed)

    def _with_tokens(self, batch: list[Query], failed: list[tuple[int, Answer]]) -> tuple[list[Query], VisualTokens]:
        """The batch with its visual tokens; queries with a picture that cannot be opened go to `failed`."""
        tokens, errors = self.pictures.tokens(m for q in batch for m in q.encoded.media)
        readable = []
        for query in batch:
            error: FlamingoEvalError | None = next((errors[m] for m in query.encoded.media if m in errors), None)
            if error is None:
                readable.append(query)
            else:
                failed.append((query.index, Answer(query.length, error=error)))
        return readable, tokens


def affordable_columns(model: LoadedModel) -> int:
    """Number of tokens whose keys and values fit in the memory reserved for a batch."""
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        memory = int(free * SHARE_OF_FREE_CUDA)
    else:
        memory = CACHE_BYTES_ON_CPU
    return max(memory // column_bytes(model.config.decoder, model.dtype), 1)


def column_bytes(config: DecoderConfig, dtype: torch.dtype) -> int:
    """Bytes of one token in the KV cache."""
    width = 2 * config.kv_heads * config.head_dim + (config.width if config.short_conv else 0)
    return config.layers * width * dtype.itemsize
