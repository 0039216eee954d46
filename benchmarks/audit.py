"""What the log costs at size: rates of appending, time of heads and proofs, time and memory of the offline check.

    python -m benchmarks.audit                       # one million leaves on SQLite, in a folder that is gone afterwards
    python -m benchmarks.audit --leaves 20000 --url postgresql+psycopg://...     # an empty database of its own

Leaves are written by `Log.append`, as everything in the house writes them, with an entry of usual size. Appending is
timed twice: `BATCH` leaves in each transaction, then one in each, which waits for the disk every time.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from vivavoce.audit import merkle
from vivavoce.audit.bundle import verify_bundle, write_bundle
from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Checkpoint
from vivavoce.audit.search import Query, search
from vivavoce.audit.tags import Tag
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import upgrade
from vivavoce.ledger.tables import AuditLeaf

BATCH = 1000
SINGLES = 500
PROOFS = 1000
SEARCHES = 50


def _entry(number: int) -> Entry:
    refs = {"job": f"job_{number:026d}", "consent": "cons_01jd0000000000000000000000"}
    return Entry(Tag.JOB_OUTCOME, None, "worker:bench", refs, {"sha256": "0" * 64, "mark_score": 12.5})


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _append(database: Database, log: Log, count: int, batch: int) -> None:
    for start in range(0, count, batch):
        with database.write() as session:
            for number in range(start, min(start + batch, count)):
                log.append(session, _entry(number))


def _milliseconds(name: str, times: list[float]) -> None:
    print(f"{name:44}{1000 * median(times):10.3f} ms median{1000 * quantiles(times, n=20)[-1]:10.3f} ms 95 %")


def _memory_mib() -> float:
    # Linux counts KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _proofs(database: Database, log: Log, head: Checkpoint) -> None:
    draw = random.Random(0)  # noqa: S311 - which leaves are proven is no secret
    making, checking, links = [], [], []
    with database.read() as session:
        for _ in range(PROOFS):
            index = draw.randrange(head.size)
            begin = time.perf_counter()
            path = log.inclusion(session, index, head.size)
            making.append(time.perf_counter() - begin)
            leaf = session.get_one(AuditLeaf, index).hash
            begin = time.perf_counter()
            good = merkle.verify_inclusion(leaf, index, head.size, path, head.root)
            checking.append(time.perf_counter() - begin)
            if not good:
                raise SystemExit(f"the proof of leaf {index} does not verify")
            old = draw.randrange(1, head.size)
            links.append(_seconds(lambda old=old: log.consistency(session, old, head.size)))  # type: ignore[misc]
    _milliseconds("inclusion proof, made", making)
    _milliseconds("inclusion proof, checked", checking)
    _milliseconds("consistency proof, made", links)


def _searches(database: Database, log: Log, size: int) -> None:
    """A page of what the console finds, and of what it does not find within the leaves that it reads at once."""
    draw = random.Random(1)  # noqa: S311 - what is looked for is no secret
    moment = datetime.now(UTC)
    queries: dict[str, Callable[[], Query]] = {
        "search for one job among all": lambda: Query([[f"job_{draw.randrange(size):026d}"]]),
        "search for a job that is not there": lambda: Query([["job_nobody"]]),
        "search for an event that never came": lambda: Query(tag=Tag.TENANT_READ),
        "search until a moment": lambda: Query(until=moment),
    }
    with database.read() as session:
        for name, query in queries.items():
            asked = [partial(search, session, log, query(), draw.randrange(size), 50) for _ in range(SEARCHES)]
            _milliseconds(name, [_seconds(one) for one in asked])


def _bundle(database: Database, log: Log, size: int, folder: Path) -> None:
    path = folder / "log.jsonl"
    with database.read() as session:
        spent = _seconds(lambda: write_bundle(session, log, size, path))
    print(f"{'bundle written':44}{spent:10.1f} s {path.stat().st_size / size:10.0f} bytes a leaf")
    spent = _seconds(lambda: verify_bundle(path, str(log.verifier)))
    print(f"{'bundle verified':44}{spent:10.1f} s {size / spent:10.0f} leaves/s")


def _run(url: str, leaves: int, folder: Path) -> None:
    upgrade(url)
    database = Database(url)
    log = Log(KeyRing.open(folder / "keys", create=True), "bench.example/log")
    print(f"{leaves:,} leaves, {url.partition(':')[0]}")
    spent = _seconds(lambda: _append(database, log, leaves, BATCH))
    print(f"{f'appended, {BATCH} in a transaction':44}{leaves / spent:10.0f} leaves/s", flush=True)
    spent = _seconds(lambda: _append(database, log, SINGLES, 1))
    print(f"{'appended, one in a transaction':44}{SINGLES / spent:10.0f} leaves/s", flush=True)
    signing = []
    for number in range(20):
        with database.write() as session:
            log.append(session, _entry(number))
            signing.append(_seconds(lambda: log.checkpoint(session)))
    _milliseconds("head, checked against the last and signed", signing)
    with database.write() as session:
        head = Checkpoint.open(log.checkpoint(session), log.verifier)
    _proofs(database, log, head)
    _searches(database, log, head.size)
    print(f"{'memory at most, so far':44}{_memory_mib():10.0f} MiB", flush=True)
    _bundle(database, log, head.size, folder)
    print(f"{'memory at most':44}{_memory_mib():10.0f} MiB")
    database.close()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--url", help="an empty database (default: a SQLite file that is gone afterwards)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _run(arguments.url or f"sqlite:///{folder}/ledger.sqlite3", arguments.leaves, Path(folder))


if __name__ == "__main__":
    main()
