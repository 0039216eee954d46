"""`vivavoce speak` and `vivavoce convert`: a sound made by a running service, in a voice it holds a consent for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from rich.console import Console
from rich.markup import escape

from vivavoce.consent import Purpose
from vivavoce.sound import FORMATS

_PAUSE_SECONDS = 0.3
_REQUEST_SECONDS = 60

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)

Voice = Annotated[str, typer.Option(help="Id of the voice: voice_...")]
Output = Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help=f"Ends in {', '.join(FORMATS)}.")]
Asked = Annotated[Purpose, typer.Option(help="What for; the consent must cover it.")]
Url = Annotated[str, typer.Option(envvar="VIVAVOCE_URL", help="Address of the service.")]
# No option: a key on a command line is seen by everybody on the machine.
Key = Annotated[str, typer.Option(envvar="VIVAVOCE_API_KEY", prompt="API key", hide_input=True, hidden=True)]


def speak(
    text: Annotated[str, typer.Argument(help="What is to be said.")],
    voice: Voice,
    output: Output,
    key: Key,
    purpose: Asked = Purpose.GENERAL,
    url: Url = "http://127.0.0.1:8000",
) -> None:
    """Have a text said in a consented voice. The service's API key comes from VIVAVOCE_API_KEY, or is asked for."""
    body = {"voice": voice, "input": text, "response_format": _format(output), "purpose": purpose}
    _make(url, key, output, "/v1/audio/speech", json=body)


def convert(
    recording: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Sound file with the words.")],
    voice: Voice,
    output: Output,
    key: Key,
    purpose: Asked = Purpose.GENERAL,
    url: Url = "http://127.0.0.1:8000",
) -> None:
    """Have a recording's words said in a consented voice. The API key comes from VIVAVOCE_API_KEY, or is asked for."""
    asked = {"params": {"output_format": _format(output)}, "data": {"purpose": purpose}}
    files = {"audio": (recording.name, recording.read_bytes())}
    _make(url, key, output, f"/v1/speech-to-speech/{voice}", files=files, **asked)


def _format(output: Path) -> str:
    wanted = output.suffix.removeprefix(".").lower()
    if wanted not in FORMATS:
        raise typer.BadParameter(f"the file must end in one of {', '.join(FORMATS)}", param_hint="--output")
    return wanted


def _make(url: str, key: str, output: Path, route: str, **request: Any) -> None:  # noqa: ANN401 - httpx's own parameters
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx2.Client(base_url=url, headers=headers, timeout=_REQUEST_SECONDS) as client:
            job = _read(client.post(route, headers={"Prefer": "respond-async"}, **request))
            job = _finished(client, job)
            sound = client.get(f"/v1/jobs/{job['id']}/output")
            if sound.status_code != 200:
                _read(sound)
    except httpx2.TransportError as error:
        _fail(f"no service answers at {url} ({type(error).__name__}); `vivavoce serve` starts one")
    output.write_bytes(sound.content)
    _out.print(f"{output}: {len(sound.content) / 1000:.0f} kB, marked and logged as {job['output']}", markup=False)


def _finished(client: httpx2.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for a job's end, saying how far it has come."""
    with _err.status("queued") as status:
        while job["status"] in ("queued", "running"):
            time.sleep(_PAUSE_SECONDS)
            job = _read(client.get(f"/v1/jobs/{job['id']}"))
            soon = "" if job["estimated_seconds"] is None else f", about {job['estimated_seconds']:.0f} s more"
            status.update(f"{job['stage'] or job['status']}{soon}")
    if job["status"] != "succeeded":
        _fail(f"{job['status']}: {job['error']['code']}: {job['error']['detail']}")
    return job


def _read(answer: httpx2.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    if answer.status_code >= 300:
        error = body.get("error", body)
        _fail(f"{error.get('code')}: {error.get('message') or error.get('detail')}")
    return body


def _fail(why: str) -> None:
    _err.print(f"[bold red]Failed:[/] {escape(why)}")
    raise typer.Exit(1)
