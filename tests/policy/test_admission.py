"""A request is in the log before anything is done about it; and what is refused leaves nothing but its refusal."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from tests.consent.world import NOW, World, on_sqlite

from vivavoce.audit.errors import LogUnavailable
from vivavoce.consent import ConsentRefused, GrantRefused, Scope
from vivavoce.consent.grant import TTL
from vivavoce.ledger.envelope import seal, unseal
from vivavoce.ledger.errors import ObjectStoreUnavailable, SealBroken
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.tables import Job, JobKind, JobStatus, Subject, Voice
from vivavoce.policy.admission import Submission, admit, authorize_job, open_request, refuse
from vivavoce.policy.errors import PolicyRefused


@pytest.fixture
def voice(world: World) -> str:
    return world.voice(world.consent())


def refused(world: World, submission: Submission) -> str:
    with pytest.raises((PolicyRefused, ConsentRefused)) as caught:
        world.admit(submission)
    return str(caught.value.code)


def test_an_admitted_job_is_logged_granted_sealed_and_waiting(world: World, voice: str) -> None:
    job = world.job(world.admit(world.submission(voice, language="en")).id)
    assert (job.status, job.attempt, job.created_at) == (JobStatus.QUEUED, 0, NOW)
    (leaf,) = world.leaves("job:intent")
    assert (leaf["index"], leaf["actor"]) == (job.intent_leaf, world.account.key_id)
    assert leaf["refs"] == {"job": job.id, "voice": voice}
    assert leaf["facts"] == {"kind": "speech", "purpose": "general"}
    assert b"ill-disposed" not in world.store.get(job.request_key)
    with world.database.read() as session:
        asked, sound = open_request(job, session, world.store, world.keyring)
        assert authorize_job(session, world.keyring, job, NOW).assurance == "attested"
    assert asked == {"text": "He was not an ill-disposed young man.", "seed": 1}
    assert sound is None


def test_the_intent_is_older_than_the_job(world: World, voice: str) -> None:
    """Seen from the database: when the job row is inserted, its intent leaf is there."""
    if world.database.url.startswith("sqlite"):
        statements = [
            "CREATE TRIGGER late BEFORE INSERT ON job WHEN NOT EXISTS "
            "(SELECT 1 FROM audit_leaf WHERE \"index\" = NEW.intent_leaf AND tag = 'job:intent') "
            "BEGIN SELECT RAISE(ABORT, 'no intent'); END"
        ]
    else:
        statements = [
            "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NOT EXISTS (SELECT 1 FROM audit_leaf WHERE \"index\" = NEW.intent_leaf AND tag = 'job:intent') "
            "THEN RAISE EXCEPTION 'no intent'; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER late BEFORE INSERT ON job FOR EACH ROW EXECUTE FUNCTION late()",
        ]
    with world.database.write() as session:
        for statement in statements:
            session.execute(text(statement))
    assert world.admit(world.submission(voice))


def test_without_a_log_nothing_is_admitted_and_nothing_changes(world: World, voice: str) -> None:
    before = world.snapshot()
    world.break_log()
    for submission in (
        world.submission(voice),
        world.submission(voice, request={"text": ""}),
        world.submission(None, kind=JobKind.DETECTION, input=b"RIFF"),
    ):
        with pytest.raises(LogUnavailable):
            world.admit(submission)
        with pytest.raises(LogUnavailable), world.database.write() as session:
            refuse(session, world.log, world.keyring, submission, "consent_revoked", NOW)
    assert world.snapshot() == before


def test_a_swallowed_log_failure_admits_nothing_either(world: World, voice: str) -> None:
    """A caller with a bug, who goes on after the error and commits."""
    before = world.snapshot()
    world.break_log()
    with world.database.write() as session, pytest.raises(LogUnavailable):
        admit(session, world.log, world.keyring, world.store, world.submission(voice), NOW)
    assert world.snapshot() == before


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"request": {"text": ""}}, "text_empty"),
    ({"request": {}}, "text_empty"),
    ({"request": {"text": "a" * 100_000}}, "text_too_long"),
    ({"request": {"text": "a\0b"}}, "text_control_characters"),
    ({"request": {"text": "fine", "instructions": "\x1b[2J"}}, "text_control_characters"),
    ({"request": {"text": "fine", "seed": float("nan")}}, "request_malformed"),
    ({"request": {"text": "fine", "seed": b"bytes"}}, "request_malformed"),
    ({"purpose": "world domination"}, "unknown_purpose"),
    ({"purpose": None}, "unknown_purpose"),
    ({"format": "exe"}, "unknown_format"),
    ({"format": None}, "unknown_format"),
    ({"purpose": "advertising"}, "purpose_not_covered"),
    ({"voice_id": None}, "unknown_voice"),
    ({"voice_id": "voice_\0"}, "unknown_voice"),
    ({"idempotency_key": ""}, "idempotency_key_malformed"),
    ({"idempotency_key": "\0"}, "idempotency_key_malformed"),
    ({"idempotency_key": "x" * 201}, "idempotency_key_malformed"),
]


def test_a_refused_request_leaves_intent_and_refusal_and_nothing_else(world: World, voice: str) -> None:
    for changes, code in REFUSED:
        submission = replace(world.submission(voice), **changes)
        before = world.snapshot()
        assert refused(world, submission) == code
        assert world.snapshot() == before
        with world.database.write() as session:
            refuse(session, world.log, world.keyring, submission, code, NOW)
        assert world.snapshot() == before | {"audit_leaf": before["audit_leaf"] + 2}
        intent, refusal = world.leaves("job:intent", "job:refuse")[-2:]
        assert intent["refs"] == refusal["refs"]
        assert refusal["facts"] == {"code": code, "kind": "speech"}


@on_sqlite
def test_text_from_outside_never_gets_into_the_log(world: World) -> None:
    """The log cannot forget: a name smuggled in as a voice or a purpose would stay for ever."""
    submission = world.submission("Jane Reader", purpose="for Jane Reader", format="Jane", language="Jane")
    assert refused(world, submission) == "unknown_purpose"
    with world.database.write() as session:
        refuse(session, world.log, world.keyring, submission, "unknown_purpose", NOW)
    assert "Jane" not in json.dumps(world.leaves("job:intent", "job:refuse"))


@on_sqlite
def test_a_full_store_admits_nothing(world: World, voice: str) -> None:
    """The request is stored and the input is not: the request does not stay behind."""

    class Full(ObjectStore):
        def put(self, key: str, data: bytes) -> None:
            if key.endswith("input"):
                raise ObjectStoreUnavailable("disk full")
            super().put(key, data)

    before, full = world.snapshot(), Full("memory://")
    submission = world.submission(voice, kind=JobKind.CONVERSION, input=b"RIFF", request={})
    with pytest.raises(ObjectStoreUnavailable), world.database.write() as session:
        admit(session, world.log, world.keyring, full, submission, NOW)
    assert full.list() == []
    assert world.snapshot() == before


@on_sqlite
def test_a_detection_needs_no_consent_and_is_sealed_too(world: World) -> None:
    sound = b"RIFF not looked at here"
    submission = world.submission(
        None, kind=JobKind.DETECTION, purpose=None, format=None, input=sound, request={"filename": "\ud800.wav"}
    )
    job = world.job(world.admit(submission).id)
    assert (job.grant_token, job.consent_id, job.kind) == (None, None, "detection")
    assert [leaf["facts"] for leaf in world.leaves("detect:intent")] == [{"kind": "detection"}]
    assert sound not in world.store.get(job.input_key or "")
    with world.database.read() as session:
        assert open_request(job, session, world.store, world.keyring) == (submission.request, sound)


def test_the_same_key_gives_the_same_job(world: World, voice: str) -> None:
    submission = world.submission(voice, idempotency_key="order-1")
    first = world.admit(submission)
    before = world.snapshot()
    assert world.admit(submission).id == first.id
    assert world.snapshot() == before
    for other in (
        replace(submission, request={"text": "Something else."}),
        replace(submission, format="mp3"),
        replace(submission, kind=JobKind.CONVERSION, input=b"x"),
    ):
        assert refused(world, other) == "idempotency_key_reused"
    stranger = world.join("stranger")
    theirs = world.voice(world.consent(stranger), stranger)
    elsewhere = replace(submission, tenant_id=stranger.tenant_id, api_key_id=stranger.key_id, voice_id=theirs)
    assert world.admit(elsewhere).id != first.id


def test_of_many_requests_with_one_key_one_becomes_a_job(world: World, voice: str) -> None:
    """However they race: one job, one intent, and everybody else gets that job or is told to ask again."""
    submission = world.submission(voice, idempotency_key="order-1")

    def attempt(_: int) -> str:
        try:
            return world.admit(submission).id
        except PolicyRefused as refusal:
            return refusal.code

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(attempt, range(16)))
    assert len(answers - {"idempotency_key_in_use"}) == 1
    assert (world.count("job"), len(world.leaves("job:intent"))) == (1, 1)
    assert len(world.store.list("jobs")) == 1


@on_sqlite
def test_a_swapped_or_altered_request_is_not_carried_out(world: World, voice: str) -> None:
    """Neither noise, nor another job's sealed request, nor a well-sealed other text gets past the digest."""
    first, second = (world.admit(world.submission(voice, request={"text": word})) for word in ("One", "Two"))
    original = world.store.get(first.request_key)

    def opened() -> None:
        with world.database.read() as session:
            open_request(session.get_one(Job, first.id), session, world.store, world.keyring)

    opened()
    for sealed in (b"noise", original[:-1] + bytes([original[-1] ^ 1]), world.store.get(second.request_key)):
        world.store.put(first.request_key, sealed)
        with pytest.raises(SealBroken):
            opened()
    with world.database.write() as session:
        # By the book: the other's text sealed for this place, and the row's own digest adjusted. The grant remembers.
        subject = session.get_one(Subject, first.subject_id)
        text_of_second = unseal(
            world.keyring, subject, world.store.get(second.request_key), second.request_key.encode()
        )
        world.store.put(first.request_key, seal(world.keyring, subject, text_of_second, first.request_key.encode()))
        session.get_one(Job, first.id).request_sha256 = second.request_sha256
    with pytest.raises(GrantRefused, match="grant_mismatch"):
        opened()


