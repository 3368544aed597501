"""A server of chat completions on loopback; each request may have a fault."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Mapping[str, Any]
FAULTS = (
    "429", "500", "half", "hang", "wrong-json", "wrong-model", "closed", "busy-until", "reset", "not-utf8", "not-gzip",
    "error-200", "not-http",
)  # fmt: skip


class ChatServer:
    """`say` answers a request's body; `fault` names the fault of the n-th request (from 1), or none."""

    def __init__(
        self,
        say: Callable[[Mapping[str, Any]], str],
        fault: Callable[[int], str] = lambda _: "",
        model: str = "tiny-vlm",
        key: str = "",
        latency: float = 0.0,
        extra: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {},
        refuse: Callable[[Mapping[str, Any]], str] = lambda _: "",
    ) -> None:
        self.say, self.fault, self.model, self.key = say, fault, model, key
        self.latency, self.extra, self.refuse = latency, extra, refuse
        self.lock = threading.Lock()
        self.bodies: list[Mapping[str, Any]] = []
        self.n = self.in_flight = self.most_in_flight = 0
        self.keep_bodies = True
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[ChatServer]:
        """Serve until the end of the block."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def reply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The reply without a fault."""
        text = self.say(body)
        return {
            "id": "1",
            "model": self.model,
            "system_fingerprint": "fp_1",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
            **self.extra(body),
        }


def _handler(chat: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def send(self, status: int, value: object, headers: Mapping[str, str] | None = None, cut: bool = False) -> None:
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in (headers or {}).items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw[: len(raw) // 2] if cut else raw)
            if cut:
                self.close_connection = True

        def allowed(self) -> bool:
            header = self.headers.get("Authorization", "")
            if chat.key and header != f"Bearer {chat.key}":
                self.send(401, {"error": {"message": f"Incorrect API key provided: {header}"}})
                return False
            return True

        def do_GET(self) -> None:
            if self.allowed():
                self.send(200, {"data": [{"id": chat.model}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with chat.lock:
                chat.n += 1
                n = chat.n
                chat.in_flight += 1
                chat.most_in_flight = max(chat.most_in_flight, chat.in_flight)
                if chat.keep_bodies:
                    chat.bodies.append(body)
            try:
                time.sleep(chat.latency)
                if self.allowed():
                    self.answer(body, chat.fault(n))
            finally:
                with chat.lock:
                    chat.in_flight -= 1

        def answer(self, body: Mapping[str, Any], fault: str) -> None:
            refused = chat.refuse(body)
            if body["model"] != chat.model:
                self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
            elif refused:
                self.send(400, {"error": {"message": refused}})
            elif fault == "429":
                self.send(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"})
            elif fault == "500":
                self.send(500, {"error": {"message": "out of order"}})
            elif fault == "half":
                self.send(200, chat.reply(body), cut=True)
            elif fault == "hang":
                time.sleep(1.5)
                self.close_connection = True
            elif fault == "wrong-json":
                self.send(200, {"choices": []})
            elif fault == "wrong-model":
                self.send(200, {**chat.reply(body), "model": "another"})
            elif fault == "closed":
                self.close_connection = True
            elif fault == "busy-until":
                self.send(503, {"detail": "loading"}, {"Retry-After": formatdate(time.time() + 0.3, usegmt=True)})
            elif fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            elif fault == "not-utf8":
                self.send(200, json.dumps(chat.reply(body)).replace("question", "qu\xe9stion").encode("latin-1"))
            elif fault == "not-gzip":
                self.send(200, chat.reply(body), {"Content-Encoding": "gzip"})
            elif fault == "half-a-pair":
                reply = chat.reply(body)
                reply["choices"][0]["message"]["content"] = "a \ud83d"
                self.send(200, reply)
            elif fault == "error-200":
                self.send(200, {"error": {"message": "the engine \x1b[31mis dead", "code": 50001}})
            elif fault == "not-http":
                self.wfile.write(b"\x00\x01\x02\r\n\r\n")
                self.close_connection = True
            elif fault == "withheld":
                reply = chat.reply(body)
                reply["choices"][0] = {"message": {"content": None}, "finish_reason": "content_filter"}
                self.send(200, reply)
            elif fault == "elsewhere":
                self.send(307, b"", {"Location": "/v2/chat/completions"})
            else:
                self.send(200, chat.reply(body))

    return Handler
