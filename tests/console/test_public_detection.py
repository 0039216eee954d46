"""Strangers ask without a key: the answer is right, signed, names nobody, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from pypdf import PdfReader
from sqlalchemy import select
from tests.api.conftest import Make
from tests.api.live import Service
from tests.console.conftest import SCREENSHOTS, SPEECH

from vivavoce.audit.documents import Keys, Kind, sign
from vivavoce.audit.errors import DocumentBroken
from vivavoce.console.strangers import TENANT
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.objects import ObjectStore
from vivavoce.ledger.settings import CoreSettings
from vivavoce.ledger.tables import Job
from vivavoce.provenance.report import Report, attached, check_report

STRANGER = (SPEECH / "goforward.flac").read_bytes()


@pytest.fixture(scope="module")
def asked(service: Service, spliced: bytes) -> str:
    """The answer that a program gets: the signed report."""
    answer = httpx2.post(f"{service.address}/detect", files={"file": ("a name of somebody.wav", spliced)}, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.fixture(scope="module")
def keys(service: Service) -> Keys:
    return Keys.parse(httpx2.get(f"{service.address}/detect/keys").text)


def verify(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vivavoce.cli", "detect", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"COLUMNS": "200"})


def test_the_report_is_right_and_signed(asked: str, keys: Keys, spliced: bytes) -> None:
    checked = check_report(asked.encode(), keys)
    found = checked.report.finding
    assert found.verdict == "ours_modified" and checked.log_size > 0
    (part,) = found.segments
    assert abs(part.start_s - 2.0) < 0.3 and abs(part.end_s - 8.0) < 0.3
    assert checked.report.sound.seconds == round(soundfile.info(io.BytesIO(spliced)).duration, 2)


def test_the_report_names_nobody(asked: str, service: Service) -> None:
    for word in ("out_", "cons_", "ten_", "voice_", "sub_", "somebody", service.key[:10]):
        said = json.loads(asked)["report"]
        said["log"] = None  # the log's own entries: no names in them either, but the strangers' customer id
        assert word not in json.dumps(said)


def test_nothing_of_the_sound_is_kept(asked: str, service: Service) -> None:
    settings = CoreSettings(home=service.home)
    database = Database(settings.database_url)
    with database.read() as session:
        jobs = session.scalars(select(Job).where(Job.kind == "detection", Job.tenant_id == TENANT)).all()
        assert jobs and all(job.result is None for job in jobs)
    database.close()
    kept = ObjectStore(settings.objects_url).list()
    assert [name for name in kept for job in jobs if name.startswith(f"jobs/{job.id}/")] == []


def everywhere(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [found for name, part in value.items() for found in everywhere(part, (*path, name))]
    if isinstance(value, list):
        return [found for index, part in enumerate(value) for found in everywhere(part, (*path, index))]
    return [path]


def test_no_word_of_a_report_can_be_changed(asked: str, keys: Keys) -> None:
    paths = everywhere(json.loads(asked))
    assert len(paths) > 20
    for path in paths:
        file = json.loads(asked)
        place: Any = file
        for step in path[:-1]:
            place = place[step]
        value = place[path[-1]]
        place[path[-1]] = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else f"{value}x"
        with pytest.raises(DocumentBroken):
            check_report(json.dumps(file).encode(), keys)


def test_who_has_the_documents_key_alone_cannot_change_what_the_log_says(
    asked: str, keys: Keys, service: Service
) -> None:
    keyring = KeyRing.open(service.home / "keys")
    for name, value in (("score", 99.0), ("speed", 2.0)):
        said = json.loads(asked)["report"]
        said["finding"][name] = value
        forged = sign(Report.model_validate_json(json.dumps(said)), Kind.REPORT, keyring, keys.log.name)
        with pytest.raises(DocumentBroken, match=name):
            check_report(forged.encode(), keys)


def test_the_command_line_checks_a_report_offline(asked: str, spliced: bytes, service: Service, tmp_path: Path) -> None:
    report, key, sound, other = (tmp_path / name for name in ("report.json", "keys", "sound.wav", "other.flac"))
    report.write_text(asked)
    key.write_text(httpx2.get(f"{service.address}/detect/keys").text)
    sound.write_bytes(spliced)
    other.write_bytes(STRANGER)
    good = verify("--verify-report", str(report), "--key", str(key), str(sound))
    assert good.returncode == 0 and "ours_modified" in good.stdout, good.stderr
    wrong = verify("--verify-report", str(report), "--key", str(key), str(other))
    assert wrong.returncode == 1 and "another file" in wrong.stderr
    report.write_text(asked.replace("ours_modified", "not_detected"))
    altered = verify("--verify-report", str(report), "--key", str(key))
    assert altered.returncode == 1 and "NOT VERIFIED" in altered.stderr and "Traceback" not in altered.stderr


@pytest.mark.parametrize(
    ("data", "code"), [(b"", "empty"), (b"no sound at all", "not_audio"), (STRANGER[:500], None)], ids=str
)
def test_what_is_no_sound_is_told(service: Service, data: bytes, code: str | None) -> None:
    answer = httpx2.post(f"{service.address}/detect", files={"file": ("x", data)}, timeout=60)
    assert 400 <= answer.status_code < 500 and answer.headers["content-type"] == "application/problem+json"
    assert code is None or answer.json()["code"] in (code, "not_audio")
    assert httpx2.post(f"{service.address}/detect/report.pdf", data={"report": "{}"}).status_code == 400


def test_who_asks_too_often_waits(make: Make) -> None:
    house = make(public_detections_per_minute=2)
    answers = [house.client.post("/detect", files={"file": ("x", b"x")}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [422, 422, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    assert all(answer.headers["ratelimit-policy"] == '"requests";q=2;w=60' for answer in answers)
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    assert "ratelimit" not in house.client.get("/detect").headers, "looking at the page is not counted"


def test_a_closed_page_is_closed(make: Make) -> None:
    house = make(public_detections_per_minute=0)
    assert house.client.get("/detect").status_code == 404
    assert house.client.post("/detect", files={"file": ("x", b"x")}).status_code == 404


def test_a_body_that_is_too_large_is_not_read(make: Make) -> None:
    answer = make(max_body_bytes=64 * 1024).client.post("/detect", files={"file": ("x", b"x" * 100_000)})
    assert answer.status_code == 413


def see(page: Page, name: str) -> None:
    """Keep a picture, and ask axe-core whether everybody can use what is on it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_stranger_in_a_browser(page: Page, spliced: bytes, keys: Keys, tmp_path: Path) -> None:
    page.goto("/detect")
    see(page, "detect")
    page.set_input_files("#file", {"name": "call.wav", "mimeType": "audio/wav", "buffer": spliced})
    page.get_by_role("button", name="Look for the mark").click()
    expect(page.get_by_role("heading", name="Ours modified")).to_be_visible(timeout=60_000)
    assert page.locator("svg rect.marked").count() == 1
    see(page, "finding")
    files = {}
    for button in ("JSON", "PDF"):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        files[button] = Path(download.value.path()).read_bytes()
    for data in files.values():
        assert check_report(data, keys).report.finding.verdict == "ours_modified"
    assert "ours modified" in PdfReader(io.BytesIO(files["PDF"])).pages[0].extract_text()
    (tmp_path / "report.pdf").write_bytes(files["PDF"])
    (tmp_path / "keys").write_text(str(keys))
    assert verify("--verify-report", str(tmp_path / "report.pdf"), "--key", str(tmp_path / "keys")).returncode == 0


