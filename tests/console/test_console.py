"""The console in a real browser, on a running service with a real worker: each page is used, and is for everybody."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select
from tests.api.live import Service
from tests.console.conftest import SCREENSHOTS, SPEECH
from tests.console.operators import PASSWORD

from vivavoce.api.services import now
from vivavoce.audit.log import Log
from vivavoce.console.accounts import create_account
from vivavoce.ledger.accounts import Account, Role
from vivavoce.ledger.database import Database
from vivavoce.ledger.keys import KeyRing
from vivavoce.ledger.rights import Review
from vivavoce.ledger.settings import CoreSettings
from vivavoce.policy.likeness import Heard, settle

PHONE = {"width": 390, "height": 844}


@dataclass
class Made:
    """What the tests look at."""

    consent: str
    voice: str
    output: str
    review: str


@pytest.fixture(scope="module")
def made(service: Service) -> Made:
    """A consent with a voice and a sound, and another voice that waits for a review."""
    http = service.client()

    def posted(path: str, **body: Any) -> Any:
        answer = http.post(path, **body)
        assert answer.status_code == 200, answer.text
        return answer

    def voice(name: str, recording: str, sample: str) -> tuple[str, str]:
        given = {"name": name, "language": "en"}
        files = {"recording": (recording, (SPEECH / recording).read_bytes())}
        consent = posted("/v1/audio/voice_consents", data=given, files=files).json()["id"]
        sample_file = {"audio_sample": (sample, (SPEECH / sample).read_bytes())}
        return consent, posted("/v1/audio/voices", data={"name": name, "consent": consent}, files=sample_file).json()[
            "id"
        ]

    consent, good = voice("Reader of Austen", "austen-0870.flac", "austen-0890.flac")
    said = {"voice": good, "input": "It was a fine day, and nobody was in a hurry.", "response_format": "wav"}
    output = posted("/v1/audio/speech", json=said).headers["X-Vivavoce-Output-Id"]
    _, doubtful = voice("Somebody Else", "austen-0930.flac", "austen-0920.flac")
    settings = CoreSettings(home=service.home)
    database, keyring = Database(settings.database_url), KeyRing.open(service.home / "keys")
    log = Log(keyring, settings.log_origin)
    one, other = np.eye(192, dtype=np.float32)[0], np.zeros(192, dtype=np.float32)
    other[:2] = 0.53, 0.848
    with database.write() as session:
        settle(session, log, keyring, doubtful, Heard(one, [other], "test"), "worker:test", now())
        review = session.scalars(select(Review.id)).one()
        for role in Role:
            if session.scalars(select(Account).where(Account.name == role)).first() is None:
                create_account(session, log, role, role, PASSWORD, now(), "operator")
    database.close()
    return Made(consent, good, output, review)


def enter(page: Page, name: str) -> None:
    page.goto("/console")
    expect(page.get_by_role("heading", name="Log in to the console")).to_be_visible()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def see(page: Page, name: str) -> None:
    """Keep a picture, ask axe-core whether everybody can use the page, and whether a phone shows all of it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"console-{name}.png", full_page=True)
    found = Axe().run(page)
    assert found.violations_count == 0, (name, found.generate_report())
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name


