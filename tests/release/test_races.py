"""Withdrawal against everything else, at the same moment, on both databases: one of two clean orders, never a mixture.

The log's own order says which it was. Each round starts both sides a little more apart, from one side well ahead to
the other, so that the critical moments are met from both directions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.consent.world import NOW, TTL, World, wait_until
from tests.release.desk import begin, fetch, finish_with, made, mark, put_down

from vivavoce.consent import ConsentRefused
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.lease import claim, give_back
from vivavoce.ledger.tables import JobStatus, Output
from vivavoce.release import marking
from vivavoce.release.door import Marked, Released, ReleaseRefused, Withheld
from vivavoce.release.outcome import cancel, finish
from vivavoce.release.withdrawal import withdraw

OFFSETS_MS = (-12, -6, -4, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 6, 12)


def at_once(first: Callable[[], Any], second: Callable[[], Any], offset_ms: float) -> tuple[Any, Any]:
    """Run two calls in two threads, the second `offset_ms` after the first (before it, if negative)."""
    start = time.perf_counter() + 0.015

    def later(call: Callable[[], Any], delay_ms: float) -> Any:
        wait_until(start + delay_ms / 1000)
        return call()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(later, first, max(0.0, -offset_ms))
        two = pool.submit(later, second, max(0.0, offset_ms))
        return one.result(timeout=60), two.result(timeout=60)


@pytest.fixture(scope="module")
def marked(keyring: KeyRing) -> list[Marked]:
    """Sounds for the rounds of each test: every test has a database of its own, where no output has their ids yet."""
    return [mark(keyring, output_id=new_id("out")) for _ in OFFSETS_MS]


def test_withdrawal_against_release(world: World, marked: list[Marked]) -> None:
    """Released before it, or refused after it; and after it nothing is handed out either way."""
    outcomes = set()
    for offset, sound in zip(OFFSETS_MS, marked, strict=True):
        consent = world.consent()
        _, lease = begin(world, world.voice(consent))
        deposited = put_down(world, lease, sound)

        def release() -> Any:
            try:
                return finish_with(world, deposited)  # noqa: B023 - called within the round
            except ReleaseRefused as refusal:
                return refusal.code

        ended, _ = at_once(release, lambda: world.revoke(consent), offset)  # noqa: B023
        withdrawn = world.leaves("consent:revoke")[-1]
        assert withdrawn["refs"]["consent"] == consent
        of_round = [leaf for leaf in world.leaves("job:outcome") if leaf["refs"]["consent"] == consent]
        if ended == "consent_revoked":
            assert of_round == []
            assert world.job(lease.job_id).status == "running"
        else:
            (outcome,) = of_round
            assert outcome["index"] < withdrawn["index"]
            assert outcome["refs"]["output"] == ended.id
            assert isinstance(fetch(world, ended.id), Withheld)
        outcomes.add(ended == "consent_revoked")
    assert outcomes == {True, False}, "the rounds met one order only: they prove nothing about the other"


def test_withdrawal_against_download(world: World, marked: list[Marked]) -> None:
    """Handed out before it, or withheld after it."""
    outcomes = set()
    for offset, sound in zip(OFFSETS_MS, marked, strict=True):
        consent = world.consent()
        output = made(world, world.voice(consent), sound)
        handed, _ = at_once(lambda: fetch(world, output.id), lambda: world.revoke(consent), offset)  # noqa: B023
        withdrawn = world.leaves("consent:revoke")[-1]["index"]
        delivered = [leaf["index"] for leaf in world.leaves("output:deliver") if leaf["refs"]["output"] == output.id]
        if isinstance(handed, Released):
            assert len(delivered) == 1
            assert delivered[0] < withdrawn
        else:
            assert delivered == []
        outcomes.add(isinstance(handed, Released))
    assert outcomes == {True, False}, "the rounds met one order only: they prove nothing about the other"


def test_withdrawal_against_admission(world: World) -> None:
    """Admission holds the log and then touches the consent; withdrawal the other way round: they must not lock up."""
    for offset in OFFSETS_MS:
        consent = world.consent()
        voice = world.voice(consent)

        def ask() -> str:
            try:
                return world.admit(world.submission(voice)).id  # noqa: B023
            except ConsentRefused as refusal:
                return refusal.code

        admitted, _ = at_once(ask, lambda: world.revoke(consent), offset)  # noqa: B023
        intents = [leaf for leaf in world.leaves("job:intent") if leaf["refs"].get("voice") == voice]
        assert len(intents) == (admitted != "consent_revoked")


def test_cancelling_against_release(world: World, marked: list[Marked]) -> None:
    """One of the two ends the job, in row and log alike; what the other did counts for nothing."""
    ends, voice = set(), world.voice(world.consent())
    for offset, sound in zip(OFFSETS_MS, marked, strict=True):
        _, lease = begin(world, voice)
        deposited = put_down(world, lease, sound)
        released, cancelled = at_once(
            lambda: finish_with(world, deposited),  # noqa: B023 - called within the round
            lambda: stop(world, lease.job_id),  # noqa: B023
            offset,
        )
        assert (released is None) == cancelled
        ends.add(ended_once(world, lease.job_id))
        assert world.count("output") == len(world.leaves("job:outcome")) - stopped(world)
    assert ends == {"succeeded", "cancelled"}, "the rounds met one order only: they prove nothing about the other"


@pytest.mark.parametrize("rival", ["claim", "give_back", "fail", "withdraw"])
def test_cancelling_against_the_queue(world: World, rival: str) -> None:
    """A worker that takes, returns or gives up the job at that very moment, or a speaker who withdraws."""
    for offset in OFFSETS_MS:
        consent = world.consent()
        job = world.admit(world.submission(world.voice(consent)))
        lease = None if rival in ("claim", "withdraw") else world.claim(job.id)

        def interfere() -> None:
            with world.database.write() as session:
                if rival == "claim":
                    claim(session, job.id, "worker", NOW, TTL)  # noqa: B023
                elif rival == "withdraw":
                    withdraw(session, world.log, consent, "no more", "subject", NOW)  # noqa: B023
                elif rival == "give_back":
                    give_back(session, lease)  # type: ignore[arg-type]  # noqa: B023
                else:
                    finish(session, world.log, lease, job.id, JobStatus.FAILED, error_code="x", now=NOW)  # noqa: B023

        _, cancelled = at_once(interfere, lambda: stop(world, job.id), offset)  # noqa: B023
        end = ended_once(world, job.id)
        assert cancelled == (end == "cancelled")
        assert end in {"fail": ("failed", "cancelled"), "withdraw": ("refused", "cancelled")}.get(rival, ("cancelled",))
        with world.database.write() as session:
            assert claim(session, job.id, "late", NOW + 10 * TTL, TTL) is None


def test_of_many_who_cancel_one_does(world: World) -> None:
    _, lease = begin(world, world.voice(world.consent()))
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: stop(world, lease.job_id), range(6), timeout=60))
    assert sorted(done) == [False] * 5 + [True] and ended_once(world, lease.job_id) == "cancelled"


def stop(world: World, job_id: str) -> bool:
    with world.database.write() as session:
        return cancel(session, world.log, job_id, actor=world.account.key_id, now=NOW)


def ended_once(world: World, job_id: str) -> str:
    """The job's end, which row and log agree on; held by nobody."""
    (outcome,) = [leaf for leaf in world.leaves("job:outcome") if leaf["refs"]["job"] == job_id]
    job = world.job(job_id)
    assert (outcome["facts"]["status"], outcome["index"]) == (job.status, job.outcome_leaf)
    assert (job.lease_owner, job.stage) == (None, None)
    return job.status


