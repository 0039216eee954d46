"""Which certificate signs the files that leave."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import model_validator

from vivavoce.ledger.settings import CoreSettings

DEVELOPMENT = "c2pa"  # folder beside the other keys


class ProvenanceSettings(CoreSettings):
    """Certificates for C2PA, from `VIVAVOCE_*` variables. With none set, an installation makes its own."""

    c2pa_chain: Path | None = None
    """PEM file: the signing certificate, then its intermediates; without the root."""
    c2pa_key: Path | None = None
    """PEM file: the signing certificate's private key (EC P-256, not encrypted), closed to other users."""
    c2pa_roots: Path | None = None
    """PEM file: the authorities under which a signature counts as ours, now and in the past. Whoever else gets
    certificates from one of them counts, too: name the narrowest authority there is."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        given = [path is not None for path in (self.c2pa_chain, self.c2pa_key, self.c2pa_roots)]
        if any(given) and not all(given):
            raise ValueError("VIVAVOCE_C2PA_CHAIN, VIVAVOCE_C2PA_KEY and VIVAVOCE_C2PA_ROOTS are set together or not")
        return self

    @property
    def development_folder(self) -> Path:
        """Folder of the certificates that this installation made itself."""
        return self.keys_folder / DEVELOPMENT
