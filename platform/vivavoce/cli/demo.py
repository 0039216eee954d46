"""`vivavoce demo`: the whole path on real speech, against a real service on this machine."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from rich.console import Console

from vivavoce.cli.edited import faster_mp3

START_SECONDS = 120
"""How long a service may take to start: the worker loads model and mark first."""
REQUEST_SECONDS = 240
EDIT_SPEED, EDIT_BITS_PER_SECOND = 1.05, 32_000
TEXT = "He might even have been made amiable himself."
WEAKNESS = (
    "The voice model in this package is small and was trained for a few hours on a CPU, so that the path is real. "
    "Do not expect intelligible words; its model card says what it is (model/vivavoce/model/weights/mini)."
)

console = Console(highlight=False, soft_wrap=True)


class DemoFailed(Exception):
    """A promise did not hold, or the service did not start."""


def demo(
    speech: Annotated[Path, typer.Option(help="Folder of real speech with a manifest.jsonl.")] = Path(
        "tests/data/speech"
    ),
    output: Annotated[Path, typer.Option(help="Folder for the sounds that are made.")] = Path("demo-output"),
) -> None:
    """Show the whole path on real speech: consent, voice, speech, conversion, marks, log, withdrawal."""
    if not (speech / "manifest.jsonl").is_file():
        console.print(f"[red]No speech at {speech}:[/] run this from the repository, or name a folder by --speech.")
        raise typer.Exit(2)
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="vivavoce-demo-") as home, running_service(Path(home)) as client:
            Walk(client, Path(home), speech, output).run()
    except DemoFailed as failure:
        console.print(f"\n[bold red]The demo failed:[/] {failure}")
        raise typer.Exit(1) from failure
    console.print(f"\nDone in {time.monotonic() - started:.0f} s. The sounds and the log are in [bold]{output}/[/].")


@contextmanager
def running_service(home: Path) -> Iterator[httpx2.Client]:
    """Start `vivavoce serve` in an empty home on a free port; yield a client that holds its first key."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {name: value for name, value in environ.items() if not name.startswith("VIVAVOCE_")}
    transcript = home / "serve.log"
    with transcript.open("wb") as sink:
        service = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "vivavoce.cli", "serve", "--port", str(port)],
            env=settings | {"VIVAVOCE_HOME": str(home)},
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        try:
            key = _wait_until_ready(service, port, transcript)
            with httpx2.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {key}"},
                timeout=REQUEST_SECONDS,
            ) as client:
                yield client
        finally:
            service.terminate()
            service.wait(timeout=60)


