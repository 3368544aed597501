"""One request to one of several servers: time limits, tries with growing pauses, and errors that say what to do.

httpx2 does connections, TLS and proxies. What a failure means is decided here: for this query alone (`QueryError`), or
for the run (`ServerError`), which then stops, and the same command goes on where it stopped.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flamingo_eval.backends.server.budget import Budget
from flamingo_eval.backends.server.options import ServerOptions
from flamingo_eval.errors import MissingDependency, PromptError, ServerError, did_you_mean

INSTALL = "pip install 'flamingo-eval[servers]'"
MAX_REPLY = 2**26  # bytes
LONGEST_PAUSE = 60.0  # seconds between tries, where the server names none
MOST_PATIENCE = 900.0  # seconds that a server may ask to wait
REST = 10.0  # seconds that a server which did not answer is left alone, where there are others
QUOTED = 300  # characters of a server's own message


@dataclass(slots=True)
class _Server:
    base: str
    in_flight: int = 0
    rests_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """A try that failed. `whole`: the server is not there for anybody; `pause`: what it asks to wait, in seconds."""

    what: str
    whole: bool = False
    pause: float = 0.0


class QueryError(PromptError):
    """The server refuses or fails one query; others may be answered."""


class Client:
    """Requests to servers of one model. Calls may come from many threads."""

    def __init__(
        self, bases: tuple[str, ...], options: ServerOptions, budget: Budget, first_pause: float = 0.5
    ) -> None:
        """Raises MissingDependency."""
        try:
            import httpx2
        except ImportError as error:
            raise MissingDependency("models behind a server need httpx2.", fix=INSTALL) from error
        self._httpx = httpx2
        self.options, self.budget, self.first_pause = options, budget, first_pause
        self._servers = [_Server(base) for base in bases]
        self._lock = threading.Lock()
        self._closed = threading.Event()
        headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
        seconds = options.timeout
        self._client = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(seconds, connect=min(10.0, seconds)),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=options.concurrency),
        )

    def close(self) -> None:
        """End all waiting; requests in flight end with an error."""
        self._closed.set()
        self._client.close()

    def stop_waiting(self) -> None:
        """Pauses between tries end at once, and nothing is tried again."""
        self._closed.set()

    def models(self) -> tuple[str, ...]:
        """The names that the first server lists; none where it does not say. Raises ServerError: down, wrong key."""
        base = self._servers[0].base
        try:
            reply = self._client.get(f"{base}/models", timeout=min(10.0, self.options.timeout))
        except self._httpx.TimeoutException:
            return ()
        except self._httpx.TransportError as error:
            raise self._down(base, str(error)) from None
        self._require_access(reply.status_code, base)
        try:
            return tuple(str(row["id"]) for row in json.loads(self._plain(reply.text))["data"])
        except (ValueError, KeyError, TypeError):
            return ()

    def chat(self, body: Mapping[str, Any], id: str = "") -> dict[str, Any]:
        """The reply to one request, as the server writes it. Raises QueryError, ServerError."""
        failure = _Failure("not tried")
        for attempt in range(self.options.retries + 1):
            if attempt:
                self.budget.retry()
                self._wait(attempt, failure)
            refused = self.budget.take()
            if refused:
                raise ServerError(f"{refused}.", fix="What is answered is kept; the same command goes on from there.")
            server = self._least_busy()
            try:
                reply = self._try(server, body, id)
            finally:
                self.budget.give_back()
                with self._lock:
                    server.in_flight -= 1
            if not isinstance(reply, _Failure):
                self.budget.add(reply)
                return reply
            failure = reply
            if failure.whole:
                server.rests_until = time.monotonic() + REST
            if failure.pause > MOST_PATIENCE:
                raise ServerError(
                    f"{server.base}: {failure.what}, and asks to wait {failure.pause:.0f} s.",
                    fix="Start the same command again then: it goes on where it stopped.",
                )
        tries = f"{self.options.retries + 1} tries"
        if failure.whole:
            raise ServerError(
                f"{server.base}: {failure.what}; given up after {tries}.",
                fix="Start the same command again when the server answers: it goes on where it stopped. "
                "Fewer requests at once: --model-args concurrency=4.",
            )
        raise QueryError(f"{id}: {failure.what}; given up after {tries}.")

    def _least_busy(self) -> _Server:
        with self._lock:
            now = time.monotonic()
            server = min(self._servers, key=lambda s: (max(0.0, s.rests_until - now), s.in_flight))
            server.in_flight += 1
            return server

    def _wait(self, attempt: int, failure: _Failure) -> None:
        """Twice as long after every try, a random half of it, and never shorter than the server asks for."""
        others = failure.whole and any(s.rests_until <= time.monotonic() for s in self._servers)
        own = 0.0 if others else min(LONGEST_PAUSE, self.first_pause * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
        asked = 0.0 if others else failure.pause
        if self._closed.wait(max(own, asked + own / 4 if asked else 0.0)):
            raise ServerError("stopped.")

    def _try(self, server: _Server, body: Mapping[str, Any], id: str) -> dict[str, Any] | _Failure:
        ends = time.monotonic() + self.options.timeout
        content = bytearray()
        try:
            with self._client.stream("POST", f"{server.base}/chat/completions", json=body) as reply:
                for chunk in reply.iter_bytes():
                    content += chunk
                    if len(content) > MAX_REPLY:
                        return _Failure("the answer is larger than 64 MiB")
                    if time.monotonic() > ends:
                        return _Failure(f"no whole answer in {self.options.timeout:g} s")
                status, headers = reply.status_code, reply.headers
        except self._httpx.ConnectError as error:
            if self.budget.answers == 0 and len(self._servers) == 1:
                raise self._down(server.base, str(error)) from None
            return _Failure(f"does not answer ({self._plain(str(error))})", whole=True)
        except self._httpx.TimeoutException:
            return _Failure(f"no answer in {self.options.timeout:g} s")
        except self._httpx.TransportError as error:
            return _Failure(f"the connection broke ({self._plain(str(error)) or type(error).__name__})")
        except RuntimeError:  # the client was closed meanwhile
            raise ServerError("stopped.") from None
        text = self._plain(content.decode("utf-8", "replace"))
        if status != 200:
            return self._refused(status, text, headers, server.base, id)
        return self._read(text, server.base)

    def _read(self, text: str, base: str) -> dict[str, Any] | _Failure:
        try:
            reply = json.loads(text)
            message = reply["choices"][0]["message"]
            if not isinstance(message.get("content"), str | None) or not isinstance(reply.get("model"), str | None):
                raise TypeError
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return _Failure("the answer is no JSON of the chat-completions protocol")
        served, asked = reply.get("model") or "", self.options.served_model or self.options.model
        if served and not _same_model(served, asked):
            return _Failure(
                f"model {asked} was asked for and {served} has answered: if that is meant, say --model-args "
                f"served_model={served}"
            )
        finished: dict[str, Any] = reply
        return finished

    def _refused(self, status: int, text: str, headers: Mapping[str, str], base: str, id: str) -> _Failure:
        self._require_access(status, base)
        said = _message(text)
        low = said.lower()
        if status == 429 and "quota" in low:
            raise ServerError(f"{base}: the quota is used up: {said}", fix="Top it up, then start the same command.")
        if status in (429, 503):
            return _Failure(f"too many requests (status {status})", whole=True, pause=_pause(headers))
        if status in (408, 409, 425) or status >= 500:
            return _Failure(f"status {status}: {said}", pause=_pause(headers))
        if status == 404 or (status == 400 and "model" in low and ("not found" in low or "does not exist" in low)):
            raise self._unknown_model(base, said)
        raise QueryError(f"{id}: the server refuses it (status {status}): {said}", fix=_remedy(low))

    def _unknown_model(self, base: str, said: str) -> ServerError:
        try:
            served = self.models()
        except ServerError:
            served = ()
        name = self.options.model
        listed = f"It serves: {', '.join(served[:10])}." if served else "Look at what it serves, and at the address."
        hint = did_you_mean(name, served)
        return ServerError(f"{base}: no model '{name}' here: {said}", fix=f"--model-args model=NAME. {listed} {hint}")

    def _require_access(self, status: int, base: str) -> None:
        """Raise ServerError for a key that is wrong or missing; the server's words may hold it and are not quoted."""
        if status in (401, 403):
            name = self.options.key_env
            what = f"refuses the key of {name}" if self.options.key else f"wants a key, and {name} is not set"
            raise ServerError(
                f"{base}: the server {what} (status {status}).",
                fix=f"export {name}=..., or name another: key_env=NAME.",
            )

    def _down(self, base: str, cause: str) -> ServerError:
        return ServerError(
            f"{base}: no server answers there ({self._plain(cause)}).", fix="Start it, or correct --model openai:URL."
        )

    def _plain(self, text: str) -> str:
        """Text of a server without the key, which some repeat."""
        key = self.options.key
        return text.replace(key, "[key]") if len(key) >= 6 else text


