"""What a detection tells, and whom: the verdict to everybody, whose output it is to its tenant and to nobody else."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from tests.api.conftest import CLIP, Installation
from tests.api.test_one_door import work
from tests.provenance.authority import credential

from vivavoce.ledger.ids import new_id
from vivavoce.ledger.lease import claim
from vivavoce.ledger.tables import Job, JobStatus, Output
from vivavoce.provenance import read_provenance
from vivavoce.release.outcome import finish

HEARD = {
    "verdict": "ours_modified", "reason": "played at 1.050 times its speed", "score": 30.5, "threshold": 3.0,
    "segments": [{"start_s": 0.0, "end_s": 3.1}], "speed": 1.05, "pitch": 1.05, "model_id": "m", "seconds": 3.3,
    "c2pa": {
        "state": "untrusted", "reason": "the signer is nobody whom we trust", "generated": True, "signer": "Somebody",
        "problems": ["signingCredential.untrusted"], "created_at": None, "names_the_mark": None,
    },
}  # fmt: skip
UNKNOWN = 77


class Tenant:
    """A customer with one output."""

    def __init__(self, installation: Installation, tenant: str) -> None:
        self.installation, self.tenant = installation, tenant
        self.headers = installation.key(tenant=tenant)
        voice = installation.voice(self.headers, installation.consent(self.headers))
        asked = {"voice": voice, "input": "hello", "response_format": "wav"}
        answer = installation.client.post(
            "/v1/audio/speech", headers=self.headers | {"Prefer": "respond-async"}, json=asked
        )
        self.job = answer.json()["id"]
        work(installation.services, self.job)
        with installation.services.database.read() as session:
            self.output = session.scalars(select(Output).where(Output.job_id == self.job)).one()

    @property
    def identity(self) -> int:
        assert self.output.mark_identity is not None
        return self.output.mark_identity

    def detect(self, resolution: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Ask for a detection that a worker ends with this; what is answered, by both routes that tell of it."""
        client, services = self.installation.client, self.installation.services
        keyed = self.headers | {"Idempotency-Key": new_id("test")}

        def ask(**more: str) -> Any:
            return client.post("/v1/watermark/detect", headers=keyed | more, files={"file": ("a.flac", CLIP)})

        job_id = ask(Prefer="respond-async").json()["id"]
        now = datetime.now(UTC)
        with services.database.write() as session:
            lease = claim(session, job_id, "test", now, timedelta(seconds=60))
            found = HEARD | {"resolution": resolution}
            assert finish(session, services.log, lease, job_id, JobStatus.SUCCEEDED, result=found, now=now)
        answers = ask(), client.get(f"/v1/jobs/{job_id}", headers=self.headers)
        assert [answer.status_code for answer in answers] == [200, 200]
        return [answers[0].json(), answers[1].json()["detection"]]


@pytest.fixture(scope="module")
def ours(shared: Installation) -> Tenant:
    return Tenant(shared, shared.tenant)


@pytest.fixture(scope="module")
def theirs(shared: Installation) -> Tenant:
    return Tenant(shared, shared.new_tenant())


def named(identity: int | None, *candidates: tuple[int, float], doubt: float = 1e-12) -> dict[str, Any]:
    told = [{"identity": one, "false_attribution": bound} for one, bound in candidates]
    return {"identity": identity, "false_attribution": doubt, "candidates": told, "searched": 1234}


def test_the_tenant_whose_output_it_is_hears_all(ours: Tenant) -> None:
    for view in ours.detect(named(ours.identity, (ours.identity, 1e-12))):
        assert {name: view[name] for name in HEARD} == HEARD
        assert view["resolution"] == {
            "output": ours.output.id, "job": ours.job, "voice": ours.output.voice_id,
            "consent": ours.output.consent_id, "receipt": f"/v1/outputs/{ours.output.id}/receipt",
            "false_attribution": 1e-12,
        }  # fmt: skip
        assert view["candidates"] == []
        receipt = ours.installation.client.get(view["resolution"]["receipt"], headers=ours.headers).json()
        assert (receipt["output"], receipt["mark_identity"]) == (ours.output.id, ours.identity)


def test_another_tenant_learns_that_it_is_ours_and_nothing_more(ours: Tenant, theirs: Tenant) -> None:
    """No id, no identity, no number of outputs; and not that an output of their own came near to it."""
    before = len(ours.installation.leaves())
    for view in theirs.detect(named(ours.identity, (ours.identity, 1e-12), (theirs.identity, 0.5))):
        assert (view["verdict"], view["resolution"], view["candidates"]) == ("ours_modified", None, [])
        told = json.dumps(view)
        for secret in (ours.output.id, str(ours.identity), ours.job, ours.output.consent_id, "1234"):
            assert secret not in told
    logged = json.dumps(ours.installation.leaves(before))
    assert str(ours.identity) not in logged
    assert ours.output.id not in logged


def test_where_nobody_is_named_ones_own_are_candidates_with_their_bounds(ours: Tenant, theirs: Tenant) -> None:
    """Never as a finding; others' are left out, and so is what any sound would agree with as well."""
    candidates = (theirs.identity, 1e-5), (ours.identity, 0.01), (UNKNOWN, 0.4)
    for view in ours.detect(named(None, *candidates, doubt=1e-5)):
        assert view["resolution"] is None
        assert view["candidates"] == [{"output": ours.output.id, "false_attribution": 0.01}]
    for view in ours.detect(named(None, (ours.identity, 1.0), doubt=1.0)):
        assert (view["resolution"], view["candidates"]) == (None, [])


def test_a_detection_from_before_manifests_were_read_says_so(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(HEARD, "c2pa")
    for view in ours.detect(None):
        assert view["c2pa"] is None


def test_a_receipt_brings_the_manifest_that_the_file_cannot_carry(shared: Installation) -> None:
    headers = shared.key(tenant=shared.tenant)
    voice = shared.voice(headers, shared.consent(headers))
    for kind, beside in (("pcm", True), ("wav", False)):
        asked = {"voice": voice, "input": "hello", "response_format": kind}
        job = shared.client.post("/v1/audio/speech", headers=headers | {"Prefer": "respond-async"}, json=asked).json()
        work(shared.services, job["id"], kind)  # type: ignore[arg-type]
        file = shared.client.get(f"/v1/jobs/{job['id']}/output", headers=headers)
        output = file.headers["x-vivavoce-output-id"]
        receipt = shared.client.get(f"/v1/outputs/{output}/receipt", headers=headers).json()
        manifest = base64.b64decode(receipt["manifest"]) if receipt["manifest"] else None
        assert (manifest is not None) == beside
        seen = read_provenance(file.content, credential().roots, manifest)
        assert (seen.state, seen.output_id) == ("valid", output)


def test_an_output_that_is_gone_is_nobodys(ours: Tenant) -> None:
    for view in ours.detect(named(UNKNOWN, (UNKNOWN, 1e-12))):
        assert (view["resolution"], view["candidates"]) == (None, [])


def test_without_a_reading_there_is_nobody_to_name(ours: Tenant) -> None:
    for view in ours.detect(None):
        assert (view["verdict"], view["resolution"], view["candidates"]) == ("ours_modified", None, [])
    with ours.installation.services.database.read() as session:
        detections = session.scalars(select(Job.id).where(Job.kind == "detection", Job.tenant_id == ours.tenant)).all()
    output = ours.installation.client.get(f"/v1/jobs/{detections[0]}/output", headers=ours.headers)
    assert (output.status_code, output.json()["code"]) == (404, "unknown_output")
