"""`python -m benchmarks.first_audio`: how long somebody waits for the first sound, streamed and not.

Asks a running service (`VIVAVOCE_URL`, `VIVAVOCE_KEY`), from outside, as a client does. The first bytes of a stream are
sound, proved and logged; where the tenant's profile asks for a disclosure, they are that of the disclosure, and the
voice's own come behind it: when these are there is told too, as the seconds until so much had come that the disclosure
was over.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import httpx2

from vivavoce.release.disclosure import disclosure

RATE = 24_000
BYTES_PER_SECOND = 2 * RATE
SPEECH = Path("tests/data/speech")
TEXTS = {
    "short": "Go forward ten meters.",
    "long": "He was not an ill-disposed young man, unless to be rather cold hearted and rather selfish is to be so.",
}


def asked(http: httpx2.Client, voice: str, text: str, stream: bool) -> tuple[float, float, float]:
    """Seconds to the first byte of sound, to the first of the voice behind the disclosure, and to the end."""
    body = {"voice": voice, "input": text, "response_format": "pcm", "seed": 1}
    lead = len(disclosure("en", RATE)) / RATE * BYTES_PER_SECOND
    began, first, voiced, count = time.perf_counter(), 0.0, 0.0, 0
    with http.stream("POST", "/v1/audio/speech", json=body | ({"stream_format": "audio"} if stream else {})) as answer:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            count += len(piece)
            first = first or time.perf_counter() - began
            if count > lead:
                voiced = voiced or time.perf_counter() - began
    return first, voiced, time.perf_counter() - began


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="requests for each line")
    times = parser.parse_args().times
    headers = {"Authorization": f"Bearer {os.environ['VIVAVOCE_KEY']}"}
    with httpx2.Client(base_url=os.environ["VIVAVOCE_URL"], headers=headers, timeout=600) as http:
        voice = _voice(http)
        asked(http, voice, TEXTS["short"], stream=True)  # a new voice is compared with its consent once
        print("| text | | first sound, s | the voice's first, s | end, s |\n|---|---|---|---|---|")
        for name, text in TEXTS.items():
            for stream in (False, True):
                rows = [asked(http, voice, text, stream) for _ in range(times)]
                middle = [statistics.median(column) for column in zip(*rows, strict=True)]
                kind = "streamed" if stream else "whole"
                print(f"| {name} | {kind} | " + " | ".join(f"{seconds:.2f}" for seconds in middle) + " |", flush=True)


def _voice(http: httpx2.Client) -> str:
    recording, clip = ((SPEECH / f"austen-{name}.flac").read_bytes() for name in ("0870", "0890"))
    data, files = {"name": "Reader of Austen", "language": "en"}, {"recording": ("consent.flac", recording)}
    consent = http.post("/v1/audio/voice_consents", data=data, files=files).raise_for_status().json()["id"]
    data, files = {"name": "Austen", "consent": consent}, {"audio_sample": ("clip.flac", clip)}
    return str(http.post("/v1/audio/voices", data=data, files=files).raise_for_status().json()["id"])


if __name__ == "__main__":
    main()
