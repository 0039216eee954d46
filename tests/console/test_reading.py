"""What the console shows is true and logged, under the reader's name, before it is shown."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select
from tests.api.conftest import RECORDING, Installation, Make
from tests.api.conftest import make as make
from tests.api.test_auth import routes
from tests.api.test_one_door import Driver, work
from tests.console.operators import enter, log_in, post
from tests.console.test_accounts import ENTRANCE

from vivavoce.api import batching, flow
from vivavoce.api.services import now
from vivavoce.audit.proofs import verify_proof
from vivavoce.audit.tags import Tag
from vivavoce.console.spectrogram import HEIGHT, WIDTH, spectrogram_png
from vivavoce.ledger.accounts import Role
from vivavoce.ledger.rights import Review, TextReview
from vivavoce.ledger.tables import Output, Tenant
from vivavoce.policy import text_reviews, verification
from vivavoce.policy.likeness import Heard, settle
from vivavoce.policy.text_judging import judge
from vivavoce.verification.splices import Unity


@pytest.fixture
def house(make: Make) -> Installation:
    opened = make()
    enter(opened, Role.ADMIN)
    log_in(opened, "admin")
    return opened


def test_every_page_and_deed_is_a_leaf(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A route of the console that is added tomorrow and logs nothing fails here."""
    installation = make(wait_seconds=5)
    for module in (flow, batching):
        monkeypatch.setattr(module, "ring", lambda _, job_id: work(installation.services, job_id))
    driver = Driver(installation)
    driver.ask("GET", "/console")
    found = [(method, route.path) for route in routes(installation) for method in route.methods]
    for method, path in sorted(one for one in found if one[1].startswith("/console")):
        if path in ENTRANCE:
            continue
        before = len(installation.leaves())
        assert driver.ask(method, path).status_code == 200, path
        # One for the page from which the test takes its form's token.
        expected = 1 if method == "GET" else 2
        done = [leaf for leaf in installation.leaves(before) if leaf["actor"] == "operator:admin"]
        done = [leaf for leaf in done if leaf["tag"] != "login:create"]
        lifted = path == "/console/consents/{consent_id}/lift"  # nothing to lift is nothing done
        assert len(done) >= expected - lifted or (lifted and done), (method, path)


def search(house: Installation, **asked: Any) -> str:
    return str(house.client.get("/console/audit", params=asked).text)


def test_what_cannot_be_searched_is_said(house: Installation) -> None:
    for asked, said in (
        ({"person": "Jane Austen"}, "A person is named by"),
        ({"person": "ten_00000000000000000000000000"}, "A person is named by"),
        ({"key": "<script>"}, "Who did it is"),
        ({"output": "out_00000000000000000000000000"}, "no such output"),
        ({"event": "job:dance"}, "no such event"),
        ({"since": "yesterday"}, "A time reads like"),
        ({"before": "x"}, "not the place"),
        ({"before": "9" * 40}, "not the place"),
    ):
        answer = house.client.get("/console/audit", params=asked)
        assert answer.status_code == 422 and said in answer.text, asked
        assert "<script>" not in answer.text
    assert "Jane Austen" not in json.dumps(house.leaves())


def test_a_person_is_found_under_all_their_names(house: Installation) -> None:
    headers = house.key()
    consent, other = house.consent(headers), house.consent(headers)
    voice = house.voice(headers, consent)
    link = house.client.post(f"/v1/consents/{consent}/links", headers=headers).json()
    house.client.get(link["address"], headers={"Accept": "text/html"})
    subject = next(leaf["refs"]["subject"] for leaf in house.leaves() if leaf["refs"].get("consent") == consent)
    for name in (subject, consent):
        found = search(house, person=name)
        assert voice in found and f"subject:{link['id']}" in found and other not in found


def test_an_export_is_logged_and_can_be_checked(house: Installation) -> None:
    house.consent(house.key())
    before = len(house.leaves())
    lines = house.client.get("/console/audit/export", params={"event": "consent:create"}).text.splitlines()
    assert house.tags(before) == ["log:export"]
    (entry,) = [json.loads(line) for line in lines]
    assert entry["entry"]["tag"] == "consent:create"
    assert hashlib.sha256(b"\0" + base64.b64decode(entry["data"])).hexdigest() == entry["hash"]


def test_a_proof_file_is_a_proof(house: Installation) -> None:
    text = house.client.get("/console/audit/1/proof").text
    proven = verify_proof(text, house.services.log.verifier)
    assert proven.index == 1 and proven.entry == house.leaves()[1]
    assert house.client.get("/console/audit/999999").status_code == 404