@pytest.fixture
def desk(browser: Browser, service: Service, made: Made) -> Iterator[Page]:
    """A wide page whose console may show no error, by the policy that forbids inline script and style neither."""
    context = browser.new_context(base_url=service.address, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert [line for line in wrong if "status of 403" not in line] == []


def test_overview_keys_and_tenants(desk: Page) -> None:
    desk.goto("/console/keys")
    see(desk, "login")
    enter(desk, "admin")
    see(desk, "overview")
    desk.get_by_role("link", name="Tenants").click()
    expect(desk.get_by_role("cell", name=re.compile("^default"))).to_be_visible()
    desk.get_by_label("Name", exact=True).fill("Theatre")
    desk.get_by_role("button", name="Enter the tenant").click()
    desk.get_by_label("Profile of Theatre").select_option("us")
    desk.get_by_role("button", name="Set the rules of Theatre").click()
    theatre = desk.get_by_role("row").filter(has=desk.get_by_role("cell", name=re.compile("^Theatre")))
    expect(theatre.get_by_role("cell", name="us", exact=True)).to_be_visible()
    see(desk, "tenants")
    desk.get_by_role("link", name="Keys").click()
    desk.get_by_label("What it is for").fill("a robot")
    desk.get_by_label("speech", exact=True).check()
    desk.get_by_role("button", name="Make the key").click()
    token = desk.locator("pre").inner_text()
    assert re.fullmatch(r"vv_\w{49}", token.strip())
    see(desk, "keys")
    desk.get_by_role("link", name="Keys").click()
    expect(desk.locator("body")).not_to_contain_text(token.strip())
    desk.get_by_role("button", name=f"Revoke a robot ({token[:11]})").click()
    expect(desk.get_by_role("row", name=re.compile("a robot"))).to_contain_text("revoked")
    desk.get_by_role("button", name="Log out").click()
    expect(desk.get_by_role("heading", name="Log in to the console")).to_be_visible()


def test_the_log_is_searched_and_an_entry_is_proven(desk: Page, made: Made, service: Service, tmp_path: Path) -> None:
    enter(desk, "auditor")
    desk.get_by_role("link", name="Audit log").click()
    desk.get_by_label("Output").fill(made.output)
    desk.get_by_label("Event").select_option("job:outcome")
    desk.get_by_role("button", name="Search").click()
    expect(desk.locator("#rows tr")).to_have_count(1)
    desk.get_by_label("Event").select_option("")
    desk.get_by_role("button", name="Search").click()
    see(desk, "audit")
    desk.get_by_role("row", name=re.compile("job:outcome")).get_by_role("link").first.click()
    address = desk.url
    desk.get_by_role("button", name="Verify").click()
    expect(desk.get_by_role("status")).to_contain_text("Verified")
    assert desk.url == address  # put in by htmx: the page was not left
    assert desk.locator("#steps li").count() == 5
    see(desk, "leaf")
    with desk.expect_download() as download:
        desk.get_by_role("link", name="Proof file").click()
    (tmp_path / "leaf.tlog-proof").write_bytes(Path(download.value.path()).read_bytes())
    environment = {"VIVAVOCE_HOME": str(service.home)}
    command = [sys.executable, "-m", "vivavoce.cli", "audit"]
    key = subprocess.run([*command, "key"], env=environment, capture_output=True, text=True, check=True).stdout
    (tmp_path / "key").write_text(key)
    checked = [*command, "check", str(tmp_path / "leaf.tlog-proof"), "--public-key", str(tmp_path / "key")]
    done = subprocess.run(checked, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_older_entries_come_behind_the_others(desk: Page) -> None:
    enter(desk, "auditor")
    for _ in range(30):
        desk.context.request.get("/console/tenants")
    desk.goto("/console/audit")
    expect(desk.locator("#rows tr")).to_have_count(50)
    first = desk.locator("#rows tr").first.inner_text()
    desk.get_by_role("link", name="Older entries").click()
    expect(desk.locator("#rows tr").nth(50)).to_be_visible()
    assert desk.locator("#rows tr").first.inner_text() == first
    places = [int(text) for text in desk.locator("#rows tr td:first-child").all_inner_texts()]
    assert places == list(range(places[0], places[0] - len(places), -1))


def test_a_consent_is_suspended_and_lifted(desk: Page, made: Made) -> None:
    enter(desk, "admin")
    desk.get_by_role("link", name="Consents", exact=True).click()
    own = desk.get_by_role("row").filter(has=desk.get_by_role("link", name=made.consent))
    expect(own.get_by_role("cell", name="Reader of Austen")).to_be_visible()
    see(desk, "consents")
    desk.get_by_role("link", name=made.consent).click()
    see(desk, "consent")
    desk.get_by_label("Reason").fill("somebody has complained")
    desk.get_by_role("button", name="Suspend").click()
    expect(desk.get_by_role("heading", name="Reader of Austen suspended")).to_be_visible()
    expect(desk.get_by_role("row", name=re.compile("consent:suspend.*operator:admin"))).to_be_visible()
    desk.goto(f"/console/outputs/{made.output}/sound")
    expect(desk.get_by_role("alert")).to_contain_text("suspended")
    desk.goto(f"/console/consents/{made.consent}")
    desk.get_by_label("Reason").fill("it was settled")
    desk.get_by_role("button", name="Lift").click()
    expect(desk.get_by_role("heading", name="Reader of Austen verified")).to_be_visible()


def plays(page: Page, index: int) -> float:
    """Have the nth player load, and give the length of what it can play."""
    page.evaluate(f"document.querySelectorAll('audio')[{index}].preload = 'auto'")
    page.evaluate(f"document.querySelectorAll('audio')[{index}].load()")
    for _ in range(100):
        length = page.evaluate(f"document.querySelectorAll('audio')[{index}].duration || 0")
        if length:
            return float(length)
        page.wait_for_timeout(100)
    return 0.0


def test_a_reviewer_hears_both_sides_and_decides(desk: Page, made: Made) -> None:
    enter(desk, "reviewer")
    desk.get_by_role("link", name="Reviews", exact=True).click()
    see(desk, "reviews")
    desk.get_by_role("link", name="Clip and consent differ").click()
    lengths = [plays(desk, index) for index in (0, 1)]
    assert all(length > 1 for length in lengths) and lengths[0] != lengths[1]
    see(desk, "review")
    desk.get_by_label("Reason").fill("the same voice, another room")
    desk.get_by_role("button", name="Approve").click()
    expect(desk.get_by_role("heading", name="Decided")).to_be_visible()
    desk.goto("/console/audit?key=operator:reviewer&event=recording:read")
    expect(desk.locator("#rows tr").first).to_be_visible()
    desk.goto("/console/audit?event=review:decide")
    expect(desk.get_by_role("row", name=re.compile("operator:reviewer"))).to_be_visible()


def rule(desk: Page, tenant: str, profile: str) -> None:
    """Have a tenant work under a profile."""
    desk.goto("/console/tenants")
    desk.get_by_label(f"Profile of {tenant}").select_option(profile)
    desk.get_by_role("button", name=f"Set the rules of {tenant}").click()


def test_a_text_that_met_a_rule_is_read_approved_and_then_spoken(desk: Page, made: Made, service: Service) -> None:
    """Where the profile leaves threats to a person; the strictest one refuses them."""
    asked = {"voice": made.voice, "input": "You will regret this if you talk.", "response_format": "wav"}
    enter(desk, "admin")
    rule(desk, "default", "us")
    try:
        refused = service.client().post("/v1/audio/speech", json=asked)
        assert refused.json()["error"]["code"] == "text_needs_review", refused.text
        desk.goto("/console")
        desk.get_by_role("link", name="1 text waits").click()
        expect(desk.get_by_text(asked["input"])).to_be_visible()
        see(desk, "texts")
        desk.get_by_label("Reason").fill("a play")
        desk.get_by_role("button", name="Approve the text").click()
        expect(desk.get_by_role("heading", name="Decided")).to_be_visible()
        spoken = service.client().post("/v1/audio/speech", json=asked)
        assert spoken.status_code == 200 and spoken.content.startswith(b"RIFF")
    finally:
        rule(desk, "default", "max")


def drawn(page: Page) -> int:
    """Wait for the spectrogram; gives its width."""
    expect(page.locator("img.spectrogram")).to_be_visible()
    image = "document.querySelector('img')"
    return int(page.evaluate(f"{image}.decode().then(() => {image}.naturalWidth)"))


def test_an_output_is_heard_seen_and_searched_for_its_mark(desk: Page, made: Made) -> None:
    enter(desk, "reviewer")
    desk.get_by_role("link", name="Outputs", exact=True).click()
    see(desk, "outputs")
    desk.get_by_role("link", name=made.output).click()
    assert drawn(desk) == 1000
    assert plays(desk, 0) > 0.5
    desk.get_by_role("button", name="Look for the mark").click()
    expect(desk.get_by_role("button", name="Look for the mark again")).to_be_visible(timeout=60_000)
    expect(desk.locator("main .state").last).to_have_text("ours")
    assert desk.locator("svg rect.marked").count() >= 1
    assert drawn(desk) == 1000
    see(desk, "output")


PAGES = ("", "/reviews", "/reviews/texts", "/reviews/{review}", "/consents", "/consents/{consent}")
PAGES += ("/outputs", "/outputs/{output}")
PAGES += ("/audit", "/audit/1", "/keys", "/tenants")


def test_on_a_phone_in_the_dark_without_javascript(browser: Browser, service: Service, made: Made) -> None:
    """Everything can be read; an auditor hears no speaker and finds nothing to change."""
    context = browser.new_context(
        base_url=service.address, viewport=PHONE, color_scheme="dark", java_script_enabled=False
    )
    page = context.new_page()
    enter(page, "auditor")
    for path in PAGES:
        page.goto("/console" + path.format(**vars(made)))
        assert page.locator("h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        posts = page.locator("main form[method=post]")
        assert posts.count() == (1 if path == "/audit/1" else 0), path
        if path in ("", "/audit", "/consents/{consent}", "/outputs/{output}", "/reviews/{review}", "/keys"):
            name = path.split("/")[1].removesuffix("s" if "{" in path else "") if path else "overview"
            page.screenshot(path=SCREENSHOTS / f"console-{name}-phone-dark.png", full_page=True)
    page.goto("/console/audit/1")
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_role("status")).to_contain_text("Verified")
    assert page.goto(f"/console/reviews/{made.review}/recordings/asked").status == 403  # type: ignore[union-attr]
    context.close()


def test_in_the_dark_for_everybody(browser: Browser, service: Service, made: Made) -> None:
    """No finding of axe-core on any page, contrast included, for who may do everything."""
    context = browser.new_context(base_url=service.address, color_scheme="dark")
    page = context.new_page()
    enter(page, "admin")
    for path in PAGES:
        page.goto("/console" + path.format(**vars(made)))
        found = Axe().run(page)
        assert found.violations_count == 0, (path, found.generate_report())
    context.close()


def test_by_keyboard_alone(desk: Page) -> None:
    desk.goto("/console")
    expect(desk.locator(":focus")).to_have_attribute("name", "name")
    desk.keyboard.type("auditor")
    desk.keyboard.press("Tab")
    desk.keyboard.type(PASSWORD)
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", name="Overview")).to_be_visible()
    desk.keyboard.press("Tab")
    expect(desk.locator(":focus")).to_have_text("Skip to the content")
    expect(desk.locator(":focus")).to_be_in_viewport()
    desk.keyboard.press("Enter")
    expect(desk.locator("main")).to_be_focused()
