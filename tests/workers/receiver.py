"""Who webhooks are sent to: a server of our own that keeps what it gets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from vivavoce.policy.webhooks import (
    new_secret,
)
from vivavoce.workers.settings import WorkerSettings

SETTINGS = WorkerSettings(webhooks_to_loopback=True, courier_patience_seconds=1.0)


class Receiver(ThreadingHTTPServer):
    """A tenant's own server: keeps what it is sent, answers as it is told to, and checks signatures by itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.slow = False
        self.url = f"http://127.0.0.1:{self.server_port}/hook?tenant=1"

    def handle_error(self, *_: Any) -> None:
        """Callers who hang up are part of these tests."""

    def events(self, secret: str) -> list[dict[str, Any]]:
        """What was sent, each of it verified as the specification says."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        for headers, body in self.heard:
            assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300
            signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
            expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
            assert hmac.compare_digest(headers["webhook-signature"], expected)
        return [json.loads(body) for _, body in self.heard]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        server.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
        if server.slow:
            for _ in range(50):
                time.sleep(0.1)
                self.wfile.write(b"H")
            return
        status = server.answers.pop(0) if server.answers else 204
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


SECRET = new_secret()
