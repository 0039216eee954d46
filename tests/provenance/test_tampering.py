"""A manifest is believed for the very bytes it was made for, under our own signature, and for nothing else."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import c2pa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutagen.flac import FLAC
from mutagen.id3 import ID3, TIT2
from mutagen.mp4 import MP4
from tests.provenance.authority import Authority
from tests.provenance.conftest import BESIDE, EMBEDDED, MEDIA, ORIGIN, labelled, m4a, speech

from vivavoce.provenance import Credential, Origin, Provenance, Signed, open_credential, read_provenance, sign
from vivavoce.provenance.manifest import definition
from vivavoce.sound import SPEECH_RATE, decode, encode

SOUND = {"wav": b"data", "flac": b"fLaC", "mp3": b"\xff\xf3", "m4a": b"mdat"}
"""What comes just before the sound."""


def judged(file: Signed, credential: Credential) -> Provenance:
    return read_provenance(file.data, credential.roots, file.sidecar)


def store(data: bytes) -> tuple[int, int]:
    """Where the manifest store lies in a file: the JUMBF superbox (size, "jumb") around "c2pa"."""
    start = data.index(b"jumdc2pa") - 12
    return start, start + int.from_bytes(data[start : start + 4], "big")


@pytest.mark.parametrize("kind", MEDIA)
def test_one_bit_of_sound_changed(signed: dict[str, Signed], kind: str, credential: Credential) -> None:
    file = signed[kind]
    places = range(len(file.data)) if kind in BESIDE else range(_sound(kind, file.data), len(file.data))
    for place in np.random.default_rng(1).choice(places[16:], 25, replace=False):
        if kind == "wav" and store(file.data)[0] - 8 <= place:
            continue
        changed = bytearray(file.data)
        changed[place] ^= 1
        seen = judged(Signed(bytes(changed), file.sidecar), credential)
        assert (seen.state, seen.output_id, seen.binding) == ("invalid", None, None), place


def _sound(kind: str, data: bytes) -> int:
    behind = store(data)[1] if kind in ("mp3", "flac") else 0
    return data.index(SOUND[kind], behind)


@pytest.mark.parametrize("kind", MEDIA)
@pytest.mark.parametrize("change", [lambda data: data + b"\0", lambda data: data[:-1]], ids=["longer", "shorter"])
def test_a_byte_more_or_less(
    signed: dict[str, Signed], kind: str, change: Callable[[bytes], bytes], credential: Credential
) -> None:
    file = signed[kind]
    seen = judged(Signed(change(file.data), file.sidecar), credential)
    # A WAV that ends too early is no WAV to the library, and its manifest lies at the end: broken either way.
    assert seen.state == "invalid"


def _wav_retitled(data: bytes) -> bytes:
    return data.replace(b"AI-generated speech", b"My very own speech.", 1)


def _id3_retitled(data: bytes) -> bytes:
    file = io.BytesIO(data)
    tags = ID3(file)
    tags.add(TIT2(encoding=3, text=["My own speech"]))
    tags.save(file)
    return file.getvalue()


def _flac_retitled(data: bytes) -> bytes:
    file = io.BytesIO(data)
    tags = FLAC(file)
    tags["title"] = "My own speech"
    file.seek(0)
    tags.save(file, deleteid3=False)
    return file.getvalue()


def _mp4_retitled(data: bytes) -> bytes:
    file = io.BytesIO(data)
    tags = MP4(file)
    tags["\xa9nam"] = "My own speech"
    file.seek(0)
    tags.save(file)
    return file.getvalue()


RETITLED = {"wav": _wav_retitled, "mp3": _id3_retitled, "flac": _flac_retitled, "m4a": _mp4_retitled}


@pytest.mark.parametrize("kind", EMBEDDED)
def test_tags_changed_after_signing(signed: dict[str, Signed], kind: str, credential: Credential) -> None:
    changed = RETITLED[kind](signed[kind].data)
    assert changed != signed[kind].data
    assert b"jumdc2pa" in changed
    assert read_provenance(changed, credential.roots).state == "invalid"


@pytest.mark.parametrize("kind", EMBEDDED)
def test_re_encoded_there_is_no_manifest_left(signed: dict[str, Signed], kind: str, credential: Credential) -> None:
    sound = decode(signed[kind].data)
    again = m4a(sound.samples) if kind == "m4a" else encode(sound.samples, SPEECH_RATE, kind)  # type: ignore[arg-type]
    seen = read_provenance(again, credential.roots)
    assert (seen.state, seen.generated, seen.output_id) == ("none", False, None)


@pytest.mark.parametrize("kind", MEDIA)
def test_a_manifest_of_another_file(signed: dict[str, Signed], kind: str, credential: Credential) -> None:
    """A real manifest of ours, on a sound that is not the one it was made for."""
    louder = sign(labelled(kind, samples=speech() * np.float32(0.9)), MEDIA[kind], ORIGIN, credential)
    if kind in BESIDE:
        pasted = Signed(louder.data, signed[kind].sidecar)
    else:
        (begin, end), (start, stop) = store(louder.data), store(signed[kind].data)
        assert end - begin == stop - start
        pasted = Signed(louder.data[:begin] + signed[kind].data[start:stop] + louder.data[end:], None)
    assert judged(louder, credential).state == "valid"
    seen = judged(pasted, credential)
    assert (seen.state, seen.output_id) == ("invalid", None)


def test_a_sidecar_beside_a_file_that_carries_another(signed: dict[str, Signed], credential: Credential) -> None:
    """What came beside the file was asked about; a good manifest inside does not make up for it."""
    seen = read_provenance(signed["wav"].data, credential.roots, signed["opus"].sidecar)
    assert seen.state == "invalid"


@pytest.mark.parametrize("kind", MEDIA)
def test_a_stranger_who_calls_himself_vivavoce(kind: str, credential: Credential, tmp_path: Path) -> None:
    """Same words, same fields, his own certificate: nothing of what he says is passed on as true."""
    stranger = open_credential(Authority().write(tmp_path))
    file = sign(labelled(kind), MEDIA[kind], ORIGIN, stranger)
    assert judged(file, stranger).state == "valid"
    seen = judged(file, credential)
    assert (seen.state, seen.problems) == ("untrusted", ("signingCredential.untrusted",))
    assert (seen.output_id, seen.created_at, seen.binding) == (None, None, None)
    assert seen.generated, "that it is generated may be believed of anybody who says so of his own file"
    assert read_provenance(file.data, "", file.sidecar).state == "untrusted", "no roots, no trust"


def test_a_stranger_who_signs_over_our_manifest(credential: Credential, tmp_path: Path) -> None:
    """He opens our file, adds his claim, and keeps our manifest as his ingredient: the file is now his word."""
    ours = sign(labelled("wav"), "audio/wav", ORIGIN, credential)
    stranger = open_credential(Authority().write(tmp_path))
    context = c2pa.Context.from_dict({"trust": {"trust_anchors": credential.roots + stranger.roots}})
    builder = c2pa.Builder({"claim_generator_info": [{"name": "other", "version": "1"}]}, context)
    builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
    signer = c2pa.Signer.from_callback(stranger.sign, c2pa.C2paSigningAlg.ES256, stranger.chain_pem())
    written = io.BytesIO()
    builder.sign(signer, "audio/wav", io.BytesIO(ours.data), written)
    seen = read_provenance(written.getvalue(), credential.roots)
    assert (seen.state, seen.output_id) == ("untrusted", None)
    assert seen.generated, "the manifest that he builds on says so"


def test_our_signature_without_our_statements_names_no_output(credential: Credential) -> None:
    """Roots may be shared with others: what they sign is valid, and is no output of ours."""
    context = c2pa.Context.from_dict({"trust": {"trust_anchors": credential.roots}})
    plain = definition(ORIGIN, "audio/wav")
    created = plain["assertions"][0]["data"]["actions"][0]
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
    builder = c2pa.Builder({**plain, "assertions": [actions]}, context)
    signer = c2pa.Signer.from_callback(credential.sign, c2pa.C2paSigningAlg.ES256, credential.chain_pem())
    written = io.BytesIO()
    builder.sign(signer, "audio/wav", io.BytesIO(labelled("wav")), written)
    seen = read_provenance(written.getvalue(), credential.roots)
    assert (seen.state, seen.output_id, seen.created_at, seen.binding) == ("valid", None, None, None)


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """A server, its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/manifest.c2pa", asked
    server.shutdown()
    server.server_close()