def _same_model(served: str, asked: str) -> bool:
    """Vendors answer with a dated name, and servers of folders with a path or a short name."""
    a, b = (re.split(r"[/\\]", name.rstrip("/\\"))[-1].casefold() for name in (served, asked))
    return a.startswith(b) or b.startswith(a)


def _message(text: str) -> str:
    """The server's own words out of its error, on one line."""
    try:
        value = json.loads(text)
        for key in ("error", "message", "detail"):
            if isinstance(value, dict) and key in value:
                value = value[key]
        if isinstance(value, dict):
            value = value.get("message", text)
        text = value if isinstance(value, str) else json.dumps(value)
    except (ValueError, RecursionError):
        pass
    line = " ".join(text.split())
    return line if len(line) <= QUOTED else f"{line[:QUOTED]}..."


def _pause(headers: Mapping[str, str]) -> float:
    """Retry-After, in seconds or as a date; 0 where there is none."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _remedy(said: str) -> str:
    """The server's own option for what it refuses."""
    if re.search(r"limit-mm-per-prompt|(too many|at most) .{0,30}(image|picture|multi.?modal)", said):
        return "Too many pictures: lower --shots, or start vLLM with --limit-mm-per-prompt '{\"image\": N}'."
    if re.search(r"context|too long|max_model_len|maximum.{0,20}(length|tokens)|exceed", said):
        return (
            "The prompt is too long: lower --shots, shrink the pictures with --model-args max_side=448, or start the "
            "server with more (vLLM --max-model-len, SGLang --context-length, llama.cpp --ctx-size)."
        )
    if "max_completion_tokens" in said:
        return "Use --model-args limit_field=max_completion_tokens."
    if "temperature" in said:
        return "This model takes one temperature alone: --model-args temperature=1."
    if "system" in said and "role" in said:
        return "This model takes no system turn."
    return ""
