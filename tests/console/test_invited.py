"""An invited speaker records in a real browser, with a real voice at its microphone, and is told what came of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from tests.api.live import Service
from tests.console.conftest import SCREENSHOTS, SPEECH


def invitation(service: Service) -> str:
    asked = {"name": "Jane Reader", "language": "en", "expires_in_days": 30}
    answer = service.client().post("/v1/consents/invitations", json=asked)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["address"])


def reaches(page: Page, value: str, least: float) -> None:
    """Wait for a number on the page; playwright's own waiting needs eval, which the page's policy forbids."""
    for _ in range(100):
        if (page.evaluate(value) or 0) > least:
            return
        page.wait_for_timeout(100)
    pytest.fail(f"{value} stays below {least}")


@pytest.fixture
def speaking(browser: Browser, service: Service, tmp_path: Path) -> Iterator[Page]:
    """A phone into whose microphone somebody reads Austen."""
    wave, rate = soundfile.read(SPEECH / "austen-0870.flac", dtype="float32")
    soundfile.write(tmp_path / "microphone.wav", wave, rate, subtype="PCM_16")
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    fake += [f"--use-file-for-fake-audio-capture={tmp_path / 'microphone.wav'}", "--no-sandbox"]
    own = browser.browser_type.launch(executable_path=shutil.which("chromium"), args=fake)
    context = own.new_context(
        base_url=service.address, viewport={"width": 390, "height": 844}, permissions=["microphone"]
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    own.close()
    assert wrong == []


def test_what_is_recorded_is_heard_judged_and_may_be_tried_again(speaking: Page, service: Service) -> None:
    """The words are not those that are shown, so the answer must say that, and offer another text."""
    speaking.goto(invitation(service))
    expect(speaking.get_by_text("biometric data")).to_be_visible()
    speaking.get_by_role("button", name="I have read this").click()
    shown = speaking.locator("#text")
    expect(shown).to_contain_text("Jane Reader")
    first = shown.inner_text()
    speaking.get_by_role("button", name="Record").click()
    reaches(speaking, "document.getElementById('level').value", 0.02)
    speaking.wait_for_timeout(6000)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    speaking.screenshot(path=SCREENSHOTS / "speak.png", full_page=True)
    speaking.get_by_role("button", name="Stop").click()
    expect(speaking.locator("audio")).to_be_visible()
    reaches(speaking, "document.getElementById('heard').duration", 4.0)
    speaking.get_by_role("button", name="Send this recording").click()
    expect(speaking.get_by_role("alert")).to_contain_text(
        "Something else was said than the sentence that was shown", timeout=60_000
    )
    speaking.get_by_role("button", name=re.compile("Try again")).click()
    expect(shown).to_be_visible()
    assert shown.inner_text() != first


def test_the_page_is_for_everybody_and_an_address_that_is_none_opens_nothing(page: Page, service: Service) -> None:
    page.goto(invitation(service))
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    for wrong in ("vi_" + "x" * 43, "x"):
        answer = httpx2.get(f"{service.address}/speak/{wrong}")
        assert (answer.status_code, answer.json()["code"]) == (404, "link_not_valid")


def test_an_invitation_draws_only_so_many_texts(service: Service) -> None:
    address = service.address + invitation(service)
    codes = [httpx2.post(f"{address}/challenge").status_code for _ in range(11)]
    assert codes == [200] * 10 + [403]
