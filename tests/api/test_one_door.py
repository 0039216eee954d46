"""One door, at run time: every route is driven to its answer, and only what was released comes out as sound."""

from __future__ import annotations

import base64
import io
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import select
from tests.api.conftest import CLIP, RECORDING, Installation, Make
from tests.api.test_auth import routes
from tests.provenance.authority import credential
from tests.release.desk import LABELS, SPOKEN, QuickMarker

from vivavoce.api import flow, serving
from vivavoce.api.services import Services
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import claim
from vivavoce.ledger.tables import Job, JobKind, JobStatus, Output
from vivavoce.release import door
from vivavoce.release.outcome import finish
from vivavoce.sound import SPEECH_RATE, Format, resample

SPOKEN_PATHS = ("text-to-speech/{voice_id}", "text-to-speech/{voice_id}/stream")
CONVERTED_PATHS = tuple(
    f"{name}/{{voice_id}}{end}" for name in ("speech-to-speech", "voice-changer") for end in ("", "/stream")
)
SOUNDING = {
    ("POST", "/v1/audio/speech"),
    *(("POST", f"/v1/{path}") for path in (*SPOKEN_PATHS, *CONVERTED_PATHS)),
    ("GET", "/v1/jobs/{job_id}/output"),
}
FOUND = {
    "verdict": "not_detected", "reason": "", "score": 0.1, "threshold": 3.0, "segments": [], "speed": 1.0,
    "pitch": 1.0, "model_id": "m", "seconds": 3.0, "resolution": None,
}  # fmt: skip


def work(services: Services, job_id: str, format: Format = "wav") -> None:  # noqa: A002
    """Do a job at once, with a quick mark, through the real door."""
    now = datetime.now(UTC)
    with services.database.write() as session:
        lease = claim(session, job_id, "test", now, timedelta(seconds=60))
        assert lease is not None
        job = session.get_one(Job, job_id)
        if job.kind == JobKind.DETECTION:
            assert finish(session, services.log, lease, job_id, JobStatus.SUCCEEDED, result=FOUND, now=now)
            return
    marked = door.prepare(
        resample(SPOKEN.samples, SPOKEN.sample_rate, SPEECH_RATE),
        SPEECH_RATE,
        format,
        new_id("out"),
        marker=QuickMarker(),
        keyring=services.keyring,
        credential=credential(),
        labels=LABELS,
    )
    with services.database.read() as session:
        deposited = door.deposit(session, services.store, services.keyring, lease, marked)
    with services.database.write() as session:
        assert door.commit(session, services.log, services.keyring, deposited, now) is not None