def test_reading_never_asks_the_network(credential: Credential, requests: tuple[str, list[str]]) -> None:
    """A file may name an address for its manifest. Fetched, it would tell that server who looks at the file."""
    address, asked = requests
    builder = c2pa.Builder(definition(ORIGIN, "audio/wav"), c2pa.Context())
    builder.set_no_embed()
    builder.set_remote_url(address)
    signer = c2pa.Signer.from_callback(credential.sign, c2pa.C2paSigningAlg.ES256, credential.chain_pem())
    written = io.BytesIO()
    builder.sign(signer, "audio/wav", io.BytesIO(labelled("wav")), written)
    with pytest.raises(c2pa.C2paError):
        c2pa.Reader("audio/wav", io.BytesIO(written.getvalue()), context=c2pa.Context())
    assert asked == ["/manifest.c2pa"], "the library's defaults would ask"
    asked.clear()
    seen = read_provenance(written.getvalue(), credential.roots)
    assert (seen.state, asked) == ("none", [])
    assert "remote" in seen.reason.lower()


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("sidecar", [b"", b"junk" * 10, b"\0" * 5000])
def test_a_sidecar_that_is_none(signed: dict[str, Signed], kind: str, sidecar: bytes, credential: Credential) -> None:
    assert read_provenance(signed[kind].data, credential.roots, sidecar).state == "invalid"
    assert read_provenance(signed[kind].data, credential.roots).state == "none"


