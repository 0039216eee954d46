"""Rotating the installation's keys: each step in the log before it is done, and what they sealed sealed anew.

`ledger.rotation` changes the files; this says what must be true before. Whoever is killed in between goes on by doing
the same again: sealing anew passes over what is done, and a key that was announced is the one that is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from vivavoce.audit.entries import Entry, Json
from vivavoce.audit.key_chain import FROM, TO
from vivavoce.audit.log import Log
from vivavoce.audit.notes import Verifier
from vivavoce.audit.tags import Tag
from vivavoce.consent import grant
from vivavoce.consent.errors import GrantRefused
from vivavoce.ledger import rotation
from vivavoce.ledger.database import Database
from vivavoce.ledger.envelope import reseal_plain, rewrap_subject_key
from vivavoce.ledger.errors import KeyRingError, ObjectMissing
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.rights import Challenge, Invitation, ProtectedVoice, Review, SubjectLink, TextReview
from vivavoce.ledger.tables import ApiKey, Job, JobStatus, Subject
from vivavoce.ledger.webhooks import Webhook

PLAIN: tuple[InstrumentedAttribute[Any], ...] = (
    Challenge.sealed,
    Invitation.sealed,
    ProtectedVoice.note_sealed,
    ProtectedVoice.sealed,
    Review.reason_sealed,
    TextReview.reason_sealed,
    TextReview.sealed,
    Webhook.sealed,
)
"""Columns that are sealed under the installation's key; all other sealed ones are under a subject's."""
_PAGE = 200
"""Rows that are locked at once."""


def rotate(database: Database, log: Log, folder: Path, name: str, actor: str) -> KeyRing:
    """Take the key that comes next into use, making one where none is prepared; returns the ring from then on.

    Raises:
        KeyRingError: There is no such key, or its file cannot be written.
        LogUnavailable: Nothing was done.
    """
    file = rotation.prepare(folder, name)
    assert file.next is not None  # noqa: S101 - just prepared
    facts: dict[str, Json] = {
        "key": name,
        "from": rotation.key_id(name, file.current),
        "to": rotation.key_id(name, file.next),
    }
    if name == rotation.LOG_SIGNER:
        for place, key in ((FROM, file.current), (TO, file.next)):
            facts[place] = str(Verifier(log.origin, Ed25519PrivateKey.from_private_bytes(key).public_key()))
    with database.write() as session:
        log.append(session, Entry(Tag.LEDGER_ROTATE, None, actor, {}, facts))
    rotation.take_into_use(folder, name)
    turned = KeyRing.open(folder)
    with database.write() as session:
        # Of a log signer, the head that has the entry is signed by both: the old key's word for the new one.
        Log(turned, log.origin).checkpoint(session)
    return turned


def retire(database: Database, log: Log, keyring: KeyRing, store: ObjectStore, folder: Path, name: str, actor: str,
           *, force: bool = False) -> None:  # fmt: skip
    """Forget a key's old ones for ever, once nothing needs them.

    Args:
        force: Forget them although something does: it is lost then.

    Raises:
        KeyRingError: Something still needs them; says what.
        LogUnavailable: Nothing was done.
    """
    if name not in keyring.files or not keyring.files[name].old:
        raise KeyRingError(f"there is no old key of {name}")
    needed = None if force else _need(database, keyring, store, name)
    if needed:
        raise KeyRingError(f"an old key of {name} is still needed: {needed}")
    facts: dict[str, Json] = {"key": name, "keys": [rotation.key_id(name, key) for key in keyring.files[name].old]}
    with database.write() as session:
        log.append(session, Entry(Tag.LEDGER_RETIRE, None, actor, {}, facts))
    rotation.retire(folder, name)


def rewrap(database: Database, keyring: KeyRing, store: ObjectStore, *, dry: bool = False) -> Iterator[int]:
    """Seal anew, page by page, all that is sealed under an old master key; gives each page's number of what was.

    Args:
        dry: Count it, and change nothing.

    Raises:
        SealBroken: Something opens with none of the known keys.
    """
    for column in (Subject.wrapped_key, *PLAIN):
        last: str | None = ""
        while last is not None:
            with database.read() if dry else database.write() as session:
                last, renewed = _page(session, keyring, column, last, dry=dry)
            yield renewed
    with database.read() as session:
        jobs = select(Job.request_key, Job.input_key).where(Job.subject_id.is_(None), Job.purged_at.is_(None))
        keys = [key for row in session.execute(jobs) for key in row if key is not None]
    for key in keys:
        yield _object(store, keyring, key, dry=dry)


def _page(
    session: Session, keyring: KeyRing, column: InstrumentedAttribute[Any], after: str, *, dry: bool
) -> tuple[str | None, int]:
    table, name = column.class_, column.key
    page = select(table).where(table.id > after, column.is_not(None)).order_by(table.id).limit(_PAGE)
    rows = list(session.scalars(page if dry else page.with_for_update()))
    renewed = 0
    for row in rows:
        sealed = getattr(row, name)
        if not sealed:  # used up, decided or deleted
            continue
        if table is Subject:
            anew = rewrap_subject_key(keyring, row.id, sealed)
        else:
            place = row.id if table is Webhook else f"{table.__tablename__}.{name}:{row.id}"
            anew = reseal_plain(keyring, sealed, place.encode())
        if anew is not None:
            renewed += 1
            if not dry:
                setattr(row, name, anew)
    return (rows[-1].id if len(rows) == _PAGE else None), renewed


def _object(store: ObjectStore, keyring: KeyRing, key: str, *, dry: bool) -> int:
    try:
        anew = reseal_plain(keyring, store.get(key), key.encode())
    except ObjectMissing:
        return 0  # its time was over meanwhile
    if anew is not None and not dry:
        store.put(key, anew)
    return int(anew is not None)


def _need(database: Database, keyring: KeyRing, store: ObjectStore, name: str) -> str | None:
    if name == "kek":
        count = sum(rewrap(database, keyring, store, dry=True))
        return f"{count} sealed values are under it; `vivavoce keys rewrap` seals them anew" if count else None
    with database.read() as session:
        if name == "grant_signer":
            count = _old_grants(session, keyring)
            return f"{count} jobs that have not ended hold grants of it" if count else None
        if name == "pepper":
            return _peppered(session)
    return None


def _old_grants(session: Session, keyring: KeyRing) -> int:
    file = keyring.files["grant_signer"]
    without = replace(keyring, files={**keyring.files, "grant_signer": replace(file, old=())})
    running = select(Job.grant_token).where(
        Job.status.in_((JobStatus.QUEUED, JobStatus.RUNNING)), Job.grant_token.is_not(None)
    )
    count = 0
    for token in session.scalars(running):
        try:
            grant.read(token or "", without)
        except GrantRefused:
            count += 1
    return count


def _peppered(session: Session) -> str:
    """Digests do not tell what they were made with: whatever is in force may need it."""
    kinds: tuple[tuple[str, InstrumentedAttribute[datetime | None]], ...] = (
        ("API keys", ApiKey.revoked_at),
        ("subject links", SubjectLink.revoked_at),
        ("invitations", Invitation.closed_at),
    )
    counts = [f"{session.scalar(select(func.count()).where(ended.is_(None)))} {kind}" for kind, ended in kinds]
    return f"which of these were made under it cannot be told: {', '.join(counts)}; hand out new ones, then --force"
