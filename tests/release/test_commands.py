"""`vivavoce rights`: what a speaker asks for at the machine is done, and logged in the operator's name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.consent.world import World
from typer.testing import CliRunner

from vivavoce.consent.links import open_link
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import upgrade
from vivavoce.ledger.tables import Consent
from vivavoce.release.commands import app


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("VIVAVOCE_HOME", str(tmp_path))
    keyring = KeyRing.open(tmp_path / "keys", create=True)
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    upgrade(url)
    database = Database(url)
    yield World(database, keyring)
    database.close()


def run(*words: str, answer: str | None = None, fails: bool = False) -> str:
    done = CliRunner().invoke(app, [*words], input=answer, catch_exceptions=False)
    assert (done.exit_code != 0) == fails, done.output
    return done.output


def status(world: World, consent: str) -> str:
    with world.database.read() as session:
        return session.get_one(Consent, consent).status


def test_suspended_lifted_and_withdrawn(installed: World) -> None:
    consent = installed.consent(now=datetime.now(UTC))
    job = installed.admit(installed.submission(installed.voice(consent)), datetime.now(UTC)).id
    run("suspend", consent, "--reason", "the speaker called")
    assert status(installed, consent) == "suspended"
    run("lift", consent, "--reason", "it was a mistake")
    assert status(installed, consent) == "verified"
    run("withdraw", consent, "--reason", "the speaker wrote")
    assert status(installed, consent) == "revoked"
    assert (installed.job(job).status, installed.job(job).error_code) == ("refused", "consent_revoked")
    (leaf,) = installed.leaves("consent:revoke")
    assert leaf["actor"] == "operator" and "wrote" not in str(installed.leaves())


def test_a_link_opens(installed: World) -> None:
    consent = installed.consent(now=datetime.now(UTC))
    token = run("link", consent).split("/subject/")[1].strip()
    with installed.database.read() as session:
        assert open_link(session, installed.keyring, token, datetime.now(UTC)).subject_id


def test_erased_only_when_it_is_meant(installed: World) -> None:
    consent = installed.consent(now=datetime.now(UTC))
    run("erase", consent, answer="n\n", fails=True)
    assert status(installed, consent) == "verified"
    assert "1 consents" in run("erase", consent, answer="y\n")
    assert status(installed, consent) == "erased"
    assert "0 consents" in run("erase", consent, "--yes")


@pytest.mark.parametrize(
    "words", [("link",), ("erase", "--yes"), ("withdraw", "--reason", "x"), ("lift", "--reason", "x")]
)
def test_an_unknown_consent_is_said_to_be_unknown(installed: World, words: tuple[str, ...]) -> None:
    command, *more = words
    assert "Failed" in run(command, "cons_x", *more, fails=True)
    assert "Failed" in run("withdraw", installed.consent(now=datetime.now(UTC)), "--reason", " ", fails=True)
