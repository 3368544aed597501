"""Limits of requests and tokens, and their counts. Thread-safe."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any


class Budget:
    """Counts requests and tokens. Requests in flight count with the mean of the finished ones."""

    def __init__(self, max_requests: int = 0, max_tokens: int = 0) -> None:
        """0: no limit."""
        self.max_requests, self.max_tokens = max_requests, max_tokens
        self._lock = threading.Lock()
        self.requests = self.answers = self.in_flight = 0
        self.retries = self.prompt_tokens = self.completion_tokens = self.without_usage = 0
        self.models: Counter[str] = Counter()
        self.fingerprints: Counter[str] = Counter()
        self.finish_reasons: Counter[str] = Counter()

    def take(self) -> str:
        """Count one request. -> the reason why a limit forbids it; empty if it is allowed"""
        with self._lock:
            if self.max_requests and self.requests >= self.max_requests:
                return f"--max-requests {self.max_requests}: {self.requests} requests have been sent"
            n_tokens = self.prompt_tokens + self.completion_tokens
            expected = n_tokens + (self.in_flight + 1) * n_tokens / self.answers if self.answers else n_tokens
            if self.max_tokens and expected > self.max_tokens:
                return f"--max-tokens {self.max_tokens}: {n_tokens} tokens are used, and the next requests need more"
            self.requests += 1
            self.in_flight += 1
            return ""

    def give_back(self) -> None:
        """Note the end of a request."""
        with self._lock:
            self.in_flight -= 1

    def retry(self) -> None:
        """Count a retry of a request."""
        with self._lock:
            self.retries += 1

    def add(self, reply: dict[str, Any]) -> None:
        """Add the server's token counts of an answer."""
        usage = reply.get("usage") if isinstance(reply.get("usage"), dict) else {}
        prompt, completion = (usage.get(k) for k in ("prompt_tokens", "completion_tokens")) if usage else (None, None)
        with self._lock:
            self.answers += 1
            if type(prompt) is int and type(completion) is int:
                self.prompt_tokens += prompt
                self.completion_tokens += completion
            else:
                self.without_usage += 1
            self.models[str(reply.get("model") or "not said")] += 1
            self.fingerprints[str(reply.get("system_fingerprint") or "not said")] += 1
            self.finish_reasons[str(reply["choices"][0].get("finish_reason") or "not said")] += 1

    @property
    def counts(self) -> dict[str, Any]:
        """Counts for the record."""
        with self._lock:
            return {
                "requests": self.requests,
                "retries": self.retries,
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "answers_without_usage": self.without_usage,
                "served_models": dict(self.models),
                "system_fingerprints": dict(self.fingerprints),
                "finish_reasons": dict(self.finish_reasons),
            }