@on_sqlite
def test_the_input_sound_is_bound_too(world: World, voice: str) -> None:
    submission = world.submission(voice, kind=JobKind.CONVERSION, input=b"my own voice", request={})
    job = world.admit(submission)
    key = job.input_key or ""
    with world.database.read() as session:
        subject = session.get_one(Subject, job.subject_id)
        world.store.put(key, seal(world.keyring, subject, b"another voice", key.encode()))
        with pytest.raises(GrantRefused, match="grant_mismatch"):
            open_request(job, session, world.store, world.keyring)


@on_sqlite
@pytest.mark.parametrize("at_release", [False, True])
def test_a_job_that_was_changed_after_admission_is_not_begun(world: World, at_release: bool) -> None:
    """Who can write rows, and has no signing key, moves no worker to use another voice or purpose."""
    mine, other = world.voice(world.consent()), world.voice(world.consent())
    job = world.admit(world.submission(mine))
    changes: list[dict[str, Any]] = [
        {"voice_id": other},
        {"purpose": "advertising"},
        {"kind": "conversion"},
        {"grant_token": None},
        {"grant_token": world.admit(world.submission(other)).grant_token},
    ]
    for change in changes:
        with pytest.raises(GrantRefused, match="grant_mismatch"), world.database.write() as session:
            row = session.get_one(Job, job.id)
            for name, value in change.items():
                setattr(row, name, value)
            authorize_job(session, world.keyring, row, NOW, at_release=at_release)


