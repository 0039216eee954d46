"""Whose mark it is: what the registry says of the identities of all outputs. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from vivavoce.ledger.streams import OutputStream
from vivavoce.ledger.tables import Output

BATCH = 50_000
"""Identities that are compared at once; their codewords take 100 MB."""

_BROKEN_OFF = ~exists().where(Output.id == OutputStream.id)


@dataclass(frozen=True)
class Owned:
    """What an output's row says of its origin."""

    output: str
    job: str
    tenant: str
    voice: str
    consent: str


def identities(session: Session, batch: int = BATCH) -> Iterator[NDArray[np.uint64]]:
    """Give the identities of all outputs, of whichever tenant, as uint64[at most `batch`]; none of them twice.

    Those of streams that broke off are among them: something of such a sound may have left.
    """
    outputs = select(Output.mark_identity).where(Output.mark_identity.is_not(None))
    for known in (outputs, select(OutputStream.mark_identity).where(_BROKEN_OFF)):
        for part in session.scalars(known.execution_options(yield_per=batch)).partitions():
            yield np.array(part, dtype=np.uint64)


def owner(session: Session, identity: int) -> Owned | None:
    """Find the output, or the stream that never became one, which has an identity."""
    for table in (Output, OutputStream):
        columns = (table.id, table.job_id, table.tenant_id, table.voice_id, table.consent_id)
        row = session.execute(select(*columns).where(table.mark_identity == identity)).one_or_none()
        if row is not None:
            return Owned(*row)
    return None
