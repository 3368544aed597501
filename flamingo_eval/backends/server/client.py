"""One request to one of several servers: time limits, retries with growing pauses, and errors with a fix.

httpx2 handles connections, TLS and proxies. This module decides what a failure means: only this query fails
(`QueryError`), or the run stops (`ServerError`) and the same command resumes it.
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
LONGEST_PAUSE = 60.0  # seconds between tries, if the server does not say
MOST_PATIENCE = 900.0  # seconds that a server may ask to wait
REST = 10.0  # seconds without requests to a server that did not answer, if there are others
QUOTED = 300  # characters of a server's own message


@dataclass(slots=True)
class _Server:
    base: str
    in_flight: int = 0
    rests_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed try. `whole`: the server is down; `pause`: seconds that it asks to wait."""

    what: str
    whole: bool = False
    pause: float = 0.0


class QueryError(PromptError):
    """The server rejects or fails one query; others may be answered."""


class Client:
    """Requests to servers of one model. Thread-safe."""

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
        """Stop all waiting; requests in flight end with an error."""
        self._closed.set()
        self._client.close()

    def stop_waiting(self) -> None:
        """End pauses between tries at once, and do not retry any more."""
        self._closed.set()

    def models(self) -> tuple[str, ...]:
        """Model names of the first server; empty if it does not list them. Raises ServerError: down, wrong key."""
        base = self._servers[0].base
        try:
            reply = self._client.get(f"{base}/models", timeout=min(10.0, self.options.timeout))
        except self._httpx.TimeoutException:
            return ()
        except self._httpx.RequestError as error:
            raise self._down(base, str(error)) from None
        self._require_access(reply.status_code, base)
        try:
            return tuple(str(row["id"]) for row in json.loads(self._plain(reply.text))["data"])
        except (ValueError, KeyError, TypeError):
            return ()

    def chat(self, body: Mapping[str, Any], id: str = "") -> dict[str, Any]:
        """The server's reply to one request. Raises QueryError, ServerError."""
        failure = _Failure("not tried")
        for attempt in range(self.options.retries + 1):
            if attempt:
                self.budget.retry()
                self._wait(attempt, failure)
            limit_reason = self.budget.take()
            if limit_reason:
                raise ServerError(f"{limit_reason}.", fix="Finished queries are saved; the same command resumes.")
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
                    fix="Run the same command after that: it resumes.",
                )
        tries = f"{self.options.retries + 1} tries"
        if failure.whole:
            raise ServerError(
                f"{server.base}: {failure.what}; given up after {tries}.",
                fix="Run the same command when the server answers again: it resumes. "
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
        """Wait before a retry: twice as long each time, with a random part, and at least as long as the server asks."""
        has_others = failure.whole and any(s.rests_until <= time.monotonic() for s in self._servers)
        own_pause = (
            0.0 if has_others else min(LONGEST_PAUSE, self.first_pause * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
        )
        requested_pause = 0.0 if has_others else failure.pause
        if self._closed.wait(max(own_pause, requested_pause + own_pause / 4 if requested_pause else 0.0)):
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
                        return _Failure(f"no complete answer in {self.options.timeout:g} s")
                status, headers = reply.status_code, reply.headers
        except self._httpx.ConnectError as error:
            if self.budget.answers == 0 and len(self._servers) == 1:
                raise self._down(server.base, str(error)) from None
            return _Failure(f"does not answer ({self._plain(str(error))})", whole=True)
        except self._httpx.TimeoutException:
            return _Failure(f"no answer in {self.options.timeout:g} s")
        except self._httpx.DecodingError as error:
            return _Failure(f"the answer cannot be decompressed ({self._plain(str(error))})")
        except self._httpx.RequestError as error:
            return _Failure(f"the connection broke ({self._plain(str(error)) or type(error).__name__})")
        except RuntimeError:  # the client was closed meanwhile
            raise ServerError("stopped.") from None
        if status != 200:
            text = self._plain(content.decode("utf-8", "replace"))
            return self._refused(status, text, headers, server.base, id)
        try:
            return self._read(self._plain(content.decode("utf-8")), server.base)
        except UnicodeDecodeError as error:
            return _Failure(f"the answer is not UTF-8 (byte {error.start})")

    def _read(self, text: str, base: str) -> dict[str, Any] | _Failure:
        try:
            reply = json.loads(text)
            if isinstance(reply, dict) and not reply.get("choices") and {"error", "message"} & reply.keys():
                return _Failure(f"an error with status 200: {_message(text)}")
            message = reply["choices"][0]["message"]
            if not isinstance(message.get("content"), str | None) or not isinstance(reply.get("model"), str | None):
                raise TypeError
            json.dumps(message, ensure_ascii=False).encode()  # half a surrogate pair cannot be written anywhere
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return _Failure("the answer is not JSON of the chat-completions protocol")
        served_name, requested_name = reply.get("model") or "", self.options.served_model or self.options.model
        if served_name and not _same_model(served_name, requested_name):
            return _Failure(
                f"model {requested_name} was requested, but {served_name} answered; if this is intended: --model-args "
                f"served_model={served_name}"
            )
        body: dict[str, Any] = reply
        return body

    def _refused(self, status: int, text: str, headers: Mapping[str, str], base: str, id: str) -> _Failure:
        self._require_access(status, base)
        message = _message(text)
        low = message.lower()
        if 300 <= status < 400:
            raise ServerError(
                f"{base}: the server sends requests to {headers.get('location', 'another address')} (status {status}).",
                fix="Give the address that answers: --model openai:URL.",
            )
        if status == 402 or (status == 429 and "quota" in low):
            raise ServerError(f"{base}: the quota is used up: {message}", fix="Raise it, then run the same command.")
        if status in (429, 503):
            return _Failure(f"too many requests (status {status})", whole=True, pause=_pause(headers))
        if status in (408, 409, 425) or status >= 500:
            return _Failure(f"status {status}: {message}", pause=_pause(headers))
        if status == 404 or (status == 400 and "model" in low and ("not found" in low or "does not exist" in low)):
            raise self._unknown_model(base, message)
        raise QueryError(f"{id}: the server rejects it (status {status}): {message}", fix=_remedy(low))

    def _unknown_model(self, base: str, message: str) -> ServerError:
        try:
            model_names = self.models()
        except ServerError:
            model_names = ()
        name = self.options.model
        listing = (
            f"It serves: {', '.join(model_names[:10])}."
            if model_names
            else "Check the address and the models that it serves."
        )
        hint = did_you_mean(name, model_names)
        return ServerError(
            f"{base}: unknown model '{name}': {message}", fix=f"--model-args model=NAME. {listing} {hint}"
        )

    def _require_access(self, status: int, base: str) -> None:
        """Raise ServerError for a wrong or missing key, without the server's text, which may contain the key."""
        if status in (401, 403):
            name = self.options.key_env
            what = f"rejects the key in {name}" if self.options.key else f"needs a key, and {name} is not set"
            raise ServerError(
                f"{base}: the server {what} (status {status}).",
                fix=f"export {name}=..., or name another: key_env=NAME.",
            )

    def _down(self, base: str, cause: str) -> ServerError:
        return ServerError(
            f"{base}: no server answers at this address ({self._plain(cause)}).",
            fix="Start it, or correct --model openai:URL.",
        )

    def _plain(self, text: str) -> str:
        """A server's text without the key, which some servers repeat."""
        key = self.options.key
        return text.replace(key, "[key]") if len(key) >= 6 else text


def _same_model(served_name: str, requested_name: str) -> bool:
    """Whether two names are of one model: vendors answer with a dated name, other servers with a path or short name."""
    a, b = (re.split(r"[/\\]", name.rstrip("/\\"))[-1].casefold() for name in (served_name, requested_name))
    return a.startswith(b) or b.startswith(a)


def _message(text: str) -> str:
    """The server's own error message, on one line."""
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
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= QUOTED else f"{line[:QUOTED]}..."


def _pause(headers: Mapping[str, str]) -> float:
    """Seconds to wait by Retry-After, which may be seconds or a date; 0 without it."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _remedy(message: str) -> str:
    """The fix for a rejected request: the option of the server or of this program."""
    if re.search(r"limit-mm-per-prompt|(too many|at most) .{0,30}(image|picture|multi.?modal)", message):
        return "Too many pictures: lower --shots, or start vLLM with --limit-mm-per-prompt '{\"image\": N}'."
    if re.search(r"context|too long|max_model_len|maximum.{0,20}(length|tokens)|exceed", message):
        return (
            "The prompt is too long: lower --shots, shrink the pictures with --model-args max_side=448, or start the "
            "server with more (vLLM --max-model-len, SGLang --context-length, llama.cpp --ctx-size)."
        )
    if "too large" in message:
        return "The pictures take too many bytes: lower --shots, or shrink them with --model-args max_side=448."
    if "max_completion_tokens" in message:
        return "Use --model-args limit_field=max_completion_tokens."
    if "temperature" in message:
        return "This model allows only one temperature: --model-args temperature=1."
    if "system" in message and "role" in message:
        return "This model does not accept a system turn."
    return ""
