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
from tests.consent.world import World, wait_until
from tests.release.desk import begin, fetch, finish_with, made, mark, put_down

from vivavoce.consent import ConsentRefused
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.tables import Output
from vivavoce.release import marking
from vivavoce.release.door import Marked, Released, ReleaseRefused, Withheld

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


@pytest.fixture
def marked(world: World) -> list[Marked]:
    return [mark(world, output_id=new_id("out")) for _ in OFFSETS_MS]


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


def test_many_jobs_of_one_voice_and_one_withdrawal(world: World) -> None:
    """All at the same moment: those released came first, all others are refused, and nobody waits for ever."""
    consent = world.consent()
    voice = world.voice(consent)
    ready = [put_down(world, begin(world, voice)[1], mark(world)) for _ in range(12)]

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