@given(data=st.data())
def test_no_bytes_break_the_reader(signed: dict[str, Signed], credential: Credential, data: st.DataObject) -> None:
    """Cut, changed and mixed files give an answer; a good one only while every byte outside the store is as signed."""
    kind = data.draw(st.sampled_from(EMBEDDED))
    original = signed[kind].data
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 5))):
        # Half of the changes go into the manifest store.
        begin, end = store(original) if data.draw(st.booleans()) else (0, len(original))
        changed[data.draw(st.integers(begin, end - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(0, len(original)))]) if data.draw(st.booleans()) else bytes(changed)
    seen = read_provenance(cut, credential.roots)
    if seen.state == "valid":
        begin, end = store(original)
        assert (cut[:begin], cut[end:]) == (original[:begin], original[end:])
        assert seen == read_provenance(original, credential.roots)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"RIFF\x10\0\0\0WAVE", b"fLaC", b"ID3\x04\0", b"\xff\xfb", b"\0\0\0\x18ftypM4A "]),
)
def test_junk_has_no_manifest(credential: Credential, junk: bytes, head: bytes) -> None:
    assert read_provenance(head + junk, credential.roots).state == "none"


@pytest.mark.parametrize("kind", EMBEDDED)
def test_a_file_on_disk_is_read_like_its_bytes(
    signed: dict[str, Signed], kind: str, credential: Credential, tmp_path: Path
) -> None:
    data, path = signed[kind].data, tmp_path / "file"
    for content in (data, data[:-1], data[: len(data) // 2], b"", b"junk"):
        path.write_bytes(content)
        assert read_provenance(path, credential.roots) == read_provenance(content, credential.roots)
    with pytest.raises(OSError, match="nowhere"):
        read_provenance(tmp_path / "nowhere", credential.roots)


def test_an_origin_may_say_anything_without_breaking_anything(credential: Credential) -> None:
    odd = Origin("out_\u2028\"'<b>", ORIGIN.created_at, "модель \U0001f3a4" * 20, "", ORIGIN.binding)
    file = sign(labelled("flac", odd), "audio/flac", odd, credential)
    assert judged(file, credential).output_id == odd.output_id
    assert judged(replace(file, data=file.data[:-2]), credential).state == "invalid"