def test_a_voice_that_was_bound_to_another_consent_is_not_used(small_world: World) -> None:
    """The grant was given under one person's consent; another person's cannot be slid under it."""
    voice = small_world.voice(small_world.consent())
    job = small_world.admit(small_world.submission(voice))
    other = small_world.consent()
    with small_world.database.write() as session:
        session.get_one(Voice, voice).consent_id = other
        with pytest.raises(GrantRefused, match="grant_mismatch"):
            authorize_job(session, small_world.keyring, session.get_one(Job, job.id), NOW)


def test_a_job_that_waited_too_long_is_not_begun_but_may_end(small_world: World) -> None:
    """A grant is a permit to begin; work that began in time may be released while the consent stands."""
    job = small_world.admit(small_world.submission(small_world.voice(small_world.consent())))
    with small_world.database.write() as session:
        with pytest.raises(GrantRefused, match="grant_expired"):
            authorize_job(session, small_world.keyring, job, NOW + TTL)
        assert authorize_job(session, small_world.keyring, job, NOW + TTL, at_release=True)


def test_a_named_language_is_asked_about_each_time(small_world: World) -> None:
    """A consent for English covers an English job to its end, without anybody naming the language again."""
    voice = small_world.voice(small_world.consent(scope=Scope(languages=("en",), lifetime=timedelta(days=1))))
    assert refused(small_world, small_world.submission(voice)) == "language_not_covered"
    job = small_world.admit(small_world.submission(voice, language="en"))
    with small_world.database.write() as session:
        assert authorize_job(session, small_world.keyring, job, NOW)
        assert authorize_job(session, small_world.keyring, job, NOW, at_release=True)


def test_withdrawn_while_queued_the_job_is_not_begun(world: World) -> None:
    consent = world.consent()
    job = world.admit(world.submission(world.voice(consent)))
    world.revoke(consent)
    with world.database.read() as session, pytest.raises(ConsentRefused, match="consent_revoked"):
        authorize_job(session, world.keyring, job, NOW)
