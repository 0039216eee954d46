"""Challenges: a speaker is shown a sentence with one-time words, and reads it aloud once, within minutes.

The caller owns the transactions. What `ask` composed is what is shown, and what the recording is compared with.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.consent.creation import Guardian, Recording, Relationship, create_consent
from vivavoce.consent.errors import ConsentRefused
from vivavoce.consent.profiles import profile_of, require_permitted
from vivavoce.consent.scope import Purpose, Scope
from vivavoce.consent.statements import Reading, Terms, compose, draw_words, notice, statement
from vivavoce.ledger.envelope import seal_plain, unseal_plain
from vivavoce.ledger.ids import is_id, new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.rights import Challenge
from vivavoce.ledger.tables import Assurance, Consent, Operation, Subject, Tenant

LIFETIME = timedelta(minutes=10)
"""How long a challenge can be answered: long enough to read it twice, too short to have it imitated at leisure."""


@dataclass(frozen=True)
class Asked:
    """What a challenge is about."""

    name: str
    language: str
    scope: Scope
    guardian: Guardian | None


def ask(
    session: Session, log: Log, keyring: KeyRing, asked: Asked, *, tenant_id: str, actor: str, now: datetime
) -> tuple[Challenge, Reading]:
    """Draw a challenge for one speaker; returns its row and what is to be shown, notice first.

    Raises:
        ConsentInvalid: There is no statement in the language, the name is none, or the profile refuses the scope.
        LogUnavailable: The log cannot be written. There is no challenge.
    """
    require_permitted(profile_of(session, tenant_id), asked.scope)
    until = (now + asked.scope.lifetime).astimezone(UTC).date()
    company = session.get_one(Tenant, tenant_id).name
    terms = Terms(asked.name, company, asked.scope.purposes, until)
    shown = compose(asked.language, terms, draw_words(asked.language, terms))
    challenge_id = new_id("chal")
    challenge = Challenge(
        id=challenge_id,
        tenant_id=tenant_id,
        language=asked.language,
        statement_version=shown.statement_version,
        notice_version=shown.notice_version,
        sealed=seal_plain(keyring, _write(asked, shown, until), _place(challenge_id)),
        created_at=now,
        expires_at=now + LIFETIME,
    )
    session.add(challenge)
    session.flush()
    facts = {
        "language": asked.language,
        "statement_version": shown.statement_version,
        "statement_sha256": statement(asked.language).sha256,
        "notice_version": shown.notice_version,
        "notice_sha256": notice(asked.language).sha256,
    }
    log.append(session, Entry(Tag.CHALLENGE_CREATE, tenant_id, actor, {"challenge": challenge_id}, facts))
    return challenge, shown


def answer(
    session: Session, log: Log, store: ObjectStore, keyring: KeyRing, challenge_id: str, recording: Recording, *,
    tenant_id: str, actor: str, now: datetime, speaker: Subject | None = None,
) -> tuple[Consent, Reading]:  # fmt: skip
    """Hand in the recording: a consent that waits for its verification. A challenge is answered once, whatever comes.

    Args:
        speaker: Who made an earlier attempt, so that one link reaches them all; a new person else.

    Raises:
        ConsentRefused: unknown_challenge, challenge_used or challenge_expired.
        LogUnavailable: The log cannot be written. Nothing was handed in.
    """
    held = session.get(Challenge, challenge_id, with_for_update={"key_share": True}) if is_id(challenge_id) else None
    if held is None or held.tenant_id != tenant_id:
        raise ConsentRefused("unknown_challenge", "there is no such challenge")
    if held.used_at is not None:
        raise ConsentRefused("challenge_used", "the challenge has been answered; ask for another")
    if not held.created_at <= now < held.expires_at:
        raise ConsentRefused("challenge_expired", "the challenge's time is over; ask for another")
    asked, shown, until = _read(unseal_plain(keyring, held.sealed, _place(held.id)))
    held.used_at, held.sealed = now, b""
    # To the end of the day that the speaker has read aloud.
    end = datetime.combine(until, time.max, UTC).replace(microsecond=0)
    consent = create_consent(
        session,
        log,
        store,
        keyring,
        tenant_id=tenant_id,
        actor=actor,
        name=asked.name,
        recording=recording,
        language=asked.language,
        scope=replace(asked.scope, lifetime=min(end - now, asked.scope.lifetime)),
        guardian=asked.guardian,
        speaker=speaker,
        assurance=Assurance.CHALLENGE,
        now=now,
    )
    return consent, shown


def _write(asked: Asked, shown: Reading, until: date) -> bytes:
    said = {"asked": written(asked), "until": until.isoformat(), "reading": asdict(shown)}
    return json.dumps(said).encode()


def _read(data: bytes) -> tuple[Asked, Reading, date]:
    said = json.loads(data)
    shown = said["reading"] | {"words": tuple(said["reading"]["words"])}
    return read_again(said["asked"]), Reading(**shown), date.fromisoformat(said["until"])


def written(asked: Asked) -> dict[str, Any]:
    """Put what is asked as JSON."""
    scope = asked.scope
    return {
        "name": asked.name,
        "language": asked.language,
        "operations": sorted(scope.operations),
        "purposes": sorted(scope.purposes),
        "languages": scope.languages,
        "territory": scope.territory,
        "commercial": scope.commercial,
        "lifetime_seconds": scope.lifetime.total_seconds(),
        "guardian": None if asked.guardian is None else asdict(asked.guardian),
    }


def read_again(said: dict[str, Any]) -> Asked:
    """Read what `written` gave."""
    scope = Scope(
        operations=frozenset(map(Operation, said["operations"])),
        purposes=frozenset(map(Purpose, said["purposes"])),
        languages=tuple(said["languages"]),
        territory=tuple(said["territory"]),
        commercial=said["commercial"],
        lifetime=timedelta(seconds=said["lifetime_seconds"]),
    )
    given = said["guardian"]
    guardian = given and Guardian(given["name"], Relationship(given["relationship"]), Assurance(given["assurance"]))
    return Asked(said["name"], said["language"], scope, guardian)


def _place(challenge_id: str) -> bytes:
    return f"challenge.sealed:{challenge_id}".encode()