def test_a_mistake_in_a_browser_keeps_the_page(page: Page) -> None:
    page.goto("/detect")
    page.set_input_files("#file", {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"no sound"})
    with page.expect_response("**/detect") as answer:
        page.get_by_role("button", name="Look for the mark").click()
    assert answer.value.status == 422
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Sound file")).to_be_visible()
    see(page, "detect-mistake")


def test_without_javascript_and_in_the_dark(browser: Browser, service: Service) -> None:
    context = browser.new_context(
        base_url=service.address, java_script_enabled=False, color_scheme="dark", viewport={"width": 390, "height": 800}
    )
    page = context.new_page()
    page.goto("/detect")
    page.set_input_files("#file", {"name": "x.flac", "mimeType": "audio/flac", "buffer": STRANGER})
    page.get_by_role("button", name="Look for the mark").click()
    expect(page.get_by_role("heading", name="Not detected")).to_be_visible(timeout=60_000)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "finding-phone-dark.png", full_page=True)
    context.close()


def test_a_pdf_without_the_report_is_none(keys: Keys) -> None:
    for data in (b"%PDF-1.4 nonsense", b"%PDF-"):
        with pytest.raises(DocumentBroken):
            attached(data)
        with pytest.raises(DocumentBroken):
            check_report(data, keys)
