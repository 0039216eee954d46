"""What a worker host needs to know beyond the shared settings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from vivavoce.provenance import ProvenanceSettings


class WorkerSettings(ProvenanceSettings):
    """Settings of a worker process, from `VIVAVOCE_*` variables."""

    model_folder: Path | None = None
    """Folder of the voice model; by default the small one that ships with the package."""
    marker_folder: Path | None = None
    """Folder of the watermark's weights; by default those that ship with the package."""
    device: str = "cpu"
    """Torch device of model and marker, such as `cuda:0`. One process per device."""
    compare_speakers: bool = True
    """Whether new voices are compared with their consent and with protected voices. Without it, voices under consents
    that are only attested are used unchecked, and others not at all."""
    concurrency: int = Field(default=8, ge=1)
    """Jobs that are worked on at once; their requests to the model share batches."""
    unload_seconds: float | None = Field(default=None, gt=0)
    """Time without a request for the voice model after which its memory is given back until the next; by default it is
    kept."""
    lease_seconds: float = Field(default=30.0, gt=0)
    """How long a job stays with a worker that has gone silent. Renewed at a third of it."""
    max_attempts: int = Field(default=3, ge=1)
    """Times that a job is begun before it is given up as failed."""
    reap_seconds: float = Field(default=10.0, gt=0)
    """Time between two looks for jobs that lost their doorbell or their worker."""
    sweep_seconds: float = Field(default=3600.0, gt=0)
    """Time between two searches of the whole store for sounds that belong to no output."""
    grace_seconds: float = Field(default=20.0, ge=0)
    """Time that running jobs get to end by themselves when the worker is told to stop."""

    courier_seconds: float = Field(default=2.0, gt=0)
    """Time between two looks for webhooks that are due."""
    courier_pause_seconds: float = Field(default=60.0, gt=0)
    """Time between the first and the second attempt to deliver a webhook; each further one takes longer."""
    courier_patience_seconds: float = Field(default=10.0, gt=0)
    """How long a receiver of webhooks may take to answer."""

    @property
    def lease_ttl(self) -> timedelta:
        """Length of a lease."""
        return timedelta(seconds=self.lease_seconds)
