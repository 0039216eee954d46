"""Getting the log's heads out of the house: signed, kept as objects, shown to witnesses, and put into proofs."""

from __future__ import annotations

import re
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.errors import AuditError, NoSuchProof
from vivavoce.audit.heads import Heads
from vivavoce.audit.log import Log
from vivavoce.audit.notes import DECIMAL, Checkpoint
from vivavoce.audit.proofs import write_proof
from vivavoce.audit.witness import write_request
from vivavoce.ledger.database import Database
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.settings import CoreSettings
from vivavoce.ledger.tables import AuditLeaf, Job, Output

_TIMEOUT_SECONDS = 30
_MAX_ANSWER_BYTES = 64 * 1024


class WitnessRefused(AuditError):
    """The witness did not cosign. A 409 that stays, or a 422, means: it saw another history of this log."""


def open_heads(log: Log) -> Heads:
    """Open the installation's kept heads."""
    return Heads(ObjectStore(CoreSettings().objects_url), *log.verifiers)


def sign_and_keep(database: Database, log: Log, heads: Heads, entry: Entry | None = None) -> str:
    """Sign the log's present head and keep it outside the database; returns the note.

    Args:
        entry: What is going to be done under this head: logged in the same transaction, so that the head has it.

    Raises:
        LogBroken, LogUnavailable: As `Log.checkpoint`.
        HeadConflict: The kept heads say otherwise: nothing more should be signed until somebody knows why.
    """
    last = heads.last()
    with database.write() as session:
        # Before signing, so that a database that was rolled back gets no second head of any size.
        if last is not None:
            log.require_beginning(session, last)
        if entry is not None:
            log.append(session, entry)
        note = log.checkpoint(session)
    heads.keep(note)
    return note


def find_leaf(session: Session, name: str) -> int:
    """Find the leaf of an output's outcome, or the leaf of that number; raises `NoSuchProof`."""
    if re.fullmatch(r"[0-9]{1,18}", name):
        return int(name)
    leaf = session.scalar(select(Job.outcome_leaf).join(Output, Output.job_id == Job.id).where(Output.id == name))
    if leaf is None:
        raise NoSuchProof(f"the log has no outcome of an output {name}")
    return leaf


def prove_leaf(session: Session, log: Log, index: int, note: str) -> str:
    """Write the tlog-proof of a leaf under a note of this log; raises `NoSuchProof`."""
    size = Checkpoint.open(note, *log.verifiers).size
    path = log.inclusion(session, index, size)
    return write_proof(session.get_one(AuditLeaf, index).data, index, path, note)


def submit_head(session: Session, log: Log, note: str, url: str) -> str:
    """Send a head to a witness, from wherever the witness stands; returns its signature lines.

    Raises:
        WitnessRefused: It does not answer, or does not cosign.
    """
    head = Checkpoint.open(note, *log.verifiers)
    status, answer = _post(url, write_request(0, [], note))
    if status == 409 and re.fullmatch(f"{DECIMAL}\n", answer):
        old = int(answer)
        if old > head.size:
            raise WitnessRefused(f"it has seen {old} leaves, this log has {head.size}: it was rolled back")
        path = log.consistency(session, old, head.size)
        status, answer = _post(url, write_request(old, path, note))
    if status != 200:
        raise WitnessRefused(f"the witness answered {status}: {answer.strip()[:200]!r}")
    return answer


def _post(url: str, body: str) -> tuple[int, str]:
    if not url.startswith(("http://", "https://")):
        raise WitnessRefused("not a witness's address: http(s)://...")
    request = Request(f"{url.rstrip('/')}/add-checkpoint", body.encode(), {"Content-Type": "text/plain"})  # noqa: S310
    try:
        with urlopen(request, timeout=_TIMEOUT_SECONDS) as found:  # noqa: S310 - the scheme is checked above
            return found.status, found.read(_MAX_ANSWER_BYTES).decode(errors="replace")
    except HTTPError as error:
        return error.code, error.read(_MAX_ANSWER_BYTES).decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise WitnessRefused(f"the witness does not answer: {error}") from error
