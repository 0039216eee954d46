"""What leaves is signed, says what it should and nothing else, or does not leave."""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import c2pa
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.oggopus import OggOpus
from tests.provenance.conftest import BESIDE, EMBEDDED, IDENTITY, MARK_KEY, MEDIA, ORIGIN, labelled, speech

from vivavoce.provenance import (
    Credential,
    Origin,
    ProvenanceError,
    ProvenanceState,
    Signed,
    bind_mark,
    binds,
    read_provenance,
    sign,
)
from vivavoce.sound import decode


def as_a_stranger_reads(file: Signed, kind: str, roots: str) -> dict[str, Any]:
    """By the library's own reader, set up here and not by the code that is tested."""
    trust = c2pa.Context.from_dict({"trust": {"trust_anchors": roots}, "verify": {"strict_v1_validation": True}})
    return json.loads(c2pa.Reader(MEDIA[kind], io.BytesIO(file.data), file.sidecar, context=trust).json())


@pytest.mark.parametrize("kind", MEDIA)
def test_the_librarys_own_reader_trusts_every_kind_of_file(
    signed: dict[str, Signed], kind: str, credential: Credential
) -> None:
    read = as_a_stranger_reads(signed[kind], kind, credential.roots)
    assert read["validation_state"] == "Trusted"
    results = read["validation_results"]["activeManifest"]
    assert results["failure"] == []
    assert {"claimSignature.validated", "assertion.dataHash.match"} <= {one["code"] for one in results["success"]} or (
        kind == "m4a" and "assertion.bmffHash.match" in {one["code"] for one in results["success"]}
    )


@pytest.mark.parametrize("kind", MEDIA)
def test_a_manifest_says_who_made_what_when_and_with_which_mark(
    signed: dict[str, Signed], kind: str, credential: Credential
) -> None:
    read = as_a_stranger_reads(signed[kind], kind, credential.roots)
    manifest = read["manifests"][read["active_manifest"]]
    data = {one["label"]: one["data"] for one in manifest["assertions"]}
    created, marked = data["c2pa.actions.v2"]["actions"]
    assert (created["action"], created["when"]) == ("c2pa.created", "2026-11-23T06:00:00Z")
    assert created["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert marked["action"] == "c2pa.watermarked.bound"
    assert data["c2pa.soft-binding"]["alg"] == "org.vivavoce.mark.2"
    assert data["c2pa.soft-binding"]["blocks"][0]["value"] == ORIGIN.binding
    assert data["org.vivavoce.output"] == {
        "output": ORIGIN.output_id,
        "time": "2026-11-23T06:00:00Z",
        "model": "test-model",
        "consentAssurance": "attested",
    }
    assert manifest["claim_generator_info"][0]["name"] == "Vivavoce"
    assert "ingredients" not in manifest or manifest["ingredients"] == []


@pytest.mark.parametrize("kind", MEDIA)
def test_our_own_reader_gives_back_the_origin(signed: dict[str, Signed], kind: str, credential: Credential) -> None:
    seen = read_provenance(signed[kind].data, credential.roots, signed[kind].sidecar)
    assert (seen.state, seen.output_id, seen.created_at) == ("valid", ORIGIN.output_id, "2026-11-23T06:00:00Z")
    assert seen.generated
    assert seen.binding is not None
    assert binds(MARK_KEY, IDENTITY, seen.binding)
    assert not binds(MARK_KEY, IDENTITY ^ 1, seen.binding)
    assert not binds(bytes(32), IDENTITY, seen.binding)


@pytest.mark.parametrize("kind", MEDIA)
def test_a_file_carries_its_manifest_or_has_it_beside_itself_unchanged(signed: dict[str, Signed], kind: str) -> None:
    assert (signed[kind].sidecar is None) == (kind in EMBEDDED)
    assert (signed[kind].data == labelled(kind)) == (kind in BESIDE)


@pytest.mark.parametrize("kind", [kind for kind in MEDIA if kind != "pcm"])
def test_signing_changes_no_sample(signed: dict[str, Signed], kind: str) -> None:
    before, after = decode(labelled(kind)), decode(signed[kind].data)
    assert (before.sample_rate, before.channels) == (after.sample_rate, after.channels)
    assert np.array_equal(before.samples, after.samples)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "aac"])
def test_the_tags_are_still_there_after_signing(signed: dict[str, Signed], kind: str) -> None:
    """Provider, system and version, time, unique id, and the label of GB 45438-2025."""
    data = signed[kind].data
    file = io.BytesIO(data)
    if kind == "wav":
        said = data.decode("latin-1")
    elif kind in ("mp3", "aac"):
        frames = ID3(file)
        said = "\n".join(str(frame) for frame in frames.values() if frame.FrameID != "GEOB")
        assert str(frames["TDRC"]) == "2026-11-23 06:00:00"
    else:
        said = "\n".join(f"{name}={value}" for name, value in (FLAC(file) if kind == "flac" else OggOpus(file)).tags)
    for words in ("Vivavoce 0.", "2026-11-23T06:00:00Z", ORIGIN.output_id, '"Label": "1"', "AI-generated"):
        assert words in said