class Driver:
    """Asks every route for its best answer."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.headers = installation.key()
        consent = installation.consent(self.headers)
        voice = installation.voice(self.headers, consent)
        self.bodies: dict[tuple[str, str], dict[str, Any]] = {
            ("POST", "/v1/audio/voice_consents"): {
                "data": {"name": "x", "language": "en"},
                "files": {"recording": ("a", RECORDING)},
            },
            ("POST", "/v1/audio/voice_consents/{consent_id}"): {"json": {"name": "y"}},
            ("POST", "/v1/audio/voices"): {
                "data": {"name": "x", "consent": consent},
                "files": {"audio_sample": ("a", CLIP)},
            },
            ("POST", "/v1/audio/speech"): {"json": {"voice": voice, "input": "hello", "response_format": "wav"}},
            ("POST", "/v1/watermark/detect"): {"files": {"file": ("a", CLIP)}},
            ("POST", "/detect"): {"files": {"file": ("a", CLIP)}},
            ("GET", "/v1/audit/proofs/inclusion"): {"params": {"index": 0, "size": 1}},
            ("GET", "/v1/audit/proofs/consistency"): {"params": {"old": 0, "new": 1}},
        }
        why, rights = {"json": {"reason": "for the test"}}, "/v1/consents/{consent_id}"
        self.bodies |= {("POST", f"{rights}/{word}"): why for word in ("suspend", "lift", "revoke")}
        self.bodies |= {("POST", f"{rights}/{word}"): {} for word in ("erase", "links")}
        speaker = "/subject/{token}"
        words = ("withdraw", "consents/{consent_id}/withdraw", "erase", "close")
        self.bodies |= {("POST", f"{speaker}/{word}"): {} for word in words}
        self.bodies["POST", "/v1/consents/{consent_id}/renew"] = {
            "data": {"language": "en"},
            "files": {"recording": ("a", RECORDING)},
        }
        wav = {"params": {"output_format": "wav"}}
        self.bodies |= {("POST", f"/v1/{path}"): wav | {"json": {"text": "hello"}} for path in SPOKEN_PATHS}
        self.bodies |= {("POST", f"/v1/{path}"): wav | {"files": {"audio": ("a", CLIP)}} for path in CONVERTED_PATHS}
        assert self.ask("POST", "/v1/audio/speech").status_code == 200
        with installation.services.database.read() as session:
            output = session.scalars(select(Output)).one()
        report = {"data": {"report": self.ask("POST", "/detect").text}}
        self.bodies |= {("POST", f"/detect/report.{kind}"): report for kind in ("json", "pdf")}
        self.ids = {
            "name": "style.css",
            "voice_id": voice,
            "consent_id": consent,
            "job_id": output.job_id,
            "output_id": output.id,
        }

    def ask(self, method: str, path: str) -> Any:
        """Send a route what it asks for; a POST that is not known here is an error, so that a new one is noticed."""
        body = self.bodies[method, path] if method == "POST" else self.bodies.get((method, path), {})
        if path.startswith(("/v1/consents/", "/subject/")):
            self._invite_somebody()
        address = path.format(**self.ids) if "{" in path else path
        return self.installation.client.request(method, address, headers=self.headers, **body)

    def _invite_somebody(self) -> None:
        """Somebody else for each route that may end a consent."""
        consent = self.installation.consent(self.headers)
        links = [
            self.installation.client.post(f"/v1/consents/{consent}/links", headers=self.headers).json()
            for _ in range(2)
        ]
        token = links[0]["address"].rpartition("/")[2]
        self.ids |= {"consent_id": consent, "token": token, "link_id": links[1]["id"]}


def test_only_what_was_released_comes_out_of_any_route(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[door.Released] = []

    def watched(*arguments: Any, **more: Any) -> door.Released | door.Withheld:
        handed = door.open_output(*arguments, **more)
        assert isinstance(handed, door.Released)
        released.append(handed)
        return handed

    installation = make(wait_seconds=5)
    monkeypatch.setattr(serving, "open_output", watched)
    monkeypatch.setattr(flow, "ring", lambda _, job_id: work(installation.services, job_id))
    driver, sounding = Driver(installation), set()
    (first,) = released
    pieces = first.data[1000:1030], base64.b64encode(first.data[900:1200])[:40], first.data[1000:1030].hex().encode()
    asked = {(method, route.path) for route in routes(installation) for method in route.methods}
    for method, path in sorted(asked, key=lambda route: (route[0] == "DELETE", route)):
        released.clear()
        answer = driver.ask(method, path)
        expected = 409 if (method, path) == ("DELETE", "/v1/jobs/{job_id}") else 200
        assert answer.status_code == expected, (method, path, answer.text[:200])
        kind = answer.headers["content-type"].partition(";")[0]
        if kind in ("application/json", "application/problem+json", "application/pdf") or kind.startswith("text/"):
            assert not released and not any(piece in answer.content for piece in pieces), path
            continue
        if path == "/subject/{token}/export":
            file = zipfile.ZipFile(io.BytesIO(answer.content))
            assert not released and not any(piece in file.read(name) for piece in pieces for name in file.namelist())
            continue
        (handed,) = released
        assert (answer.content, kind) == (handed.data, handed.media_type)
        sounding.add((method, path))
    assert sounding == SOUNDING


def test_nothing_but_our_routes_is_mounted(installation: Installation) -> None:
    """No folder of files, no socket, no page beside them: only FastAPI's own description."""
    app: Any = installation.client.app
    others = [route.path for route in iter_route_contexts(app.routes) if not isinstance(route.original_route, APIRoute)]
    assert others == ["/openapi.json"]
