"""`vivavoce detect` with the marks that ship: with an installation's keys it names outputs; without, it says less."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import typer
from tests.consent.world import SPEECH, World
from tests.release.desk import LABELS, made
from typer.testing import CliRunner

from vivavoce.detect import detect
from vivavoce.ledger.database import Database
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.tables import Output
from vivavoce.provenance import Origin, ProvenanceSettings, open_credential, sign
from vivavoce.release.door import prepare
from vivavoce.sound import Sound, decode, resample
from vivavoce.watermark import Marker
from vivavoce.watermark.weights import SHIPPED

SPOKEN = decode((SPEECH / "austen-0870.flac").read_bytes())


class House:
    """An installation in a folder, with one output of real speech, and files to be looked at."""

    def __init__(self, home: Path, template: Path) -> None:
        self.home, self.files = home, home / "files"
        self.files.mkdir(parents=True)
        shutil.copy(template, home / "ledger.sqlite3")
        database = Database(f"sqlite:///{home}/ledger.sqlite3")
        world = World(database, KeyRing.open(home / "keys", create=True))
        marker = Marker.load(secret=world.keyring.mark_key)
        marked = prepare(
            SPOKEN.samples, SPOKEN.sample_rate, "wav", new_id("out"),
            marker=marker, keyring=world.keyring, labels=LABELS,
            credential=open_credential(ProvenanceSettings(home=home)),
        )  # fmt: skip
        self.output: Output = made(world, world.voice(world.consent()), marked)
        database.close()
        self.add("marked.wav", marked.data)
        self.add("original[1].wav", SPOKEN)
        sound = decode(marked.data)
        rate = sound.sample_rate
        self.add("faster.wav", Sound(resample(sound.samples, round(1.05 * rate), rate), rate, 1))
        self.add("spliced.wav", Sound(np.concatenate([SPOKEN.samples, sound.samples]), rate, 1))
        self.add("text.wav", b"no sound")
        self.add("short.wav", Sound(sound.samples[:4000], rate, 1))
        self.add("silent.wav", Sound(np.zeros(5 * rate, np.float32), rate, 1))
        forger = Marker.load(secret=b"f" * 32)
        forged = forger.embed(SPOKEN.samples, SPOKEN.sample_rate, self.output.mark_identity or 0)
        self.add("forged.wav", Sound(forged, SPOKEN.sample_rate, 1))

    def add(self, name: str, content: bytes | Sound) -> None:
        if isinstance(content, bytes):
            (self.files / name).write_bytes(content)
        else:
            soundfile.write(self.files / name, 0.5 * content.samples, content.sample_rate)

    def run(self, *words: str | Path, home: Path | None = None) -> Any:
        app = typer.Typer()
        app.command()(detect)
        files = [str(self.files / word) if str(word).endswith(".wav") else str(word) for word in words]
        return CliRunner().invoke(app, files, env={"COLUMNS": "250", "VIVAVOCE_HOME": str(home or self.home)})

    def told(self, *words: str | Path, home: Path | None = None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*words, "--json", home=home).stdout)
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Iterator[House]:
    torch.set_num_threads(1)
    yield House(tmp_path_factory.mktemp("house"), _sqlite_template)


def test_a_mark_is_found_and_its_output_named(house: House) -> None:
    done = house.run("marked.wav", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["verdict"], found["reason"], found["candidates"]) == ("ours", "", [])
    assert found["score"] >= found["threshold"] and len(found["segments"]) == 1
    resolution = found["resolution"]
    output = house.output
    assert {name: resolution[name] for name in ("output", "job", "tenant", "voice", "consent")} == {
        "output": output.id, "job": output.job_id, "tenant": output.tenant_id, "voice": output.voice_id,
        "consent": output.consent_id,
    }  # fmt: skip
    assert (resolution["searched"], resolution["false_attribution"] <= 1e-6) == (1, True)
    assert (found["speed"], found["pitch"]) == (1.0, 1.0)
    assert "reading" not in found
    manifest = found["c2pa"]
    assert (manifest["state"], manifest["output_id"], manifest["names_the_mark"]) == ("valid", output.id, True)


def test_the_mark_gone_the_manifest_is_still_reported_and_the_other_way_round(house: House, tmp_path: Path) -> None:
    bare = house.told("spliced.wav")
    assert (bare["verdict"], bare["c2pa"]["state"]) == ("ours_modified", "none")
    credential = open_credential(ProvenanceSettings(home=house.home))
    origin = Origin(new_id("out"), datetime.now(UTC), "model", "attested", "0" * 64)
    unmarked = sign((house.files / "original[1].wav").read_bytes(), "audio/wav", origin, credential).data
    house.add("unmarked.wav", unmarked)
    done = house.run("unmarked.wav", "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["verdict"], found["resolution"]) == (0, "not_detected", None)
    assert (found["c2pa"]["state"], found["c2pa"]["output_id"]) == ("valid", origin.output_id)
    middle = len(unmarked) // 2
    house.add("changed.wav", unmarked[:middle] + bytes([unmarked[middle] ^ 1]) + unmarked[middle + 1 :])
    assert house.told("changed.wav")["c2pa"]["state"] == "invalid"


def test_a_manifest_that_is_not_that_of_the_mark_is_remarked_upon(house: House) -> None:
    credential = open_credential(ProvenanceSettings(home=house.home))
    origin = Origin(new_id("out"), datetime.now(UTC), "model", "attested", "0" * 64)
    marked = decode((house.files / "marked.wav").read_bytes())
    house.add("bare.wav", marked)
    signed = sign((house.files / "bare.wav").read_bytes(), "audio/wav", origin, credential).data
    house.add("other.wav", signed)
    assert house.told("other.wav")["c2pa"]["names_the_mark"] is False
    assert "not that of the mark" in house.run("other.wav").stdout


@pytest.mark.parametrize(("name", "reason"), [("faster.wav", "1.05"), ("spliced.wav", "marked in")])
def test_an_edited_copy_is_ours_modified_and_still_named(house: House, name: str, reason: str) -> None:
    found = house.told(name)
    assert found["verdict"] == "ours_modified" and reason in found["reason"]
    assert found["resolution"]["output"] == house.output.id
    if name == "spliced.wav":
        assert found["segments"][0]["start_s"] == pytest.approx(SPOKEN.seconds, abs=0.15)
    else:
        assert found["speed"] == pytest.approx(1.05, abs=0.003)


def test_no_mark_is_found_where_there_is_none(house: House) -> None:
    done = house.run("original[1].wav", "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["verdict"], found["resolution"]) == (1, "not_detected", None)
    assert found["score"] < found["threshold"]


def test_a_forged_mark_names_nobody(house: House) -> None:
    """Made with the public weights, another secret, and the identity of an output that exists."""
    found = house.told("forged.wav")
    assert found["verdict"] in ("not_detected", "inconclusive")
    assert (found["resolution"], found["candidates"]) == (None, [])
    assert found["verdict"] == "not_detected" or "anybody" in found["reason"]


def test_without_keys_the_public_mark_is_all_that_is_looked_for(house: House, tmp_path: Path) -> None:
    """And it is said so; no home, no key and no database is made by asking."""
    done = house.run("marked.wav", "--json", home=tmp_path / "nobody")
    found = json.loads(done.stdout)
    assert (found["resolution"], found["candidates"]) == (None, [])
    assert found["verdict"] in ("ours", "not_detected")  # by how loud the shipped weights' public mark is
    assert "only the public mark" in done.stderr
    assert not (tmp_path / "nobody").exists()


def test_with_keys_and_no_registry_the_mark_is_known_and_its_output_is_not(house: House, tmp_path: Path) -> None:
    shutil.copytree(house.home / "keys", tmp_path / "keys")
    done = house.run("marked.wav", "--json", home=tmp_path)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["verdict"], found["resolution"]) == (0, "ours", None)
    assert "no registry" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_broken_keys_or_registry_give_no_verdict(house: House, tmp_path: Path) -> None:
    """Half an installation is no reason to answer as if there were none."""
    shutil.copytree(house.home / "keys", tmp_path / "keys")
    Database(f"sqlite:///{tmp_path}/ledger.sqlite3").close()
    (tmp_path / "ledger.sqlite3").touch()
    for broken in ("ledger.sqlite3", "keys/mark_key.key"):
        done = house.run("marked.wav", home=tmp_path)
        assert done.exit_code == 2 and done.stdout == "", broken
        shutil.copy(house.home / "ledger.sqlite3", tmp_path)
        (tmp_path / "keys/mark_key.key").unlink(missing_ok=True)


def test_several_files_in_a_table(house: House) -> None:
    done = house.run("marked.wav", "original[1].wav", "faster.wav")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert any("marked.wav" in line and "ours" in line and house.output.id in line for line in lines)
    assert any("original[1].wav" in line and "not detected" in line for line in lines)
    assert any("faster.wav" in line and "ours modified" in line and "times its speed" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "verdict", "said"),
    [
        ("text.wav", "error", "not_audio"),
        ("short.wav", "inconclusive", "shorter"),
        ("silent.wav", "inconclusive", "silent"),
    ],
)
def test_what_cannot_be_told_is_no_verdict(house: House, name: str, verdict: str, said: str) -> None:
    done = house.run(name, "marked.wav")
    assert done.exit_code == 2 and said in done.stdout and verdict in done.stdout
    found = house.told(name)
    assert found["verdict"] == verdict and said in found.get("reason", "") + found.get("error", "")


def test_broken_weights_give_no_verdict(house: House, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "weights")
    (tmp_path / "weights" / "detector.safetensors").write_bytes(b"broken")
    for folder in (tmp_path / "weights", tmp_path):
        done = house.run("marked.wav", "--weights", folder)
        assert done.exit_code == 2 and done.stdout == ""
    assert house.run("/no/such/file.wav").exit_code == 2
