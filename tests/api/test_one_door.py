"""One door, at run time: every route is driven to its answer, and only what was released comes out as sound."""

from __future__ import annotations

import base64
import io
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import select
from tests.api.conftest import CLIP, RECORDING, Installation, Make
from tests.api.test_auth import routes
from tests.console.operators import PASSWORD, enter, log_in, post
from tests.provenance.authority import credential
from tests.release.desk import LABELS, SPOKEN, QuickMarker

from vivavoce.api import batching, flow, serving
from vivavoce.api.keys import find_key
from vivavoce.api.services import Services
from vivavoce.console import outputs
from vivavoce.ledger.accounts import Role
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import claim
from vivavoce.ledger.rights import Invitation, Review, TextReview
from vivavoce.ledger.tables import Consent, ConsentStatus, Job, JobKind, JobStatus, Output, Tenant
from vivavoce.policy import text_reviews
from vivavoce.policy.likeness import Heard, settle
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
AT_THE_CONSOLE = {("GET", "/console/outputs/{output_id}/sound")}
AWAY = {"/console/oidc", "/console/oidc/callback"}
"""Ways to a login provider: none is set up here; `console/test_openid.py` has one."""
LOOKED_INTO = {"/console/outputs/{output_id}/spectrogram", "/console/outputs/{output_id}/marks"}
"""What an operator sees of a released sound, without getting its bytes."""
ACCEPTED = {("POST", "/v1/consents"), ("POST", "/speak/{token}/recording"), ("POST", "/v1/batches")}
ENDED = {("DELETE", "/v1/jobs/{job_id}"), *(("POST", f"/v1/jobs/{{job_id}}/{word}") for word in ("cancel", "retry"))}
"""What a job that succeeded is not asked for any more."""
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


def accept(installation: Installation, invitation_id: str) -> None:
    """Verify what an invited speaker handed in, as a worker would."""
    with installation.services.database.write() as session:
        invitation = session.get_one(Invitation, invitation_id)
        session.get_one(Consent, invitation.consent_id).status = ConsentStatus.VERIFIED


