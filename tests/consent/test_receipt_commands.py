"""`vivavoce consent`: a receipt made here is checked on a machine that has nothing but the file and the public keys."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.consent.world import World
from typer.testing import CliRunner

from vivavoce.consent.commands import app
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.schema import upgrade

ELSEWHERE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "psycopg", "fastapi"):
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Block())
def forbid(event, _):
    if event in ("sqlite3.connect", "socket.connect"):
        raise AssertionError(event)
sys.addaudithook(forbid)
from vivavoce.consent.commands import app
app(sys.argv[1:])
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation in a folder, with one consent whose id stands in `consent`."""
    folder = tmp_path / "home"
    monkeypatch.setenv("VIVAVOCE_HOME", str(folder))
    keyring = KeyRing.open(folder / "keys", create=True)
    url = f"sqlite:///{folder / 'ledger.sqlite3'}"
    upgrade(url)
    database = Database(url)
    (folder / "consent").write_text(World(database, keyring).consent(now=datetime.now(UTC)))
    database.close()
    return folder


def here(*words: str) -> str:
    done = CliRunner().invoke(app, [*words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def elsewhere(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", ELSEWHERE, *words]
    env = {"TERM": "dumb", "COLUMNS": "200", "VIVAVOCE_HOME": str(folder / "none")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=folder)


def test_a_receipt_is_checked_on_another_machine(home: Path, tmp_path: Path) -> None:
    """No torch, no database is opened, nobody is called, no key folder: two lines of text and the file."""
    receipt, key, other = tmp_path / "receipt.json", tmp_path / "keys.txt", tmp_path / "other"
    consent = (home / "consent").read_text()
    here("receipt", consent, "-o", str(receipt))
    key.write_text(here("key"))
    done = elsewhere(other, "verify", str(receipt), "--key", str(key))
    assert done.returncode == 0, done.stderr
    assert f"Verified {consent}: verified on" in done.stdout
    for said in (
        "signature",
        "agreed to",
        "consent:create",
        "assurance: attested",
        "Not proved",
        "has not been withdrawn",
    ):
        assert said in done.stdout
    assert list(other.iterdir()) == []

    changed = json.loads(receipt.read_text())
    changed["receipt"]["pii_processing"]["commercial"] = True
    receipt.write_text(json.dumps(changed))
    done = elsewhere(other, "verify", str(receipt), "--key", str(key))
    assert done.returncode == 1
    assert "NOT VERIFIED  signature: not signed by vivavoce.local/log/receipts" in done.stderr


def test_what_fails_says_why(home: Path, tmp_path: Path) -> None:
    unknown = CliRunner().invoke(app, ["receipt", "cons_1", "-o", str(tmp_path / "no.json")])
    assert unknown.exit_code == 1
    assert "no such consent" in unknown.output
    assert not (tmp_path / "no.json").exists()
    (tmp_path / "keys.txt").write_text("not a key")
    here("receipt", (home / "consent").read_text(), "-o", str(tmp_path / "receipt.json"))
    wrong = CliRunner().invoke(app, ["verify", str(tmp_path / "receipt.json"), "--key", str(tmp_path / "keys.txt")])
    assert wrong.exit_code == 1
    assert "two lines" in wrong.output
