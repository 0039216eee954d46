"""Where a webhook may go: never inside, whatever the address calls itself, and only where it was checked."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.consent.world import World
from tests.workers.house import now
from tests.workers.receiver import SECRET, SETTINGS, Receiver
from tests.workers.receiver import receiver as receiver

from vivavoce.ledger.webhooks import Event
from vivavoce.policy.errors import PolicyRefused
from vivavoce.policy.webhooks import (
    Target,
    create_webhook,
    resolve,
    secret_key,
)
from vivavoce.workers.courier import Letter, send
from vivavoce.workers.settings import WorkerSettings

LETTER = Letter("msg_x", 1, Target("https://receiver.example/", SECRET), b"{}")


def sent(url: str, settings: WorkerSettings = SETTINGS) -> str | None:
    return send(replace(LETTER, target=Target(url, SECRET)), datetime.now(UTC), settings)


INSIDE = [
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1",
    "2002:a00:1::", "ff02::1", "2001::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_nothing_is_sent_inside(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Whatever name stands for an address inside, also beside a public one: not even a connection is tried."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    inside, outside = (family, 1, 6, "", (address, 443)), (socket.AF_INET, 1, 6, "", ("93.184.216.34", 443))
    tried: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda *given, **_: tried.append(given))
    for found in ([inside], [outside, inside], [inside, outside]):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, found=found, **__: found)
        assert sent("https://receiver.example/", WorkerSettings()) == "address_not_public"
    assert tried == []


def test_the_address_that_was_checked_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes its mind after the check (DNS rebinding) is not asked a second time."""
    asked: list[Any] = []
    called: list[Any] = []

    def look_up(*given: Any, **_: Any) -> list[Any]:
        asked.append(given)
        return [(socket.AF_INET, 1, 6, "", ("93.184.216.34" if len(asked) == 1 else "127.0.0.1", 443))]

    def connect(address: Any, **_: Any) -> None:
        called.append(address)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect)
    assert sent("https://receiver.example:8443/", WorkerSettings()) == "not_reached"
    assert (len(asked), called) == (1, [("93.184.216.34", 8443)])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost", "[::1]"])
def test_loopback_only_where_it_is_allowed(receiver: Receiver, host: str) -> None:
    """However it is spelt. The receiver stands there; without the setting it hears nothing."""
    url = f"https://{host}:{receiver.server_port}/"
    assert sent(url, WorkerSettings()) in ("address_not_public", "not_reached")
    assert receiver.heard == []
    assert sent(f"http://{host}:{receiver.server_port}/", WorkerSettings()) == "url_not_allowed"


def test_plain_http_is_for_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("93.184.216.34", 80))])
    assert sent("http://receiver.example/") == "address_not_public"


def test_a_receiver_without_tls_or_patience(receiver: Receiver) -> None:
    assert sent(receiver.url.replace("http:", "https:")) in ("tls_failed", "no_answer")
    receiver.slow = True
    began = time.monotonic()
    assert sent(receiver.url) == "no_answer"
    assert time.monotonic() - began < 3, "a drip of bytes must not hold the courier"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert sent(f"http://127.0.0.1:{port}/") == "not_reached"


def test_tls_is_checked(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody vouches for, or of another name, is no receiver; a good one hears what is sent."""
    certificate = certify(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    named, bare = (f"https://{host}:{receiver.server_port}/" for host in ("localhost", "127.0.0.1"))
    assert sent(named) == "tls_failed" and receiver.heard == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert sent(bare) == "tls_failed" and receiver.heard == []
    assert sent(named) is None
    ((headers, body),) = receiver.heard
    assert (headers["host"], body) == (f"localhost:{receiver.server_port}", b"{}")


def certify(folder: Path, host: str) -> Path:
    """Make a key and a certificate that vouches for itself, in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now() - timedelta(days=1)).not_valid_after(now() + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    file = folder / "receiver.pem"
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(plain + made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return file


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.example/", "ftp://receiver.example/", "https://", "https:///x", "//receiver.example",
        "https://user:word@receiver.example/", "https://receiver.example/#x", "https://receiver.example:0/",
        "https://receiver.example:99999/", "https://receiver example/", "https://receiver.example\\@inside/",
        "https://bücher.example/", "https://[::1", "https://receiver.example/\r\nHost: inside", "", "x" * 3000,
        "https://10.0.0.1/", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest",
    ],
)  # fmt: skip
def test_urls_that_cannot_be_set(small_world: World, url: str) -> None:
    with pytest.raises(PolicyRefused) as refused, small_world.database.write() as session:
        create_webhook(
            session, small_world.log, small_world.keyring, tenant_id=small_world.account.tenant_id, actor="key",
            target=Target(url, SECRET), events=list(Event), to_loopback=False, now=now(),
        )  # fmt: skip
    assert refused.value.code in ("url_not_allowed", "address_not_public")
    assert small_world.count("webhook") == 0 and small_world.leaves("webhook:create") == []


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_abc", "whsec_" + "A" * 20, SECRET[6:], SECRET + "!", "whsec_é"],
    # The secret is drawn anew in each process, and all must call a test by the same name.
    ids=["empty", "prefix", "short", "half", "no prefix", "stray sign", "not base64"],
)
def test_secrets_that_cannot_be_set(secret: str) -> None:
    with pytest.raises(PolicyRefused, match="secret_malformed"):
        secret_key(secret)


def test_a_public_address_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET6, 1, 6, "", ("2606:2800:220:1::1", 443)), (socket.AF_INET, 1, 6, "", ("1.1.1.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert resolve("receiver.example", 443, "https", to_loopback=False) == "2606:2800:220:1::1"
