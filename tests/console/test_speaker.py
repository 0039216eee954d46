"""A speaker's page, in a real browser on a small screen and without any script: read, withdraw, be erased."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from tests.api.live import Service
from tests.console.conftest import SCREENSHOTS, SPEECH


@pytest.fixture
def link(service: Service) -> str:
    """The address of a speaker with a consent, a voice, and a sound made with it."""
    http = httpx2.Client(base_url=service.address, headers={"Authorization": f"Bearer {service.key}"}, timeout=120)
    recording = (SPEECH / "austen-0870.flac").read_bytes()

    def posted(path: str, **body: Any) -> dict[str, Any]:
        answer = http.post(path, **body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()) if "json" in answer.headers["content-type"] else {}

    given = {"name": "Reader of Austen", "language": "en"}
    consent = posted("/v1/audio/voice_consents", data=given, files={"recording": ("a.flac", recording)})["id"]
    sample = {"audio_sample": ("b.flac", (SPEECH / "austen-0890.flac").read_bytes())}
    voice = posted("/v1/audio/voices", data={"name": "Austen", "consent": consent}, files=sample)["id"]
    posted("/v1/audio/speech", json={"voice": voice, "input": "It was a fine day.", "response_format": "wav"})
    return str(posted(f"/v1/consents/{consent}/links")["address"])


@pytest.fixture
def phone(browser: Browser, service: Service) -> Any:
    context = browser.new_context(
        base_url=service.address, viewport={"width": 390, "height": 844}, java_script_enabled=False
    )
    yield context.new_page()
    context.close()


def test_a_speaker_reads_withdraws_and_is_erased_on_a_phone(phone: Page, link: str) -> None:
    phone.goto(link)
    expect(phone.get_by_role("heading", name="Your voice")).to_be_visible()
    expect(phone.get_by_role("row", name=re.compile("general 1"))).to_be_visible()
    expect(phone.get_by_role("heading", name=re.compile("verified"))).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    phone.screenshot(path=SCREENSHOTS / "speaker.png", full_page=True)
    phone.get_by_role("button", name="Withdraw this consent").click()
    expect(phone.get_by_role("heading", name=re.compile("revoked"))).to_be_visible()
    assert phone.get_by_role("button", name="Withdraw this consent").count() == 0
    phone.get_by_role("button", name="Erase everything").click()
    expect(phone.get_by_role("heading", name=re.compile("revoked"))).to_be_visible()  # not without the tick
    phone.get_by_role("checkbox").check()
    phone.get_by_role("button", name="Erase everything").click()
    expect(phone.get_by_role("status")).to_contain_text("was destroyed")
    phone.get_by_role("button", name="Close this address").click()
    expect(phone.get_by_role("heading", name="This address is closed")).to_be_visible()
    phone.goto(link)
    expect(phone.locator("body")).to_contain_text("link_not_valid")


def test_the_page_is_for_everybody(page: Page, link: str) -> None:
    """No finding of axe-core, and nothing in the console: the policy forbids inline script and style."""
    page.goto(link)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download everything").click()
    assert download.value.suggested_filename == "my-voice.zip"
