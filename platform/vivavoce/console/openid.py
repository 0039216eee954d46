"""Logging in through an OpenID Connect provider: the authorization code flow, with state, nonce and PKCE.

OpenID Connect Core 1.0 section 3.1, RFC 7636. An account that comes so has no password here; its name in the log is
made of a digest, since the provider's names are people's.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import select
from sqlalchemy.orm import Session

from vivavoce.audit.entries import Entry
from vivavoce.audit.log import Log
from vivavoce.audit.tags import Tag
from vivavoce.console.accounts import actor
from vivavoce.ledger.accounts import Account, Role
from vivavoce.ledger.envelope import seal_plain, unseal_plain
from vivavoce.ledger.errors import SealBroken
from vivavoce.ledger.ids import new_id
from vivavoce.ledger.keys import KeyRing
from vivavoce.settings import ApiSettings

PATIENCE = timedelta(minutes=10)
"""How long somebody may take at the provider."""
_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
_TIMEOUT_SECONDS = 10.0
_LEEWAY_SECONDS = 60
_PLACE = b"oidc flow"


class NotLetIn(Exception):
    """The provider, or what it says, opens nothing here; `reason` is for the log, and told to nobody."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Flow:
    """One login under way. It waits sealed in the browser: nothing is kept here for people who never come back."""

    state: str
    nonce: str
    verifier: str
    begun: str


class Provider:
    """The provider that the settings name; asked anew at each login, so that it may change its keys."""

    def __init__(self, settings: ApiSettings, redirect_uri: str) -> None:
        self._settings = settings
        self._redirect_uri = redirect_uri

    def begin(self, now: datetime) -> tuple[str, Flow]:
        """Give the address to send somebody to, and what must be remembered meanwhile; raises `NotLetIn`."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = Flow(state, nonce, verifier, begun=now.isoformat())
        with self._client() as client:
            address = self._described(client)["authorization_endpoint"]
            url, _ = client.create_authorization_url(
                address, state=flow.state, nonce=flow.nonce, code_verifier=flow.verifier
            )
        return str(url), flow

    def finish(self, flow: Flow, code: str, state: str, now: datetime) -> tuple[str, Role]:
        """Trade the code for an ID token and check it; returns issuer and subject as one text, and the role.

        Raises:
            NotLetIn: The state, the provider, the token or the role is wrong.
        """
        late = now - datetime.fromisoformat(flow.begun) > PATIENCE
        if late or not secrets.compare_digest(flow.state.encode(), state.encode()):
            raise NotLetIn("oidc_state_wrong")
        claims = self._claims(flow, code)
        role = self._role(claims)
        if role is None:
            raise NotLetIn("oidc_role_missing")
        return f"{claims['iss']} {claims['sub']}", role

    def _claims(self, flow: Flow, code: str) -> dict[str, Any]:
        try:
            with self._client() as client:
                described = self._described(client)
                token = client.fetch_token(described["token_endpoint"], code=code, code_verifier=flow.verifier)
                keys = KeySet.import_key_set(client.request("GET", described["jwks_uri"], withhold_token=True).json())
            found = jwt.decode(token["id_token"], keys, algorithms=_ALGORITHMS)
            options = {"iss": {"value": self._settings.oidc_issuer}, "aud": {"value": self._settings.oidc_client_id}}
            asked = {"nonce": flow.nonce, "client_id": self._settings.oidc_client_id}
            claims = CodeIDToken(found.claims, found.header, options, asked)
            claims.validate(leeway=_LEEWAY_SECONDS)
        except (JoseError, AuthlibBaseError) as error:
            raise NotLetIn("oidc_token_refused") from error
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise NotLetIn("oidc_provider_failed") from error
        return dict(claims)

    def _role(self, claims: dict[str, Any]) -> Role | None:
        said = claims.get(self._settings.oidc_role_claim, [])
        values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        roles = {self._settings.oidc_roles.get(value) for value in values if isinstance(value, str)}
        return next((role for role in Role if role in roles), None)

    def _described(self, client: OAuth2Client) -> dict[str, Any]:
        issuer = self._settings.oidc_issuer
        try:
            place = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
            answer = client.request("GET", place, withhold_token=True)
            described = dict(answer.raise_for_status().json())
            places = [urlsplit(described[f"{name}_endpoint"]) for name in ("authorization", "token")]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise NotLetIn("oidc_provider_failed") from error
        plain = any(place.scheme != "https" and place.hostname not in ("127.0.0.1", "localhost") for place in places)
        if described.get("issuer") != issuer or plain:
            raise NotLetIn("oidc_provider_failed")
        return described

    def _client(self) -> OAuth2Client:
        secret = self._settings.oidc_client_secret
        return OAuth2Client(
            self._settings.oidc_client_id,
            None if secret is None else secret.get_secret_value(),
            scope="openid",
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            timeout=_TIMEOUT_SECONDS,
        )


def sealed(keyring: KeyRing, flow: Flow) -> str:
    """Seal a flow for a cookie."""
    return urlsafe_b64encode(seal_plain(keyring, json.dumps(asdict(flow)).encode(), _PLACE)).decode()


def unsealed(keyring: KeyRing, text: str) -> Flow:
    """Read what `sealed` gave; raises `NotLetIn`."""
    try:
        return Flow(**json.loads(unseal_plain(keyring, urlsafe_b64decode(text.encode()), _PLACE)))
    except (SealBroken, ValueError) as error:
        raise NotLetIn("oidc_state_wrong") from error


def account_for(session: Session, log: Log, external: str, role: Role, now: datetime) -> Account:
    """Find or enter the account of somebody whom the provider knows, with the role that it says.

    Raises:
        NotLetIn: The account is disabled here.
    """
    account = session.scalars(select(Account).where(Account.external == external).with_for_update()).one_or_none()
    if account is None:
        name = f"oidc.{hashlib.sha256(external.encode()).hexdigest()[:16]}"
        account = Account(id=new_id("acct"), name=name, role=role, external=external, created_at=now)
        session.add(account)
        entry = Entry(
            Tag.ACCOUNT_CREATE, None, actor(name), {"account": account.id}, {"role": str(role), "way": "oidc"}
        )
        log.append(session, entry)
    elif account.disabled_at is not None:
        raise NotLetIn("account_disabled")
    elif account.role != role:
        account.role = role
        facts = {"role": str(role), "way": "oidc"}
        log.append(session, Entry(Tag.ACCOUNT_UPDATE, None, actor(account.name), {"account": account.id}, facts))
    return account