def test_a_conversion_names_its_input_by_digest_alone(credential: Credential) -> None:
    digest = hashlib.sha256(b"a recording").hexdigest()
    file = sign(labelled("mp3"), "audio/mpeg", replace(ORIGIN, input_sha256=digest), credential)
    read = as_a_stranger_reads(file, "mp3", credential.roots)
    manifest = read["manifests"][read["active_manifest"]]
    (ingredient,) = manifest["ingredients"]
    assert ingredient["title"] == "Input recording"
    assert ingredient["relationship"] == "inputTo"
    # RFC 6920, worked out by hand: printf 'a recording' | sha256sum, then base64url.
    assert ingredient["instance_id"] == "ni:///sha-256;" + _base64url(digest)
    assert set(ingredient) <= {"title", "relationship", "instance_id", "label", "format"}
    created = next(one["data"] for one in manifest["assertions"] if one["label"] == "c2pa.actions.v2")["actions"][0]
    assert "c2pa.ingredient" in created["parameters"]["ingredients"][0]["url"]


def _base64url(digest: str) -> str:
    import base64

    return base64.b64encode(bytes.fromhex(digest)).decode().replace("+", "-").replace("/", "_").rstrip("=")


def test_the_identity_of_the_mark_is_nowhere_in_a_file(signed: dict[str, Signed]) -> None:
    plain = IDENTITY.to_bytes(6, "big")
    for file in signed.values():
        for written in (plain, plain[::-1], plain.hex().encode(), str(IDENTITY).encode()):
            assert written not in file.data.lower() + (file.sidecar or b"")


def test_bindings_of_neighbouring_identities_have_nothing_in_common() -> None:
    """What a linear binding would show: about half of the 256 bits must differ, whatever bit is flipped."""
    first = int(bind_mark(MARK_KEY, IDENTITY), 16)
    differing = [(first ^ int(bind_mark(MARK_KEY, IDENTITY ^ 1 << bit), 16)).bit_count() for bit in range(48)]
    assert 80 < min(differing) < max(differing) < 176


def test_two_signatures_of_one_file_state_the_same(credential: Credential) -> None:
    """The library salts what it writes, so bytes differ; ids, statements and the sound do not."""
    once, again = (sign(labelled("flac"), "audio/flac", ORIGIN, credential) for _ in range(2))
    first, second = (as_a_stranger_reads(file, "flac", credential.roots) for file in (once, again))
    assert first["active_manifest"] == second["active_manifest"]
    label = first["active_manifest"]
    for field in ("assertions", "title", "instance_id", "claim_generator_info"):
        assert first["manifests"][label][field] == second["manifests"][label][field]


def test_another_output_has_another_manifest(credential: Credential) -> None:
    other = replace(ORIGIN, output_id="out_01k9abcdefghjkmnpqrstvwxy0")
    labels = {
        as_a_stranger_reads(sign(labelled("wav", origin), "audio/wav", origin, credential), "wav", credential.roots)[
            "active_manifest"
        ]
        for origin in (ORIGIN, other)
    }
    assert len(labels) == 2


def test_many_threads_sign_and_read_at_once(credential: Credential) -> None:
    data = labelled("wav")

    def through(number: int) -> str | None:
        origin = replace(ORIGIN, output_id=f"out_01k9abcdefghjkmnpqrstv{number:04d}")
        return read_provenance(sign(data, "audio/wav", origin, credential).data, credential.roots).output_id

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(through, range(64)))
    assert found == [f"out_01k9abcdefghjkmnpqrstv{number:04d}" for number in range(64)]


def test_a_key_that_fails_gives_an_error_and_no_file(credential: Credential) -> None:
    """A hardware key that is gone, or one that signs wrongly: never an unsigned file."""

    class Broken(Credential):
        def sign(self, message: bytes) -> bytes:
            raise OSError("the key is gone")

    class Wrong(Credential):
        def sign(self, message: bytes) -> bytes:
            return bytes(64)

    for kind in (Broken, Wrong):
        bad = kind(credential.chain, credential.key, credential.roots, credential.development)
        with pytest.raises(ProvenanceError, match="signing_failed"):
            sign(labelled("wav"), "audio/wav", ORIGIN, bad)
    swapped = replace(credential, key=ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ProvenanceError, match="signing_failed"):
        sign(labelled("wav"), "audio/wav", ORIGIN, swapped)


@pytest.mark.parametrize("data", [b"", b"no sound", b"RIFF\x04\0\0\0WAVE"])
def test_what_is_no_such_file_is_not_signed(credential: Credential, data: bytes) -> None:
    with pytest.raises(ProvenanceError, match="signing_failed"):
        sign(data, "audio/mpeg" if data else "audio/wav", ORIGIN, credential)


def test_a_certificate_that_runs_out_while_a_worker_runs_signs_nothing_more(credential: Credential) -> None:
    later = datetime.now(UTC) + timedelta(days=3651)
    with pytest.raises(ProvenanceError, match="certificate_expired"):
        sign(labelled("wav"), "audio/wav", ORIGIN, credential, later)


def test_origin_holds_nothing_but_what_it_is_given() -> None:
    """A new field would go into every file: whoever adds one must think of people first."""
    assert set(Origin.__dataclass_fields__) == {
        "output_id", "created_at", "model_id", "assurance", "binding", "input_sha256",
    }  # fmt: skip


def test_a_silent_file_is_signed_like_any_other(credential: Credential) -> None:
    data = labelled("wav", samples=np.zeros_like(speech()))
    assert read_provenance(sign(data, "audio/wav", ORIGIN, credential).data, credential.roots).state == (
        ProvenanceState.VALID
    )
