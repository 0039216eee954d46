"""What a manifest costs: bytes in the file or beside it, and time to sign and to read.

    python -m benchmarks.provenance

Signing includes the library's own check and ours of the very bytes; reading includes the whole file's hash.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np

from vivavoce.ledger.keys import KeyRing
from vivavoce.provenance import Origin, ProvenanceSettings, bind_mark, open_credential, read_provenance, sign
from vivavoce.sound import FORMATS, MEDIA_TYPES, SPEECH_RATE, encode, tag

SECONDS = 10
ROUNDS = 50


def _milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1000 * median(times)


def main() -> None:
    """Print a table: one line for each format that is served."""
    with tempfile.TemporaryDirectory() as home:
        settings = ProvenanceSettings(home=Path(home))
        keyring = KeyRing.open(settings.keys_folder, create=True)
        credential = open_credential(settings)
    origin = Origin("out_bench", datetime.now(UTC), "bench", "attested", bind_mark(keyring.mark_key, 1))
    noise = np.random.default_rng(0).normal(0, 0.05, SECONDS * SPEECH_RATE).astype(np.float32)
    print(f"{SECONDS} s of sound, median of {ROUNDS}")
    print(f"{'format':8}{'bytes':>10}{'embedded':>10}{'beside':>10}{'sign ms':>10}{'read ms':>10}")
    for name in FORMATS:
        data = tag(encode(noise, SPEECH_RATE, name), name, origin.tags())

        def signing(data: bytes = data, media_type: str = MEDIA_TYPES[name]) -> object:
            return sign(data, media_type, origin, credential)

        signed = sign(data, MEDIA_TYPES[name], origin, credential)

        def reading(data: bytes = signed.data, sidecar: bytes | None = signed.sidecar) -> object:
            return read_provenance(data, credential.roots, sidecar)

        beside = len(signed.sidecar or b"")
        figures = f"{_milliseconds(signing):10.2f}{_milliseconds(reading):10.2f}"
        print(f"{name:8}{len(data):10}{len(signed.data) - len(data):10}{beside:10}{figures}")


if __name__ == "__main__":
    main()
