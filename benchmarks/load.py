"""The way of a request without the model: admitted, logged, sealed, queued and rung for, on PostgreSQL and Redis.

    python -m benchmarks.load --database postgresql+psycopg://.../empty --broker redis://127.0.0.1:6379/9
    python -m benchmarks.load ... --soak 60          # for an hour; says whether the API's memory stays flat

Starts `vivavoce serve --no-worker` on loopback, in a folder that is gone afterwards, and asks it for speech with
`Prefer: respond-async`. Each request appends one leaf (the intent), writes one job and one sealed object, and sends one
message. The database must be empty and its own; the queue in the broker's database is emptied at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import httpx2

from vivavoce.ledger.settings import CoreSettings
from vivavoce.workers.tasknames import JOBS, producer

SPEECH = Path(__file__).parents[1] / "tests" / "data" / "speech"
CALLERS = 8
START_SECONDS = 60
LOOKS = 20  # at the memory, in one run
MIB = 2**20


@contextmanager
def service(home: Path, database: str, broker: str) -> Iterator[tuple[httpx2.Client, int]]:
    """A running API: a client with its first key, and its process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"HOME": str(home), "DATABASE_URL": database, "BROKER_URL": broker, "REQUESTS_PER_MINUTE": str(10**7)}
    environment = os.environ | {f"VIVAVOCE_{name}": value for name, value in own.items()}
    said = home.with_suffix(".log")
    with said.open("wb") as sink:
        command = [sys.executable, "-m", "vivavoce.cli", "serve", "--no-worker", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
        while not _ready(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the API did not start:\n{said.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        key = re.search(r"vv_\w+", said.read_text())
        if key is None:
            raise SystemExit("the database is not empty: it has a key already")
        with httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {key[0]}"}, timeout=60) as client:
            yield client, process.pid
    finally:
        process.terminate()
        process.wait()
        _empty_queue(broker)


def _ready(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/readyz", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def _empty_queue(broker: str) -> None:
    bell = producer(CoreSettings(broker_url=broker))
    with bell.connection_for_write() as connection:
        connection.default_channel.queue_purge(JOBS)
    bell.close()


def found_voice(client: httpx2.Client) -> str:
    """A voice with a consent; returns its id."""
    recording, clip = ((SPEECH / f"austen-{name}.flac").read_bytes() for name in ("0870", "0930"))
    given = client.post(
        "/v1/audio/voice_consents", data={"name": "Load", "language": "en"}, files={"recording": ("a.flac", recording)}
    )
    voice = client.post(
        "/v1/audio/voices",
        data={"name": "Load", "consent": given.json()["id"]},
        files={"audio_sample": ("b.flac", clip)},
    )
    voice.raise_for_status()
    return str(voice.json()["id"])


def leaves(client: httpx2.Client) -> int:
    """Leaves of the log, as `/metrics` says."""
    found = re.search(r"^vivavoce_log_leaves (\S+)$", client.get("/metrics").text, re.MULTILINE)
    if found is None:
        raise SystemExit("no metrics")
    return int(float(found[1]))


def drive(client: httpx2.Client, voice: str, seconds: float, pid: int) -> tuple[list[float], list[int], float]:
    """Ask from all callers at once; returns times of requests, looks at the API's memory, and the seconds it took."""
    times: list[float] = []
    failed: list[str] = []
    until = time.monotonic() + seconds

    def call() -> None:
        asked = {"voice": voice, "input": "This is a load test.", "response_format": "wav"}
        while time.monotonic() < until and not failed:
            began = time.perf_counter()
            answer = client.post("/v1/audio/speech", json=asked, headers={"Prefer": "respond-async"})
            times.append(time.perf_counter() - began)
            if answer.status_code != 202:
                failed.append(f"{answer.status_code}: {answer.text[:200]}")

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(seconds / LOOKS, 30))
        memory.append(_resident(pid))
    took = time.monotonic() - began
    if failed:
        raise SystemExit(f"a request failed: {failed[0]}")
    return times, memory, took


def _resident(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Read the options and print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--database", required=True, help="URL of an empty database")
    options.add_argument("--broker", required=True, help="URL of a broker's database of its own")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--soak", type=float, metavar="MINUTES", help="instead of --seconds")
    given = options.parse_args()
    seconds = given.seconds if given.soak is None else 60 * given.soak
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "home", given.database, given.broker) as made:
        client, pid = made
        voice = found_voice(client)
        drive(client, voice, min(3.0, seconds), pid)  # warms up
        before = leaves(client)
        times, memory, took = drive(client, voice, seconds, pid)
        appended = leaves(client) - before
    cuts = quantiles(times, n=100)
    print(f"{len(times)} requests for speech by {CALLERS} callers in {took:.0f} s: {len(times) / took:.0f} a second")
    print(f"p50 {1e3 * cuts[49]:.1f} ms, p99 {1e3 * cuts[98]:.1f} ms; {appended / took:.0f} leaves appended a second")
    early, late = memory[len(memory) // 5], max(memory[-len(memory) // 5 :])
    print(
        f"the API's memory: {early / MIB:.0f} MiB after a fifth of the time, {late / MIB:.0f} MiB at most in the last"
    )


if __name__ == "__main__":
    main()