@pytest.mark.parametrize("altered", ["replace(data, 'operator', 'operetta')", "'no entry at all'"])
def test_an_altered_entry_is_not_verified(house: Installation, altered: str) -> None:
    assert "NOT VERIFIED" not in post(house, "/console/audit/1/verify").text
    with house.services.database.write() as session:
        connection = session.connection()
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
        for name in names:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(f'UPDATE audit_leaf SET data = CAST({altered} AS BLOB) WHERE "index" = 1')
    shown = post(house, "/console/audit/1/verify").text
    assert "NOT VERIFIED" in shown and "it was altered" in shown
    assert house.client.get("/console/audit").status_code == 200


def test_deeds_stand_under_the_operators_name(house: Installation) -> None:
    consent = house.consent(house.key())
    before = len(house.leaves())
    assert post(house, f"/console/consents/{consent}/suspend", reason="a word").status_code == 303
    made = post(house, "/console/keys", name="robot", tenant=house.tenant, scopes=["speech"])
    assert made.status_code == 200 and "vv_" in made.text
    assert post(house, "/console/tenants", name="Theatre").status_code == 303
    with house.services.database.read() as session:
        theatre = session.scalars(select(Tenant).where(Tenant.name == "Theatre")).one().id
    rules = {"profile": "eu", "least_assurance": "challenge"}
    assert post(house, f"/console/tenants/{theatre}/rules", **rules).status_code == 303
    leaves = [leaf for leaf in house.leaves(before) if leaf["tag"] != Tag.LEDGER_READ]
    assert {leaf["actor"] for leaf in leaves} == {"operator:admin"}
    assert [leaf["tag"] for leaf in leaves] == ["consent:suspend", "key:create", "tenant:create", "tenant:update"]
    assert (leaves[3]["tenant"], leaves[3]["facts"]) == (theatre, rules)
    with house.services.database.read() as session:
        tenant = session.get_one(Tenant, theatre)
        assert {"profile": tenant.profile, "least_assurance": tenant.least_assurance} == rules
    assert leaves[0]["facts"] == {"by": "admin"}
    assert "a word" not in json.dumps(leaves)
    for path, fields in (
        (f"/console/consents/{consent}/suspend", {"reason": " "}),
        ("/console/keys", {"name": "x", "tenant": "ten_nobody", "scopes": ["speech"]}),
        ("/console/keys", {"name": "x", "tenant": house.tenant, "scopes": ["everything"]}),
        ("/console/keys/key_nobody/revoke", {}),
        ("/console/tenants", {"name": " "}),
        ("/console/tenants/ten_nobody/rules", {"profile": "eu"}),
        (f"/console/tenants/{house.tenant}/rules", {"profile": "none"}),
    ):
        assert post(house, path, **fields).status_code in (404, 422), path


def test_what_was_measured_stands_beside_what_was_asked(house: Installation) -> None:
    headers = house.key()
    drawn = house.client.post(
        "/v1/consents/challenges", headers=headers, json={"name": "Jane Reader", "language": "en"}
    )
    given = {"data": {"challenge": drawn.json()["id"]}, "files": {"recording": ("a", RECORDING)}}
    consent = house.client.post("/v1/consents", headers=headers, **given).json()["consent"]["id"]
    assert "A worker has still to listen" in house.client.get(f"/console/consents/{consent}").text
    with house.services.database.write() as session:
        shown = verification.shown_text(session, house.services.keyring, consent)
        heard = verification.Measured(12.0, -47.5, 0.0, 25.0, False, shown.text, Unity(), {"words": "a test"})
        judged = verification.judge(heard, shown)
        verification.settle(session, house.services.keyring, consent, heard, judged, now())
    page = house.client.get(f"/console/consents/{consent}").text
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
    assert ["Level,", "dB", "of", "full", "scale", "-47.5", "at", "least", "-40", "no"] in rows
    assert ["Signal", "to", "noise,", "dB", "25", "at", "least", "10", "yes"] in rows
    assert "too quiet" in page and "Jane Reader" in page
    house.client.post(f"/v1/consents/{consent}/erase", headers=headers)
    erased = house.client.get(f"/console/consents/{consent}").text
    assert "Jane Reader" not in erased and "An erased speaker" in erased


