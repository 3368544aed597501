"""Prompts -> answers of servers: at most `concurrency` requests in flight; prompts are made when sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from flamingo_eval.backends.server.client import Client, QueryError
from flamingo_eval.backends.server.messages import messages_of, without_thought
from flamingo_eval.backends.server.options import ServerOptions
from flamingo_eval.backends.server.ranking import score_candidates
from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.errors import FlamingoEvalError, MediaError, PromptError, ServerError
from flamingo_eval.records import Answer, Prompt

Job = TypeVar("Job")
MOST_STOPS = 4  # stop strings that the protocol allows
AHEAD = 4  # a fourth of the requests in flight wait written for their turn


class _StoppedError(ServerError):
    """A job was not sent because another job has shown that the run cannot continue."""


class ServerEngine:
    """The engine of a run. Answers are yielded in the order in which servers finish them."""

    def __init__(self, client: Client, options: ServerOptions) -> None:
        self.client, self.options = client, options

    @property
    def stats(self) -> Mapping[str, Any]:
        """Counts for the record, and the date."""
        return {**self.client.budget.counts, "date": time.strftime("%Y-%m-%d", time.gmtime())}

    def close(self) -> None:
        """End its connections."""
        self.client.close()

    def generate(self, prompts: Iterator[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        """One answer per prompt. Raises ServerError after yielding the answers in flight."""
        return self._in_flight(prompts, lambda prompt: self._answered(prompt, spec))

    def score(
        self, prompts: Iterator[Prompt], candidates: Iterator[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """A log-likelihood of each candidate, one request per candidate. Raises ServerError."""

        def scored(job: tuple[Prompt, Sequence[str]]) -> Answer:
            prompt, names = job
            messages = messages_of(prompt, self.options.max_side, self.options.frames)
            return score_candidates(self.client, self.body(messages, 1), names, spec, prompt.id)

        return self._in_flight(zip(prompts, candidates, strict=False), scored)

    def body(self, messages: Sequence[Mapping[str, Any]], new_tokens: int, stop: Sequence[str] = ()) -> dict[str, Any]:
        """A request. Stop strings are not sent to a model that thinks first: its thought may hold them."""
        options = self.options
        extra = options.thinking_tokens if options.thinking == "on" else 0
        body: dict[str, Any] = {
            "model": options.model,
            "messages": list(messages),
            "temperature": options.temperature,
            "seed": options.seed,
            options.limit_field: new_tokens + extra,
        }
        if stop and options.send_stop == "on" and options.thinking != "on":
            body["stop"] = list(stop)[:MOST_STOPS]
        if options.thinking:
            body["chat_template_kwargs"] = {"enable_thinking": options.thinking == "on"}
        return body

    def _answered(self, prompt: Prompt, spec: DecodeSpec) -> Answer:
        messages = messages_of(prompt, self.options.max_side, self.options.frames)
        reply = self.client.chat(self.body(messages, spec.max_new_tokens, spec.stop), prompt.id)
        choice = reply["choices"][0]
        message = choice["message"]
        if not message.get("content") and choice.get("finish_reason") == "content_filter":
            raise QueryError(f"{prompt.id}: the server's content filter withheld the answer.")
        text, thought = without_thought(message.get("content") or "", self.options.thinking == "on")
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        thought = "\n".join(t for t in (reasoning if isinstance(reasoning, str) else "", thought) if t)
        return Answer(tokens_of(reply), text=spec.cut(text), thought=thought)

    def _in_flight(self, jobs: Iterator[Job], answer: Callable[[Job], Answer]) -> Iterator[tuple[int, Answer]]:
        """The answer to each job as it comes. Only jobs in flight are held, and a few that follow them at once."""
        limit = self.options.concurrency
        waiting = limit + limit // AHEAD
        stopped = threading.Event()
        fatal: FlamingoEvalError | None = None
        index_of: dict[Future[Answer], int] = {}
        numbered = enumerate(jobs)

        def unless_stopped(job: Job) -> Answer:
            if stopped.is_set():
                raise _StoppedError("stopped.")
            try:
                return answer(job)
            except ServerError:
                stopped.set()
                raise

        pool = ThreadPoolExecutor(limit, thread_name_prefix="request")
        try:
            while True:
                while fatal is None and len(index_of) < waiting:
                    pair = next(numbered, None)
                    if pair is None:
                        break
                    index_of[pool.submit(unless_stopped, pair[1])] = pair[0]
                if not index_of:
                    break
                finished, _ = wait(index_of, return_when=FIRST_COMPLETED)
                for future in finished:
                    index = index_of.pop(future)
                    try:
                        yield index, future.result()
                    except (PromptError, MediaError) as error:
                        yield index, Answer(0, error=error)
                    except ServerError as error:
                        fatal = error if fatal is None or isinstance(fatal, _StoppedError) else fatal
        finally:
            if index_of:  # the consumer has stopped: do not retry
                self.client.stop_waiting()
            pool.shutdown(wait=False, cancel_futures=True)
        if fatal is not None:
            raise fatal


def tokens_of(reply: Mapping[str, Any]) -> int:
    """Number of prompt tokens, counted by the server; 0 if it does not say."""
    usage = reply.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int else 0
