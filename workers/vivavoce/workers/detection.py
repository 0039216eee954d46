"""Detection: looks for our mark and for a manifest in a sound, and asks the registry whose the mark is.

What is written down names no output: whose outputs the asking tenant may hear of is decided by the API.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.provenance import Provenance, binds
from vivavoce.release.registered import identities
from vivavoce.sound import open_sound
from vivavoce.watermark import Detection, Marker, Reading, Resolution

SCORE_DIGITS = 4


def detect(marker: Marker, sound: bytes, database: Database) -> tuple[Detection, Resolution | None]:
    """Look for the mark, block by block, and ask all registered identities whose it is; None where none was read.

    Raises:
        SoundError: The bytes are no sound that can be taken.
        MarkError: The detector failed.
    """

    def resolve(reading: Reading) -> Resolution:
        with database.read() as session:
            return marker.code.resolve(reading, identities(session))

    stream = open_sound(sound)
    found = marker.detect_blocks(stream.blocks, stream.sample_rate, who=lambda reading: resolve(reading).identity)
    return found, None if found.reading is None else resolve(found.reading)


def result(marker: Marker, found: Detection, resolution: Resolution | None) -> dict[str, Any]:
    """Write a detection down for its job row: its own numbers get into the log, and those of the resolution do not."""
    return {
        "verdict": str(found.verdict),
        "reason": found.reason,
        "score": round(found.score, SCORE_DIGITS),
        "threshold": round(found.threshold, SCORE_DIGITS),
        "segments": [asdict(segment) for segment in found.segments],
        "speed": round(found.speed, SCORE_DIGITS),
        "pitch": round(found.pitch, SCORE_DIGITS),
        "model_id": marker.model_id,
        "seconds": round(found.seconds, 2),
        "resolution": None if resolution is None else asdict(resolution),
    }


def c2pa(keyring: KeyRing, claimed: Provenance, resolution: Resolution | None) -> dict[str, Any]:
    """Write down what the file's manifest says, and whether it is that of the mark; names no output either."""
    identity = None if resolution is None else resolution.identity
    agree = None
    if claimed.binding is not None and identity is not None:
        agree = binds(keyring.mark_key, identity, claimed.binding)
    return {
        "state": str(claimed.state),
        "reason": claimed.reason,
        "problems": list(claimed.problems),
        "generated": claimed.generated,
        "signer": claimed.signer,
        "created_at": claimed.created_at,
        "names_the_mark": agree,
    }