def stopped(world: World) -> int:
    return sum(leaf["facts"]["status"] == "cancelled" for leaf in world.leaves("job:outcome"))


def test_many_jobs_of_one_voice_and_one_withdrawal(world: World, marked: list[Marked]) -> None:
    """All at the same moment: those released came first, all others are refused, and nobody waits for ever."""
    consent = world.consent()
    voice = world.voice(consent)
    ready = [put_down(world, begin(world, voice)[1], sound) for sound in marked]

    def release(number: int) -> str | None:
        if number == len(ready) // 2:
            world.revoke(consent)
            return None
        try:
            output = finish_with(world, ready[number])
        except ReleaseRefused as refusal:
            return refusal.code
        assert output is not None
        return output.id

    with ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(release, range(len(ready)), timeout=60))
    withdrawn = world.leaves("consent:revoke")[0]["index"]
    released = {leaf["refs"]["output"]: leaf["index"] for leaf in world.leaves("job:outcome")}
    assert all(index < withdrawn for index in released.values())
    assert set(released) == {end for end in ended if end not in (None, "consent_revoked")}
    assert world.count("output") == len(released)


def test_two_outputs_of_one_identity_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is there when the other looks: one is released all the same, the other refused, and nothing hangs."""
    voice, derive = world.voice(world.consent()), marking.mark_identity
    for offset in (-4, -1, 0, 0, 0, 1, 4):
        same = derive(world.keyring, new_id("out"))
        monkeypatch.setattr(marking, "mark_identity", lambda *_: same)  # noqa: B023
        twins = [put_down(world, begin(world, voice)[1]) for _ in range(2)]

        def release(which: int) -> Any:
            try:
                return finish_with(world, twins[which])  # noqa: B023
            except ReleaseRefused as refusal:
                return refusal.code

        ended = at_once(lambda: release(0), lambda: release(1), offset)
        assert sorted(isinstance(end, Output) for end in ended) == [False, True]
        assert "mark_identity_taken" in ended
