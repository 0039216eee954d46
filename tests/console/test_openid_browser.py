"""Logging in through a provider in a real browser, from the button to the overview and out again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from tests.api.live import Service, running_service
from tests.console.provider import CLIENT, SECRET, Provider, running_provider


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        running.asks = True
        yield running


@pytest.fixture(scope="module")
def house(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {
        "VIVAVOCE_OIDC_ISSUER": provider.issuer,
        "VIVAVOCE_OIDC_CLIENT_ID": CLIENT,
        "VIVAVOCE_OIDC_CLIENT_SECRET": SECRET,
        "VIVAVOCE_OIDC_ROLES": json.dumps({"voice-admins": "admin", "auditors": "auditor"}),
    }
    with running_service(tmp_path_factory.mktemp("openid"), settings) as running:
        yield running


@pytest.fixture
def stranger(browser: Browser, house: Service) -> Iterator[Page]:
    """A browser that was never here."""
    context = browser.new_context(base_url=house.address)
    yield context.new_page()
    context.close()


def sign_in(page: Page, provider: Provider) -> None:
    page.goto("/console")
    page.get_by_role("link", name="your organisation").click()
    page.wait_for_url(f"{provider.issuer}/authorize?*")
    page.get_by_role("link", name="I am Jane").click()


def test_a_person_comes_in_and_goes_out(stranger: Page, provider: Provider) -> None:
    stranger.goto("/console/login")
    assert Axe().run(stranger).violations_count == 0
    sign_in(stranger, provider)
    expect(stranger.get_by_role("heading", name="Overview")).to_be_visible()
    expect(stranger.get_by_role("banner")).to_contain_text("admin")
    stranger.get_by_role("link", name="Tenants").click()
    expect(stranger.get_by_role("button", name="Enter the tenant")).to_be_visible()
    stranger.get_by_role("button", name="Log out").click()
    stranger.goto("/console/tenants")
    expect(stranger.get_by_role("heading", name="Log in to the console")).to_be_visible()


def test_the_role_is_what_the_provider_says_at_this_login(
    stranger: Page, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "claims", {"roles": ["auditors"]})
    sign_in(stranger, provider)
    expect(stranger.get_by_role("banner")).to_contain_text("auditor")
    stranger.get_by_role("link", name="Tenants").click()
    expect(stranger.get_by_role("cell", name=re.compile("^default"))).to_be_visible()
    assert stranger.get_by_role("button", name="Enter the tenant").count() == 0


@pytest.mark.parametrize("claims", [{"roles": ["visitors"]}, {"nonce": "of another login"}, {"aud": "another client"}])
def test_who_is_not_let_in_sees_why_not_and_no_more(
    stranger: Page, provider: Provider, monkeypatch: pytest.MonkeyPatch, claims: dict[str, object]
) -> None:
    monkeypatch.setattr(provider, "claims", claims)
    sign_in(stranger, provider)
    expect(stranger.get_by_text("The login did not work")).to_be_visible()
    stranger.goto("/console/tenants")
    expect(stranger.get_by_role("heading", name="Log in to the console")).to_be_visible()


def test_a_way_back_that_another_browser_began_opens_nothing(
    browser: Browser, stranger: Page, house: Service, provider: Provider
) -> None:
    """Login forgery: the address that ends somebody else's login, followed here, logs nobody in."""
    stranger.goto("/console")
    stranger.get_by_role("link", name="your organisation").click()
    back = stranger.get_by_role("link", name="I am Jane").get_attribute("href")
    assert back is not None
    context = browser.new_context(base_url=house.address)
    victim = context.new_page()
    victim.goto(back)
    expect(victim.get_by_text("The login did not work")).to_be_visible()
    victim.goto("/console")
    expect(victim.get_by_role("heading", name="Log in to the console")).to_be_visible()
    context.close()
