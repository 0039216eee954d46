"""What a file says about where it comes from: one source for its tags and for its manifest."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

PROVIDER = "Vivavoce"
MARK_ALGORITHM = "org.vivavoce.mark.2"
_IDENTITY_BYTES = 6  # 48 bits, as in `watermark.code`


@dataclass(frozen=True)
class Origin:
    """Where a file comes from. Nothing in it is personal.

    Attributes:
        output_id: The output's name in the registry.
        created_at: When it was made.
        model_id: What made it.
        assurance: How the speaker's consent was established.
        binding: `bind_mark` of the mark in it.
        input_sha256: For a conversion, digest (hex) of the recording that was converted.
    """

    output_id: str
    created_at: datetime
    model_id: str
    assurance: str
    binding: str
    input_sha256: str | None = None

    @property
    def time(self) -> str:
        """When it was made, in UTC to the second (RFC 3339)."""
        return self.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def title(self) -> str:
        """What a player shows."""
        return f"AI-generated speech ({self.output_id})"

    def tags(self) -> dict[str, str]:
        """Give the fields for `sound.tag`: provider, system and version, time, unique id, and that it is generated."""
        return {
            "title": self.title,
            "artist": f"{PROVIDER} (AI-generated)",
            "software": f"{PROVIDER} {system_version()}",
            "date": self.time.rstrip("Z"),  # UTC as ID3v2.4 has it, which knows no zones
            "created": self.time,
            "provider": PROVIDER,
            "output": self.output_id,
            "ai-generated": "true",
            "model": self.model_id,
            "consent-assurance": self.assurance,
            "AIGC": self._aigc(),
        }

    def _aigc(self) -> str:
        """Write the implicit label of GB 45438-2025 (annex E): `Label` 1 says "generated", for certain.

        What a distributor adds on its way is left empty.
        """
        return json.dumps(
            {
                "Label": "1",
                "ContentProducer": PROVIDER,
                "ProduceID": self.output_id,
                "ReservedCode1": "",
                "ContentPropagator": "",
                "PropagateID": "",
                "ReservedCode2": "",
            }
        )


def system_version() -> str:
    """Version of this installation."""
    return version("vivavoce")


def bind_mark(mark_key: bytes, identity: int) -> str:
    """Name the mark of an identity, for the manifest's soft binding: 64 hex digits that only the operator can derive.

    The identity itself must not be in the file. Its codeword is a linear function (over GF(2)) of its bytes, and the
    learned mark can be read by anybody: some 1,700 files with their identities in clear would be equations enough to
    solve for the secret tables, and then to put any output's mark into any sound. A bare digest would not do either,
    since 48 bits can be tried through. Under a key it tells a stranger nothing, and no two files can be linked by it;
    yet for a mark that was found and resolved the operator sees at once whether this manifest belongs to it.

    Args:
        mark_key: The installation's mark key.
        identity: 0 <= identity < 2**48.
    """
    key = hmac.digest(mark_key, b"vivavoce soft binding 1", "sha256")
    return hmac.new(key, identity.to_bytes(_IDENTITY_BYTES, "big"), hashlib.sha256).hexdigest()


def binds(mark_key: bytes, identity: int, binding: str) -> bool:
    """Whether a manifest's soft binding names the mark of this identity."""
    return hmac.compare_digest(bind_mark(mark_key, identity).encode(), binding.encode())