def _wait_until_ready(service: subprocess.Popen[bytes], port: int, transcript: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    with console.status("Starting the service: database, log, keys, worker with model and mark"):
        while time.monotonic() < deadline and service.poll() is None:
            key = re.search(r"vv_[0-9A-Za-z_]+", transcript.read_text(errors="replace"))
            try:
                if key and httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200:
                    return key.group()
            except httpx2.TransportError:
                pass
            time.sleep(0.25)
    raise DemoFailed(f"the service did not start:\n{transcript.read_text(errors='replace')[-3000:]}")


class Walk:
    """The steps in their order. Each one checks what it claims, and stops the demo if it does not hold."""

    def __init__(self, client: httpx2.Client, home: Path, speech: Path, output: Path) -> None:
        self.client = client
        self.home = home
        self.speech = speech
        self.output = output
        self.jobs: list[str] = []
        self.outputs: dict[Path, str] = {}
        rows = (speech / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        self.clips: list[dict[str, Any]] = [json.loads(row) for row in rows]

    def run(self) -> None:
        """Walk the whole path."""
        speaker = [clip for clip in self.clips if clip["speaker"] == self.clips[0]["speaker"]]
        stranger = next(clip for clip in self.clips if clip["speaker"] != self.clips[0]["speaker"])
        consent = self.give_consent(speaker[0])
        voice = self.found_voice(consent, speaker[1:3])
        console.print(f"[yellow]![/] {WEAKNESS}")
        made = [self.speak(voice, "wav"), self.speak(voice, "mp3"), self.convert(voice, stranger)]
        self.find_marks([*made, *(self.speech / clip["file"] for clip in (speaker[0], stranger))])
        self.find_in_edited(made[0])
        self.verify_log("the log as it stands", self.export("log.jsonl"))
        self.withdraw(consent, voice)
        bundle = self.export("log-after-withdrawal.jsonl")
        self.verify_log("the log after withdrawal", bundle)
        self.tamper(bundle)

    def give_consent(self, clip: dict[str, Any]) -> str:
        """A speaker gives consent by voice."""
        answer = self._post(
            "/v1/audio/voice_consents",
            data={"name": "Reader of Austen", "language": "en"},
            files={"recording": self._file(clip)},
        )
        _say(
            "Consent",
            f"{answer['id']}, {clip['seconds']} s of speech; assurance [bold]{answer['assurance']}[/] "
            "(the tenant says who spoke; nobody has verified it)",
        )
        return str(answer["id"])

    def found_voice(self, consent: str, clips: list[dict[str, Any]]) -> str:
        """A voice is founded on reference clips, bound to the consent."""
        answer = self._post(
            "/v1/audio/voices",
            data={"name": "Austen", "consent": consent, "transcript": clips[-1]["transcript"]},
            files={"audio_sample": self._file(clips[-1])},
        )
        _say("Voice", f"{answer['id']} on {clips[-1]['seconds']} s of reference speech")
        return str(answer["id"])

    def speak(self, voice: str, audio_format: str) -> Path:
        """Speech in the voice, in one format."""
        body = {"model": "vivavoce", "voice": voice, "input": TEXT, "response_format": audio_format, "seed": 1}
        began = time.monotonic()
        answer = self.client.post("/v1/audio/speech", json=body)
        return self._keep(answer, f"speech.{audio_format}", time.monotonic() - began)

    def convert(self, voice: str, clip: dict[str, Any]) -> Path:
        """Another speaker's words, converted to the voice."""
        began = time.monotonic()
        answer = self.client.post(
            f"/v1/speech-to-speech/{voice}", params={"output_format": "wav"}, files={"audio": self._file(clip)}
        )
        return self._keep(answer, "conversion.wav", time.monotonic() - began)

    def find_marks(self, paths: list[Path]) -> None:
        """Detection names the output of all that was made, and finds nothing in real speech."""
        for path in paths:
            answer = self._post("/v1/watermark/detect", files={"file": (path.name, path.read_bytes())})
            expected = "ours" if path in self.outputs else "not_detected"
            named = (answer["resolution"] or {}).get("output")
            if (answer["verdict"], named) != (expected, self.outputs.get(path)):
                raise DemoFailed(f"{path.name}: verdict {answer['verdict']}, score {answer['score']:.1f}, {named}")
            _say("Detection", f"{path.name}: {_finding(answer)}")

    def find_in_edited(self, path: Path) -> None:
        """An edited copy is still ours, known to be edited, and named; asked of the operator's own command line."""
        edited = self.output / "edited.mp3"
        edited.write_bytes(faster_mp3(path.read_bytes(), EDIT_SPEED, EDIT_BITS_PER_SECOND))
        answer = json.loads(self._command("detect", str(edited), "--json"))
        named = (answer["resolution"] or {}).get("output")
        if (answer["verdict"], named) != ("ours_modified", self.outputs[path]):
            raise DemoFailed(f"{edited.name}: verdict {answer['verdict']}, score {answer['score']:.1f}, {named}")
        _say(
            "Edited",
            f"{path.name}, {EDIT_SPEED} times as fast, as MP3 of {EDIT_BITS_PER_SECOND // 1000} kbit/s: "
            f"{_finding(answer)}, of {answer['resolution']['searched']} that are registered; {answer['reason']}",
        )

    def export(self, name: str) -> Path:
        """Export the log into one file."""
        bundle = self.output / name
        bundle.unlink(missing_ok=True)
        self._command("audit", "export", "-o", str(bundle))
        return bundle

    def verify_log(self, what: str, bundle: Path) -> None:
        """Verify an exported log offline."""
        done = self._command("audit", "verify", str(bundle))
        _say("Log", f"{what}: {done.splitlines()[0]}, checked offline")

    def withdraw(self, consent: str, voice: str) -> None:
        """The consent is withdrawn; the next request is refused with the reason."""
        answer = self.client.delete(f"/v1/audio/voice_consents/{consent}")
        if answer.status_code != 200:
            raise DemoFailed(f"withdrawal was answered {answer.status_code}: {answer.text}")
        refused = self.client.post("/v1/audio/speech", json={"model": "vivavoce", "voice": voice, "input": TEXT})
        error = refused.json().get("error", {})
        if refused.status_code != 403 or error.get("code") != "consent_revoked":
            raise DemoFailed(f"after withdrawal a request was answered {refused.status_code}: {refused.text[:300]}")
        _say("Withdrawn", f"the next request is refused: {refused.status_code} {error['code']}: {error['message']}")
        withheld = self.client.get(f"/v1/jobs/{self.jobs[0]}/output")
        if withheld.status_code == 200:
            raise DemoFailed("a sound was still handed out after the withdrawal")
        _say("Withheld", f"what was made before stays here: {withheld.status_code} {withheld.json()['code']}")

    def tamper(self, bundle: Path) -> None:
        """A tampered copy of the log is found out, loudly."""
        forged = self.output / "log-tampered.jsonl"
        genuine = bundle.read_bytes()
        if b"consent:revoke" not in genuine:
            raise DemoFailed("the log does not know of the withdrawal")
        forged.write_bytes(genuine.replace(b"consent:revoke", b"consent:update", 1))
        done = self._run("audit", "verify", str(forged))
        if done.returncode == 0:
            raise DemoFailed("a tampered log was believed")
        _say("Tampered", f"exit {done.returncode}: {' '.join((done.stdout + done.stderr).split())}")

    def _keep(self, answer: httpx2.Response, name: str, seconds: float) -> Path:
        if answer.status_code != 200:
            raise DemoFailed(f"{name}: {answer.status_code} {answer.text[:500]}")
        path = self.output / name
        path.write_bytes(answer.content)
        self.jobs.append(answer.headers["X-Vivavoce-Job-Id"])
        self.outputs[path] = answer.headers["X-Vivavoce-Output-Id"]
        _say(
            "Released",
            f"{path}, {len(answer.content) / 1000:.0f} kB after {seconds:.1f} s, "
            f"output {answer.headers['X-Vivavoce-Output-Id']}, assurance {answer.headers['X-Vivavoce-Assurance']}",
        )
        return path

    def _post(self, route: str, **parts: Any) -> dict[str, Any]:  # noqa: ANN401 - httpx's own parameters
        answer = self.client.post(route, **parts)
        if answer.status_code >= 300:
            raise DemoFailed(f"{route}: {answer.status_code} {answer.text[:500]}")
        body: dict[str, Any] = answer.json()
        return body

    def _file(self, clip: dict[str, Any]) -> tuple[str, bytes]:
        return clip["file"], (self.speech / clip["file"]).read_bytes()

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vivavoce.cli", *words]
        settings = environ | {"VIVAVOCE_HOME": str(self.home), "TERM": "dumb"}
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)  # noqa: S603

    def _command(self, *words: str) -> str:
        done = self._run(*words)
        if done.returncode != 0:
            raise DemoFailed(f"`vivavoce {' '.join(words)}` ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


def _finding(answer: dict[str, Any]) -> str:
    found = f"[bold]{answer['verdict']}[/], score {answer['score']:.1f} (found from {answer['threshold']:.1f})"
    if answer["resolution"] is None:
        return found
    doubt = answer["resolution"]["false_attribution"]
    return f"{found}, made as {answer['resolution']['output']} (that this is wrong: probability below {doubt:.0e})"


def _say(step: str, proof: str) -> None:
    console.print(f"[green]✓[/] [bold]{step:<10}[/] {proof}")
