"""A running service and a real browser: Debian's chromium, without which these tests fail only in CI."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from tests.api.conftest import make as make
from tests.api.live import Service

from vivavoce.console import accounts
from vivavoce.ledger.keys import KeyRing
from vivavoce.watermark import Marker

SPEECH = Path(__file__).parents[1] / "data/speech"
SCREENSHOTS = Path(__file__).parents[2] / "runs/screenshots"
IDENTITY = 4711

expect.set_options(timeout=30_000)  # ms: patience with a busy machine


@pytest.fixture(scope="session", autouse=True)
def full_cost() -> Iterator[PasswordHash]:
    """Tests log in often: here a password takes a thousandth of the time. Returns what hashes them otherwise."""
    hasher = accounts._hasher
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_hasher", PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1),)))
        yield hasher


@pytest.fixture(scope="session")
def spliced(service: Service) -> bytes:
    """Six marked seconds between unmarked speech, as WAV; marked with the service's own secret."""
    wave, rate = soundfile.read(SPEECH / "austen-0870.flac", dtype="float32")
    marker = Marker.load(secret=KeyRing.open(service.home / "keys").mark_key)
    marked = marker.embed(wave, rate, IDENTITY)[: 6 * rate]
    other, _ = soundfile.read(SPEECH / "austen-0930.flac", dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([other[: 2 * rate], marked, other[2 * rate : 4 * rate]]), rate, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    installed = shutil.which("chromium")
    if installed is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed: apt install chromium")
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    """A page that may show no error in its console, by the policy that forbids inline script neither."""
    context = browser.new_context(base_url=service.address, viewport={"width": 900, "height": 1100})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert [line for line in wrong if "status of 422" not in line] == []
