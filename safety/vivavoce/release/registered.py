"""Whose mark it is: what the registry says of the identities of all outputs. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.ledger.tables import Output

BATCH = 50_000
"""Identities that are compared at once; their codewords take 100 MB."""


@dataclass(frozen=True)
class Owned:
    """What an output's row says of its origin."""

    output: str
    job: str
    tenant: str
    voice: str
    consent: str


def identities(session: Session, batch: int = BATCH) -> Iterator[NDArray[np.uint64]]:
    """Give the identities of all outputs, of whichever tenant, as uint64[at most `batch`]; none of them twice."""
    known = select(Output.mark_identity).where(Output.mark_identity.is_not(None))
    for part in session.scalars(known.execution_options(yield_per=batch)).partitions():
        yield np.array(part, dtype=np.uint64)


def owner(session: Session, identity: int) -> Owned | None:
    """Find the output that has an identity."""
    columns = (Output.id, Output.job_id, Output.tenant_id, Output.voice_id, Output.consent_id)
    row = session.execute(select(*columns).where(Output.mark_identity == identity)).one_or_none()
    return None if row is None else Owned(*row)
