"""The application as a whole: no torch, one place that serves sound, a document that renders, no leaking errors."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from tests.api.conftest import RECORDING, Installation
from tests.api.test_auth import LINKED_ROUTE, OPEN, routes
from tests.api.test_one_door import SOUNDING

from vivavoce.api import serving
from vivavoce.api.document import EXAMPLES
from vivavoce.sound import MEDIA_TYPES

HOST = """
import sys
attempts = []
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchaudio", "audioseal") or name.startswith("vivavoce.model"):
            attempts.append(name)
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Block())
from pathlib import Path
from vivavoce.cli.first_run import prepare
from vivavoce.settings import ApiSettings
settings = ApiSettings(home=Path(sys.argv[1]))
key = prepare(settings)
from vivavoce.api.app import create_app
from fastapi.testclient import TestClient
client = TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"})
assert client.get("/readyz").status_code == 200
assert client.post("/v1/audio/speech", json={"voice": "v", "input": "hello"}).status_code == 404
import vivavoce.cli.serve, vivavoce.cli.keys
assert not attempts, attempts
assert not {name.split(".")[0] for name in sys.modules} & {"torch", "torchaudio", "audioseal"}
"""


HEARD = {"/console/outputs/{output_id}/sound", "/console/reviews/{review_id}/recordings/{side}"}
"""What operators hear: `test_one_door.py` sees what comes out."""
NO_SOUND = (
    *("JSONResponse(", "accepted(", "PlainTextResponse(", "page(", "_asking(", "report_pdf(", "export_subject("),
    *("show(", "_page(", "_drawn(", "RedirectResponse("),
)


def test_an_api_host_needs_no_torch(tmp_path: Path) -> None:
    """It is not missed where it is absent, and nobody even tries."""
    command = [sys.executable, "-c", HOST, str(tmp_path / "home")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sound_is_described_only_where_serving_answers(installation: Installation) -> None:
    """Each route that can answer with raw bytes ends in `serving`; all others have a model, plain text, or a page."""
    sounding = set()
    for route in routes(installation):
        answers = json.dumps(list(route.responses.values()), default=str)
        if any(kind in answers for kind in MEDIA_TYPES.values()):
            sounding.add(route.path)
            source = inspect.getsource(route.endpoint)
            assert any(served in source for served in ("sound_answer(", "stream_answer(", "serving.serve(")), route.path
        elif route.path in HEARD:
            continue
        elif "Response" in str(inspect.signature(route.endpoint).return_annotation):
            source = inspect.getsource(route.endpoint)
            assert any(made in source for made in NO_SOUND) and "serving" not in source, route.path
    assert sounding == {path for _, path in SOUNDING}


@pytest.mark.parametrize("forged", [b"RIFF", "x", None, object(), {"data": b"RIFF"}])
def test_serving_takes_nothing_but_what_was_released(forged: Any) -> None:
    with pytest.raises(TypeError, match="released"):
        serving.audio(forged, "job", "attested")


def test_a_look_alike_is_not_released() -> None:
    class Released:
        data, media_type, output_id, filename = b"RIFF", "audio/wav", "out", "x.wav"

    with pytest.raises(TypeError, match="released"):
        serving.audio(Released(), "job", "attested")  # type: ignore[arg-type]


def test_the_openapi_document_renders_with_every_route(installation: Installation) -> None:
    document = installation.client.get("/openapi.json").json()
    for route in routes(installation):
        if not route.include_in_schema:
            assert route.path in OPEN or route.path.startswith(LINKED_ROUTE)  # pages for people
            continue
        assert route.path in document["paths"]
        for method in route.methods:
            operation = document["paths"][route.path][method.lower()]
            assert operation["description"] and operation["tags"], route.path
            assert " " in operation["summary"] and len(operation["summary"]) < 120, operation["summary"]
    assert document["components"]["securitySchemes"]


def test_every_operation_has_an_example_that_fits_its_schema(installation: Installation) -> None:
    document = installation.client.get("/openapi.json").json()
    shown = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bodies = operation.get("requestBody", {}).get("content", {})
            answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            told = [
                one["content"]["application/json"] for one in answers if "application/json" in one.get("content", {})
            ]
            for content in (*bodies.values(), *told):
                assert "example" in content, (method, path)
                schema = {"$defs": document["components"]["schemas"], **content["schema"]}
                text = json.dumps(schema).replace("#/components/schemas/", "#/$defs/")
                jsonschema_rs.validate(json.loads(text), content["example"])
                shown += 1
    assert shown > 60
    unknown = set(json.loads(EXAMPLES.read_text())) - {
        f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations
    }
    assert unknown == set()


def test_an_unforeseen_error_tells_nothing_of_itself(installation: Installation, monkeypatch: Any) -> None:
    """A bug answers 500 in the shape of all errors, with no word of what happened inside."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret is 1234")

    monkeypatch.setattr("vivavoce.api.routes.voices.find_voice", broken)
    monkeypatch.setattr("vivavoce.api.routes.jobs.find_job", broken)
    headers = installation.key()
    for route in ("/v1/audio/voices/x", "/v1/jobs/x"):
        answer = installation.client.get(route, headers=headers)
        body = answer.json()
        assert answer.status_code == 500 and (body.get("error") or body)["code"] == "internal_error"
        assert "1234" not in answer.text and "RuntimeError" not in answer.text


def test_a_database_that_is_away(installation: Installation, monkeypatch: Any) -> None:
    """Its error is no bug of the request: 503, and the caller may come again."""
    headers = installation.key()
    with installation.services.database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE voice RENAME TO gone")
    answer = installation.client.get("/v1/audio/voices", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
    assert answer.headers["retry-after"]


def test_a_store_that_is_away(installation: Installation) -> None:
    headers = installation.key()
    before = {name: count for name, count in installation.state().items() if name != "objects"}
    folder = installation.services.settings.home / "objects"
    for child in sorted(folder.rglob("*"), reverse=True):
        child.rmdir() if child.is_dir() else child.unlink()
    folder.rmdir()
    folder.write_text("not a folder any more")
    answer = installation.client.post(
        "/v1/audio/voice_consents",
        headers=headers,
        data={"name": "x", "language": "en"},
        files={"recording": ("a.flac", RECORDING)},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert installation.client.get("/readyz").json()["store"] == "unavailable"
    folder.unlink()
    folder.mkdir()
    assert {name: count for name, count in installation.state().items() if name != "objects"} == before
