"""One door: the lint passes over the whole house, and catches what somebody may plant there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lints.one_door import AREAS, ROOT, check, check_areas


def rules(source: str, module: str = "vivavoce.api.routes.speech") -> list[str]:
    return [violation.rule for violation in check(source, module)]


def test_the_house_has_one_door() -> None:
    assert [str(violation) for violation in check_areas()] == []


def test_the_lint_looks_at_all_areas_and_at_the_door_itself() -> None:
    """A lint that looks at nothing passes too: taken for another module, the door's own code is full of violations."""
    for area in AREAS:
        assert list((ROOT / area).rglob("*.py"))
    for name, rule in (("marking", "encode"), ("door", "output"), ("sealed", "")):
        source = (ROOT / "safety/vivavoce/release" / f"{name}.py").read_text()
        assert check(source, f"vivavoce.release.{name}") == []
        assert rule in ["", *rules(source, f"vivavoce.workers.{name}")]


def test_it_runs_as_a_command() -> None:
    command = [sys.executable, "-m", "tests.lints.one_door"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "source",
    [
        "from vivavoce.sound import encode",
        "from vivavoce.sound import encode as e",
        "from vivavoce.sound import *",
        "from vivavoce.sound.encode import encode",
        "from vivavoce.sound.encode import _lossless",
        "from vivavoce.sound.encode import *",
        "from vivavoce.sound.lossy import compress",
        "from vivavoce.sound.lossy import *",
        "from vivavoce.sound import lossy\nlossy.compress(wave, 24000)",
        "import vivavoce.sound\nvivavoce.sound.encode(wave, 16000, 'wav')",
        "import vivavoce.sound as s\nwrite = s.encode",
        "from vivavoce import sound\nsound.encode(wave, 16000, 'wav')",
        "from vivavoce import sound\nmap(sound.encode, waves)",
        "import vivavoce.sound.encode as m\nm.encode",
        "from vivavoce import sound\ngetattr(sound, 'enc' + 'ode')",
        "import importlib\nimportlib.import_module('vivavoce.sound')",
        "def later():\n    from vivavoce.sound import encode\n    return encode",
        "def early():\n    return sound.encode\nfrom vivavoce import sound",
    ],
)
@pytest.mark.parametrize("module", ["vivavoce.api.x", "vivavoce.workers.x", "vivavoce.model.x", "vivavoce.watermark.x"])
def test_nobody_else_encodes(source: str, module: str) -> None:
    assert "encode" in rules(source, module)
    assert "encode" not in rules(source, "vivavoce.release.x")


def test_relative_imports_are_followed() -> None:
    assert rules("from ..sound import encode", "vivavoce.workers.jobs") == ["encode"]
    assert rules("from . import sound\nsound.encode", "vivavoce.other") == ["encode"]
    (violation,) = check("from .sound import encode", "vivavoce", package=True)
    assert violation.rule == "encode"


@pytest.mark.parametrize(
    "source",
    [
        "from vivavoce.release.door import Released\nReleased(data=b'')",
        "from vivavoce.release import door\ndoor.Released(b'')",
        "from vivavoce.release.marking import Marked as M\nM(data=b'')",
        "from vivavoce.release.door import Deposited\nDeposited(None, None, '')",
        "from vivavoce.ledger.tables import Output\nOutput(id='x')",
        "import vivavoce.ledger.tables as t\nt.Output()",
        "from vivavoce.release.sealed import TOKEN",
        "import vivavoce.release.sealed\nvivavoce.release.sealed.TOKEN",
        "from vivavoce.release.door import Released\nobject.__new__(Released)",
    ],
)
def test_nobody_else_makes_proofs(source: str) -> None:
    assert "proof" in rules(source)
    assert rules(source, "vivavoce.release.x") == []


@pytest.mark.parametrize(
    "source",
    [
        "data = store.get(f'outputs/{job_id}/1')",
        "KEY = 'outputs/' + job_id",
        "for key in store.list('outputs'): pass",
        "FOLDER = 'outputs'",
        "data = store.get(output.object_key)",
        "data = store.get(job.output.object_key)",
    ],
)
def test_nobody_else_reads_outputs(source: str) -> None:
    assert rules(source) == ["output"]


@pytest.mark.parametrize(
    "source",
    ["import soundfile", "import av", "import wave", "from scipy.io import wavfile", "import soundfile as sf"],
)
def test_nobody_else_writes_sound_files(source: str) -> None:
    for module in ("vivavoce.api.x", "vivavoce.workers.x", "vivavoce.watermark.marker", "vivavoce.consent.x"):
        assert rules(source, module) == ["writer"]
    assert rules(source, "vivavoce.sound.x") == []


@pytest.mark.parametrize(
    "source",
    [
        "from fastapi import Response\ndef f(data): return Response(data, media_type='audio/wav')",
        "from fastapi import Response\ndef f(data): return Response(content=data)",
        "from fastapi.responses import StreamingResponse as S\ndef f(chunks): return S(chunks)",
        "from starlette.responses import FileResponse\ndef f(path): return FileResponse(path=path)",
        "import fastapi\ndef f(data, **more): return fastapi.Response(**more)",
        "from fastapi import Response\ndef f(data, kind): return Response(data, media_type=kind)",
        "from fastapi import Response\n@app.get('/', response_class=Response)\ndef f(): return data",
        "from fastapi import Response\n@app.get('/', response_class=Response)\ndef f() -> bytes: return data",
        "from fastapi import FastAPI, Response\napp = FastAPI(default_response_class=Response)",
        "from fastapi import Response\nclass Audio(Response): pass",
        "async def f(send): await send({'type': 'http.response.body', 'body': data})",
        "from vivavoce.release.door import open_output\ndef f(): return {'b64': open_output().data}",
    ],
)
def test_no_other_function_answers_with_bytes(source: str) -> None:
    assert rules(source) == ["answer"]


@pytest.mark.parametrize(
    "source",
    [
        "from fastapi import Response\ndef f(r: Released): return Response(r.data, media_type=r.media_type)",
        "from fastapi import Response\ndef f(r: 'door.Released'): return Response(r.data)",
        "from fastapi import Response\ndef f(): return Response(status_code=204)",
        "from fastapi import Response\n@app.get('/', response_class=Response)\ndef f() -> Response: return serve()",
        "from fastapi import Response\ndef f(note): return Response(note, media_type='text/plain; charset=utf-8')",
        "from fastapi.responses import JSONResponse\ndef f(): return JSONResponse({}, 202)",
        "from vivavoce.sound import FORMATS, MEDIA_TYPES, decode",
        "from vivavoce.ledger.tables import Output\nselect(Output.id).where(Output.job_id == job_id)",
        "facts = {'outputs': ['out_1']}\nfacts.get('output')",
        '"""Reads nothing of outputs/, and speaks of it."""',
    ],
)
def test_what_is_no_sound_passes(source: str) -> None:
    assert rules(source) == []


def test_an_exception_is_written_down_with_its_reason() -> None:
    planted = "store.list('outputs')"
    assert rules(f"{planted}  # door: finds orphans by name, reads none") == []
    assert rules(f"# door: finds orphans by name, reads none\n{planted}") == []
    assert rules(f"{planted}  # door: because") == ["escape", "output"]
    assert rules(f"# door: finds orphans by name, reads none\n\n{planted}") == ["output"]