def bodies_for(consent: str, voice: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What each route of the API that takes a body is sent, for a consent and its voice."""
    bodies: dict[tuple[str, str], dict[str, Any]] = {
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
    bodies["POST", "/v1/webhooks"] = {"json": {"url": "https://receiver.example/"}}
    spoken = {"type": "speech", "voice": voice, "input": "hello", "response_format": "wav"}
    bodies["POST", "/v1/batches"] = {"json": {"requests": [spoken]}}
    why, rights = {"json": {"reason": "for the test"}}, "/v1/consents/{consent_id}"
    bodies |= {("POST", f"{rights}/{word}"): why for word in ("suspend", "lift", "revoke")}
    bodies |= {("POST", f"{rights}/{word}"): {} for word in ("erase", "links")}
    speaker = "/subject/{token}"
    words = ("withdraw", "consents/{consent_id}/withdraw", "erase", "close")
    bodies |= {("POST", f"{speaker}/{word}"): {} for word in words}
    bodies["POST", "/v1/consents/{consent_id}/renew"] = {
        "data": {"language": "en"},
        "files": {"recording": ("a", RECORDING)},
    }
    wav = {"params": {"output_format": "wav"}}
    bodies |= {("POST", f"/v1/{path}"): wav | {"json": {"text": "hello"}} for path in SPOKEN_PATHS}
    bodies |= {("POST", f"/v1/{path}"): wav | {"files": {"audio": ("a", CLIP)}} for path in CONVERTED_PATHS}
    bodies |= {("POST", f"/v1/jobs/{{job_id}}/{word}"): {} for word in ("cancel", "retry")}
    return bodies


class Driver:
    """Asks every route for its best answer."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.headers = installation.key()
        enter(installation, Role.ADMIN)
        consent = installation.consent(self.headers)
        voice = installation.voice(self.headers, consent)
        self.bodies = bodies_for(consent, voice)
        assert self.ask("POST", "/v1/audio/speech").status_code == 200
        with installation.services.database.read() as session:
            output = session.scalars(select(Output)).one()
        report = {"data": {"report": self.ask("POST", "/detect").text}}
        self.bodies |= {("POST", f"/detect/report.{kind}"): report for kind in ("json", "pdf")}
        asked = {"json": {"name": "x", "language": "en"}}
        self.bodies |= {("POST", f"/v1/consents/{what}"): asked for what in ("challenges", "invitations")}
        self.bodies |= {("POST", f"/speak/{{token}}/{what}"): {} for what in ("challenge", "recording", "finish")}
        self.bodies["POST", "/v1/reviews/texts/{review_id}"] = {"json": {"decision": "approve", "reason": "for a test"}}
        self.bodies["POST", "/v1/reviews/{review_id}"] = {"json": {"decision": "approve", "reason": "for the test"}}
        self.ids = {
            "name": "style.css",
            "tenant_id": installation.tenant,
            "voice_id": voice,
            "consent_id": consent,
            "job_id": output.job_id,
            "output_id": output.id,
            "index": "0",
            "side": "asked",
            "batch_id": self.ask("POST", "/v1/batches").json()["id"],
            "webhook_id": self.ask("POST", "/v1/webhooks").json()["id"],
        }

    def ask(self, method: str, path: str) -> Any:
        """Send a route what it asks for; a POST that is not known here is an error, so that a new one is noticed."""
        if (method, path) == ("POST", "/v1/consents"):
            return self.answer_challenge()
        console = path.startswith("/console")
        needed = method == "POST" and not console
        body = self.bodies[method, path] if needed else self.bodies.get((method, path), {})
        if path.startswith(("/v1/consents/", "/subject/", "/console/consents/")):
            self._invite_somebody()
        if path.startswith("/speak/"):
            return self._ask_invited(method, path)
        if path == "/v1/reviews/texts/{review_id}":
            address = path.format(review_id=self._send_a_text_for_review())
            return self.installation.client.post(address, headers=self.headers, **body)
        if "{review_id}" in path:
            self.ids["review_id"] = self._ask_somebody(self.installation.consent(self.headers))
        if path.startswith("/console"):
            return self._ask_console(method, path)
        if path.endswith("/verification"):
            self.ids["consent_id"] = self.answer_challenge().json()["consent"]["id"]
        address = path.format(**self.ids) if "{" in path else path
        return self.installation.client.request(method, address, headers=self.headers, **body)

    def answer_challenge(self) -> Any:
        """Ask for a challenge and answer it."""
        drawn = self.ask("POST", "/v1/consents/challenges").json()
        files = {"recording": ("a", RECORDING)}
        data = {"challenge": drawn["id"]}
        return self.installation.client.post("/v1/consents", headers=self.headers, data=data, files=files)

    def _ask_invited(self, method: str, path: str) -> Any:
        """A new invitation each time, with a challenge drawn where the recording is handed in."""
        client, asked = self.installation.client, {"name": "x", "language": "en"}
        made = client.post("/v1/consents/invitations", headers=self.headers, json=asked).json()
        body: dict[str, Any] = {}
        if path.endswith(("/recording", "/finish")):
            drawn = client.post(f"{made['address']}/challenge").json()
            body = {"data": {"challenge": drawn["challenge"]}, "files": {"recording": ("a", RECORDING)}}
        if path.endswith("/finish"):
            client.post(f"{made['address']}/recording", **body)
            accept(self.installation, made["id"])
            body = {}
        return client.request(method, path.replace("/speak/{token}", made["address"]), **body)

    def _ask_console(self, method: str, path: str) -> Any:
        """Send what the form of a page would, logged in."""
        client, services = self.installation.client, self.installation.services
        if "vivavoce" not in client.cookies:
            log_in(self.installation, "admin")
        another = self.installation.key()["Authorization"].removeprefix("Bearer ")
        with services.database.read() as session:
            found = find_key(session, services.keyring, another)
        assert found is not None
        self.ids["key_id"] = found.id
        if path == "/console/reviews/texts/{review_id}":
            self.ids["review_id"] = self._send_a_text_for_review()
        address = path.format(**self.ids)
        if method == "GET":
            return client.get(address)
        fields = {
            "/console/login": {"name": "admin", "password": PASSWORD},
            "/console/keys": {"name": "x", "tenant": self.installation.tenant, "scopes": ["speech"]},
            "/console/tenants": {"name": "x"},
            "/console/tenants/{tenant_id}/rules": {"profile": "max"},
            "/console/reviews/texts/{review_id}": {"decision": "refuse", "reason": "for the test"},
            "/console/reviews/{review_id}": {"decision": "refuse", "reason": "for the test"},
        }
        reason = {"reason": "for the test"} if path.endswith(("/suspend", "/lift")) else {}
        return post(self.installation, address, follow_redirects=True, **fields.get(path, reason))

    def _ask_somebody(self, consent: str) -> str:
        """A voice that waits for a review; returns the review's id."""
        voice, services = self.installation.voice(self.headers, consent), self.installation.services
        one, other = np.eye(192, dtype=np.float32)[0], np.full(192, 0.5, dtype=np.float32)
        heard = Heard(one, [other], "test")
        with services.database.write() as session:
            settle(session, services.log, services.keyring, voice, heard, "worker:1", datetime.now(UTC))
            return session.scalars(select(Review.id).order_by(Review.id.desc())).first() or ""

    def _send_a_text_for_review(self) -> str:
        """A text that a profile leaves to an admin; returns the review's id."""
        services = self.installation.services
        with services.database.write() as session:
            tenant = session.scalars(select(Tenant)).first()
            assert tenant is not None
            text_reviews.ask(session, services.log, services.keyring, tenant.id, "x", (), "key", datetime.now(UTC))
            return session.scalars(select(TextReview.id)).one()

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
    for module in (serving, outputs):
        monkeypatch.setattr(module, "open_output", watched)
    for module in (flow, batching):
        monkeypatch.setattr(module, "ring", lambda _, job_id: work(installation.services, job_id))
    driver, sounding = Driver(installation), set()
    (first,) = released
    pieces = first.data[1000:1030], base64.b64encode(first.data[900:1200])[:40], first.data[1000:1030].hex().encode()
    asked = {(method, route.path) for route in routes(installation) for method in route.methods}
    asked -= {("GET", path) for path in AWAY}
    for method, path in sorted(asked, key=lambda route: (route[0] == "DELETE", route)):
        released.clear()
        answer = driver.ask(method, path)
        expected = 409 if (method, path) in ENDED else 202 if (method, path) in ACCEPTED else 200
        assert answer.status_code == expected, (method, path, answer.text[:200])
        kind = answer.headers["content-type"].partition(";")[0]
        if path in LOOKED_INTO:
            assert released and not any(piece in answer.content for piece in pieces), path
            continue
        if path == "/console/reviews/{review_id}/recordings/{side}":
            assert not released and answer.content == CLIP
            continue
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
    assert sounding == SOUNDING | AT_THE_CONSOLE


def test_nothing_but_our_routes_is_mounted(installation: Installation) -> None:
    """No folder of files, no socket, no page beside them: only FastAPI's own description."""
    app: Any = installation.client.app
    others = [route.path for route in iter_route_contexts(app.routes) if not isinstance(route.original_route, APIRoute)]
    assert others == ["/openapi.json"]
