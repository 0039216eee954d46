"""What a recording says of itself: no consent and no voice rests on a file that claims to be generated."""

from __future__ import annotations

from vivavoce.consent.errors import ConsentInvalid
from vivavoce.provenance import read_provenance


def refuse_generated(data: bytes) -> None:
    """Refuse a sound file whose C2PA manifest says that an algorithm made it, whoever signed that.

    Raises:
        ConsentInvalid: recording_is_generated.
    """
    if read_provenance(data, roots="").generated:
        raise ConsentInvalid("recording_is_generated", "the file's own manifest says that an algorithm made this sound")
