"""`vivavoce speak` and `vivavoce convert` against a real service and its worker."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from tests.api.conftest import CLIP, RECORDING
from tests.api.live import Service
from typer.testing import CliRunner, Result

from vivavoce.cli.speak import convert, speak
from vivavoce.sound import decode


@pytest.fixture(scope="module")
def voice(service: Service) -> str:
    with service.client() as client:
        consent = client.post(
            "/v1/audio/voice_consents",
            data={"name": "Jane Reader", "language": "en"},
            files={"recording": ("a", RECORDING)},
        ).json()
        founded = client.post(
            "/v1/audio/voices",
            data={"name": "Jane", "consent": consent["id"]},
            files={"audio_sample": ("a", CLIP)},
        )
        return str(founded.json()["id"])


def run(service: Service, *words: str, key: str | None = None, url: str | None = None) -> Result:
    app = typer.Typer()
    app.command()(speak)
    app.command()(convert)
    settings = {"VIVAVOCE_API_KEY": key or service.key, "VIVAVOCE_URL": url or service.address}
    return CliRunner().invoke(app, [*words], env=settings)


def test_a_text_and_a_recording_are_said(service: Service, voice: str, tmp_path: Path) -> None:
    said, turned, heard = tmp_path / "out.wav", tmp_path / "out.mp3", tmp_path / "in.flac"
    heard.write_bytes(CLIP)
    done = run(service, "speak", "It was a fine day.", "--voice", voice, "-o", str(said))
    assert done.exit_code == 0 and "marked and logged as out_" in done.output, done.output
    done = run(service, "convert", str(heard), "--voice", voice, "-o", str(turned))
    assert done.exit_code == 0, done.output
    for file in (said, turned):
        assert len(decode(file.read_bytes()).samples) > 0
        with service.client() as client:
            found = client.post("/v1/watermark/detect", files={"file": (file.name, file.read_bytes())}).json()
        assert found["verdict"] == "ours"


@pytest.mark.parametrize(
    ("words", "settings", "why"),
    [
        (("--voice", "voice_x", "-o", "a.wav"), {}, "unknown_voice"),
        (("--voice", "voice_x", "-o", "a.exe"), {}, "must end in one of"),
        (("--voice", "voice_x", "-o", "a.wav"), {"key": "vv_no"}, "invalid_api_key"),
        (("--voice", "voice_x", "-o", "a.wav"), {"url": "http://127.0.0.1:9"}, "no service answers"),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_no_file(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...],
    settings: dict[str, str], why: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = run(service, "speak", "Hello.", *words, **settings)
    assert done.exit_code in (1, 2) and why in " ".join(done.output.split()), done.output
    assert list(tmp_path.iterdir()) == []
