"""Promise 9, the half that needs no detector: a file that says it was generated founds nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.provenance.authority import credential

from vivavoce.consent.creation import check_recording
from vivavoce.consent.errors import ConsentInvalid
from vivavoce.consent.voices import check_clip
from vivavoce.provenance import Origin, sign
from vivavoce.sound import decode, encode

SPEECH = Path(__file__).parents[1] / "data/speech"


@pytest.mark.parametrize(("kind", "media_type"), [("wav", "audio/wav"), ("flac", "audio/flac"), ("mp3", "audio/mpeg")])
def test_a_generated_file_is_no_recording_and_no_clip(kind: str, media_type: str) -> None:
    read = decode((SPEECH / "austen-0870.flac").read_bytes())
    plain = encode(read.samples, read.sample_rate, kind)  # type: ignore[arg-type]
    check_recording(plain)
    check_clip(plain, "")
    origin = Origin("out_x", datetime.now(UTC), "a model", "attested", binding="")
    signed = sign(plain, media_type, origin, credential()).data
    for refused in (lambda: check_recording(signed), lambda: check_clip(signed, "")):
        with pytest.raises(ConsentInvalid) as caught:
            refused()
        assert caught.value.code == "recording_is_generated"
