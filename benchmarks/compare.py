"""flamingo-eval and the peer, alternately: VQA over shots, with drawn and with fixed demonstrations, and ranking.

Both sides have the same invented weights, in the shapes of world.MODELS, on one device. Pictures of the support set are
in the cache, queries' pictures are not.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.models import PeerShapes, made
from benchmarks.peer_env import PeerProcess
from benchmarks.world import MODELS, Row, make_rows, prompt_of, save_tokenizer, words
from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.data.media import content_hash
from flamingo_eval.engine import Engine, VisionCache
from flamingo_eval.models.loaded import DTYPES
from flamingo_eval.records import Answer, Image, Prompt, best_of

SPEC = DecodeSpec(beams=3, max_new_tokens=5)
CAPTION = DecodeSpec(beams=3, max_new_tokens=20)
SPARE = 8  # pictures in addition to those of one prompt; more need preparation time and change nothing
# queries of the peer, and its batch size. On a CPU more only take longer; 8 is the default of its evaluation
PEERS = {"cpu": {0: 8, 4: 8, 8: 4, 16: 2, 32: 1}, "cuda": dict.fromkeys((0, 4, 8, 16, 32), 8)}
RANK_SHOTS = 4
SEARCHED = ("inner_nodes", "inner_nodes_read", "searched", "searched_in_vain")  # counters of the engine


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class How:
    """Settings of the benchmarks; `queries` per measurement for flamingo-eval, `clock` is wall or cpu.

    `peer_batch` 0: the value in PEERS. `dtype` is for flamingo-eval; the peer's is the same on CUDA, float32 on a CPU.
    """

    work: Path
    threads: int
    repeats: int
    clock: str
    dtype: str
    peer: bool
    queries: int
    shots: tuple[int, ...]
    model: str = "small"
    device: str = "cpu"
    workers: int = 0
    peer_batch: int = 0


class Comparison:
    """Both sides, loaded and warmed up."""

    def __init__(self, how: How) -> None:
        self.how, work = how, how.work
        shapes, device = MODELS[how.model], torch.device(how.device)
        self.peer = PeerProcess(work / "peer", how.threads) if how.peer else None
        listed: PeerShapes | None = None
        if self.peer is not None:
            dtype = how.dtype if device.type == "cuda" else "float32"
            settings: dict[str, Any] = {
                "vision": shapes.vision,
                "language": shapes.language,
                "settings": dict(shapes.settings),
            }
            settings |= {"every": shapes.every, "tokenizer": str(save_tokenizer(work / "tokenizer"))}
            listed = self.peer.ask("make", device=how.device, dtype=dtype, **settings)["shapes"]
        self.model = made(shapes, listed, device, DTYPES[how.dtype], work)
        self.support = make_rows(work / "pictures", max(*how.shots, RANK_SHOTS) + SPARE)
        self.queries = make_rows(work / "pictures", how.queries * how.repeats, seed=1)
        self.engine = Engine(self.model, cache=VisionCache("benchmark"), workers=how.workers)
        self.seen, _ = self.engine.pictures.tokens(Image(r.picture) for r in self.support)
        self._warm_up()

    def _warm_up(self) -> None:
        """Run once: kernels are selected and memory is allocated on first use."""
        prompts = self.prompts(max(self.how.shots), 0, fixed=False)
        dict(self.engine.generate(iter(prompts), SPEC))
        if self.peer is not None and self.how.device != "cpu":
            self._ask_peer(prompts, self._peer_batch(max(self.how.shots)), SPEC)

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()
        if self.peer is not None:
            self.peer.close()

    def generate(self, prompts: Sequence[Prompt], spec: DecodeSpec) -> dict[int, Answer]:
        """Our answers by index."""
        return dict(self.engine.generate(iter(prompts), spec))

    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> dict[int, Answer]:
        """Our scores by index: the sum over a candidate's tokens."""
        return dict(self.engine.score(iter(prompts), iter(candidates), RankSpec()))

    def best(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> dict[int, Answer]:
        """Our best candidates by index."""
        return dict(self.engine.best(iter(prompts), iter(candidates), RankSpec()))

    def vqa(self, shots: Sequence[int], fixed: bool = False) -> None:
        """Queries per second: 3 beams, 5 new tokens."""
        how = "the same demonstrations for all queries" if fixed else "demonstrations drawn for each query"
        self._generation(f"VQA, {how}", shots, SPEC, lambda n, turn: self.prompts(n, turn, fixed))

    def caption(self, shots: Sequence[int]) -> None:
        """Queries per second: demonstrations with captions of 10 tokens, 3 beams, up to 20 new tokens."""
        title = "Captions, demonstrations drawn for each query"
        self._generation(title, shots, CAPTION, lambda n, turn: self.prompts(n, turn, fixed=False, captions=True))

    def _generation(
        self, title: str, shots: Sequence[int], spec: DecodeSpec, prompts_of: Callable[[int, int], list[Prompt]]
    ) -> None:
        print(f"{title}, {self.model.name}, {self.how.device}, {self.how.dtype}\n")
        print(
            "| shots | tokens | ours, queries/s | peer, queries/s | ratio | same text | ratio without the peer's",
            end="",
        )
        print(" decoding of pictures |\n|---|---|---|---|---|---|---|")
        for n in shots:
            ours, theirs, without_decoding, same, tokens = [], [], [], [], 0
            for turn in range(self.how.repeats):
                prompts = prompts_of(n, turn)
                seconds, answers = self._timed(partial(self.generate, prompts, spec))
                ours.append(self.how.queries / seconds)
                tokens = answers[0].tokens
                if self.peer is not None:
                    some = prompts[: self._peer_batch(n)]
                    reply = self._ask_peer(some, len(some), spec)
                    theirs.append(len(some) / reply[self.how.clock])
                    without_decoding.append(len(some) / (reply[self.how.clock] - reply["opening"]))
                    pairs = zip(reply["answers"], answers.values(), strict=False)
                    same += [_words(t) == _words(answers[i].text or "") for i, (t, _) in enumerate(pairs)]
            more = (
                f" {statistics.median(ours) / statistics.median(without_decoding):.1f} |" if without_decoding else " |"
            )
            self._row(n, tokens, ours, theirs, f"{sum(same)}/{len(same)}", more)
        print(flush=True)

    def rank(self, candidates: Sequence[int]) -> None:
        """Queries per second: scores of candidates of two to four tokens with common prefixes, and the best."""
        print(f"Ranking, {RANK_SHOTS} shots, {self.model.name}, {self.how.device}, {self.how.dtype}\n")
        print("| candidates | tokens | ours, queries/s | peer, queries/s | ratio | largest difference |", end="")
        print(" only the best, queries/s | inner nodes read for it | searches without result | same best |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for n in candidates:
            names = [f" {words(1 + i % 2, f'stem {i // 8}')} {words(1 + i % 3, f'name {i}')}" for i in range(n)]
            ours, alone, theirs, same, apart, tokens = [], [], [], [], 0.0, 0
            searches: Counter[str] = Counter()
            for turn in range(self.how.repeats):
                prompts = self.prompts(RANK_SHOTS, turn, fixed=False)[: 4 if n > 2 else self.how.queries]
                lists = [names] * len(prompts)
                seconds, answers = self._timed(partial(self.score, prompts, lists))
                ours.append(len(prompts) / seconds)
                tokens = answers[0].tokens
                self._forget_queries()
                before = self.engine.stats
                seconds, best = self._timed(partial(self.best, prompts, lists))
                alone.append(len(prompts) / seconds)
                searches.update({key: self.engine.stats[key] - before[key] for key in SEARCHED})
                same += [_is_best(best[i], answer) for i, answer in answers.items()]
                if self.peer is not None and (
                    n <= 100 or turn == 0
                ):  # a thousand candidates take the peer minutes: one measurement
                    one = self._for_peer(prompts[:1])
                    reply = self.peer.ask("rank", text=one["texts"][0], pictures=one["pictures"][0], names=names)
                    theirs.append(1 / reply[self.how.clock])
                    apart = max(
                        apart, *(abs(a - b) for a, b in zip(reply["answers"], answers[0].scores or (), strict=True))
                    )
            self._row(
                n,
                tokens,
                ours,
                theirs,
                f"{apart:.1e}" if theirs else "",
                f" {statistics.median(alone):.3g} | {searches['inner_nodes_read']} of {searches['inner_nodes']} "
                f"| {searches['searched_in_vain']} of {searches['searched']} | {sum(same)}/{len(same)} |",
            )
        print(
            "\nThe weights are random, so a token is about as likely as any other. Sums favour the shortest\n"
            "candidates, which a search finds at once; among candidates of one length no bound prunes anything, and\n"
            "it reads all nodes. `search` counts nodes with a trained model.\n",
            flush=True,
        )

    def phases(self, shots: Sequence[int]) -> None:
        """The parts of a query's time."""
        print("Where a query's time goes, demonstrations drawn for each query\n")
        print("| shots | own picture | reading the prompt | decoding | all, ms |\n|---|---|---|---|---|")
        for n in shots:
            rows = []
            for turn in range(self.how.repeats):
                prompts = self.prompts(n, turn, fixed=False)
                self._forget_queries()
                own = [m for p in prompts for m in p.media[-1:]]
                encode, _ = self._timed(partial(self.engine.pictures.tokens, own))
                read, _ = self._timed(partial(self.generate, prompts, DecodeSpec(3, 1)))
                whole, _ = self._timed(partial(self.generate, prompts, SPEC))
                rows.append((encode, read, max(whole - read, 0.0)))
            parts = [statistics.median(column) for column in zip(*rows, strict=True)]
            shares = " | ".join(f"{100 * part / sum(parts):.0f} %" for part in parts)
            print(f"| {n} | {shares} | {1000 * sum(parts) / self.how.queries:.0f} |", flush=True)
        print(flush=True)

    # ------------------------------------------------------------------------------------------------------- inside

    def prompts(self, shots: int, turn: int, fixed: bool, captions: bool = False) -> list[Prompt]:
        """The queries of a turn; pictures of earlier turns are removed from the cache."""
        self._forget_queries()
        rows = self.queries[turn * self.how.queries : (turn + 1) * self.how.queries]
        keys = ["fixed" if fixed else f"{turn}:{i}" for i in range(len(rows))]
        to_row = (lambda r: Row(r.picture, words(1, "output"), words(10, r.answer))) if captions else (lambda r: r)
        return [
            prompt_of(to_row(row), [to_row(s) for s in self._shots(shots, key)], f"{turn}:{i}")
            for i, (row, key) in enumerate(zip(rows, keys, strict=True))
        ]

    def _shots(self, n: int, key: str) -> list[Row]:
        return random.Random(key).sample(self.support, n)

    def _forget_queries(self) -> None:
        """Remove all pictures from the cache except those of the support set."""
        cache = VisionCache("benchmark")
        for media, tokens in self.seen.items():
            cache.put(content_hash(media), tokens)
        self.engine.cache = self.engine.pictures.cache = cache

    def _timed(self, work: Callable[[], Result]) -> tuple[float, Result]:
        clock = time.perf_counter if self.how.clock == "wall" else time.process_time
        began = clock()
        result = work()
        return clock() - began, result

    def _peer_batch(self, shots: int) -> int:
        usual = PEERS["cpu" if self.how.device == "cpu" else "cuda"].get(shots, 1)
        return min(self.how.peer_batch or usual, self.how.queries)

    def _ask_peer(self, prompts: Sequence[Prompt], batch: int, spec: DecodeSpec) -> dict[str, Any]:
        assert self.peer is not None
        some = self._for_peer(prompts[:batch])
        return self.peer.ask("generate", **some, batch=batch, beams=spec.beams, new=spec.max_new_tokens)

    def _for_peer(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        pictures = [[str(m.path) for m in p.media if isinstance(m, Image)] for p in prompts]
        return {"texts": [self.model.tokenizer.text(p) for p in prompts], "pictures": pictures}

    def _row(self, what: int, tokens: int, ours: list[float], theirs: list[float], last: str, more: str = "") -> None:
        mine = statistics.median(ours)
        if not theirs:
            print(f"| {what} | {tokens} | {mine:.3g} | | | |{more}", flush=True)
            return
        peers = statistics.median(theirs)
        print(f"| {what} | {tokens} | {mine:.3g} | {peers:.3g} | {mine / peers:.1f} | {last} |{more}", flush=True)


def _is_best(answer: Answer, scored: Answer) -> bool:
    return answer.best is not None and answer.best.candidate == best_of(scored.scores or ())


def _words(text: str) -> list[str]:
    return text.split()