def test_a_person_learns_which_operators_looked(make: Make) -> None:
    """The export of a speaker names who opened their consent, and who heard them."""
    installation = make()
    headers = installation.key()
    enter(installation, Role.REVIEWER)
    log_in(installation, "reviewer")
    consent = installation.consent(headers)
    voice = installation.voice(headers, consent)
    with installation.services.database.write() as session:
        one, other = np.eye(192, dtype=np.float32)[0], np.full(192, 0.5, dtype=np.float32)
        services = installation.services
        settle(session, services.log, services.keyring, voice, Heard(one, [other], "test"), "worker:1", now())
        review = session.scalars(select(Review.id)).one()
    for path in (f"consents/{consent}", f"reviews/{review}/recordings/asked", f"reviews/{review}/recordings/compared"):
        assert installation.client.get(f"/console/{path}").status_code == 200
    link = installation.client.post(f"/v1/consents/{consent}/links", headers=headers).json()["address"]
    file = zipfile.ZipFile(io.BytesIO(installation.client.get(f"{link}/export").content))
    seen = [leaf["tag"] for leaf in json.loads(file.read("subject.json"))["log"] if "reviewer" in leaf["actor"]]
    assert seen == ["consent:read", "recording:read", "recording:read"]


def test_consents_are_searched(house: Installation) -> None:
    headers = house.key()
    one, other = house.consent(headers), house.consent(headers)

    def found(**asked: str) -> set[str]:
        page = house.client.get("/console/consents", params=asked).text
        return {consent for consent in (one, other) if consent in page.replace(f'value="{consent}"', "")}

    assert found() == found(status="verified") == found(tenant=house.tenant) == {one, other}
    assert found(person=one) == {one} and found(after=other) == {one}
    assert found(status="revoked") == found(tenant="ten_x") == found(person="Reader of Austen") == set()


def test_a_withheld_output_is_neither_heard_nor_seen(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = make(wait_seconds=5)
    monkeypatch.setattr(flow, "ring", lambda _, job_id: work(installation.services, job_id))
    driver = Driver(installation)
    driver.ask("GET", "/console")
    with installation.services.database.read() as session:
        output = session.get_one(Output, driver.ids["output_id"])
    why = {"json": {"reason": "for the test"}, "headers": driver.headers}
    assert installation.client.post(f"/v1/consents/{output.consent_id}/revoke", **why).status_code == 200
    for part in ("sound", "spectrogram"):
        answer = installation.client.get(f"/console/outputs/{output.id}/{part}")
        assert answer.status_code == 403 and "withheld" in answer.text, part
    assert post(installation, f"/console/outputs/{output.id}/marks").status_code == 403
    shown = installation.client.get(f"/console/outputs/{output.id}").text
    assert "Withheld since" in shown and "<audio" not in shown and "<img" not in shown


def test_a_tone_stands_where_it_sounds() -> None:
    """2 s of 1 kHz at 16 kHz, then silence: a line an eighth up from the bottom, in the left half."""
    rate = 16_000
    wave = np.zeros(4 * rate, dtype=np.float32)
    wave[: 2 * rate] = np.sin(2 * np.pi * 1000 * np.arange(2 * rate) / rate)
    picture = np.asarray(Image.open(io.BytesIO(spectrogram_png(wave)))).sum(axis=2)
    assert picture.shape == (HEIGHT, WIDTH)
    assert abs(int(picture[:, 200].argmax()) - (HEIGHT - HEIGHT // 8)) <= 1
    assert picture[:, 800].max() < 30 < picture[:, 200].max()


@pytest.mark.parametrize("length", [1, 100, 1024, 5000])
def test_short_sounds_are_drawn_too(length: int) -> None:
    assert Image.open(io.BytesIO(spectrogram_png(np.ones(length, dtype=np.float32)))).size == (WIDTH, HEIGHT)


def test_a_text_is_read_and_decided(house: Installation) -> None:
    """The text stands on the page as text, and is gone once it was decided; the log has neither text nor reason."""
    services = house.services
    (hit, *_) = judge("I will kill you tonight.").hits
    with services.database.write() as session:
        asked = "I will kill you tonight, <b>Jane</b>."
        text_reviews.ask(session, services.log, services.keyring, house.tenant, asked, (hit,), "key", now())
        review = session.scalars(select(TextReview.id)).one()
    seen = house.client.get("/console/reviews/texts").text
    assert "&lt;b&gt;Jane&lt;/b&gt;" in seen and "<b>Jane" not in seen and html.escape(hit.explanation) in seen
    assert "text waits" in house.client.get("/console").text
    assert post(house, f"/console/reviews/texts/{review}", decision="approve", reason="a play").status_code == 303
    after = house.client.get("/console/reviews/texts").text
    assert "Jane" not in after and "approved" in after
    (leaf,) = [leaf for leaf in house.leaves() if leaf["tag"] == "review:decide"]
    assert leaf["actor"] == "operator:admin" and "Jane" not in json.dumps(house.leaves())
