"""`vivavoce serve` as anybody would start it: one command, an empty home, a real worker, the models that ship."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

START_SECONDS = 600
"""Patience with a busy machine: the worker imports torch and loads two models. One that ends is not waited for."""


@dataclass
class Service:
    """A running service and its first key."""

    process: subprocess.Popen[bytes]
    home: Path
    transcript: Path
    address: str
    key: str

    def client(self) -> httpx2.Client:
        """A plain HTTP client with the first key."""
        return httpx2.Client(base_url=self.address, headers={"Authorization": f"Bearer {self.key}"}, timeout=600)

    def stop(self) -> int:
        """Ask it to stop; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(300)

    def said(self) -> str:
        """All that it has written so far."""
        return self.transcript.read_text(errors="replace")


@contextmanager
def running_service(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Start a service in an empty home, with these settings beside it, and wait until API and worker are there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home, transcript = folder / "home", folder / "transcript"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIVAVOCE_")}
    with transcript.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "vivavoce.cli", "serve", "--port", str(port)],
            env=environment | {"VIVAVOCE_HOME": str(home), "OMP_NUM_THREADS": "1"} | dict(settings or {}),
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    service = Service(process, home, transcript, f"http://127.0.0.1:{port}", "")
    try:
        _wait_until_ready(service)
        yield service
    finally:
        if process.poll() is None:
            service.stop()


def _wait_until_ready(service: Service) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and service.process.poll() is None:
        key = re.search(r"vv_\w+", service.said())
        if key and "worker_ready" in service.said() and _ready(service.address):
            service.key = key.group()
            return
        if "worker_cannot_start" in service.said():
            break
        time.sleep(0.2)
    raise AssertionError(f"the service did not start:\n{service.said()[-5000:]}")


def _ready(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/readyz", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False
