"""`vivavoce witness`: watch over somebody's log from another machine."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vivavoce.audit.errors import AuditError
from vivavoce.audit.notes import Verifier
from vivavoce.audit.witness import MAX_REQUEST_BYTES, Answer, Witness, make_witness

app = typer.Typer(no_args_is_help=True, help="A witness: cosigns a log's heads only as long as they are consistent.")

_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)
_IDLE_SECONDS = 30

Folder = Annotated[Path, typer.Argument(file_okay=False, help="The witness's folder.")]


@app.command()
def init(folder: Folder, name: Annotated[str, typer.Option(help="Such as witness.example/w1.")]) -> None:
    """Make a witness: its key, and its empty memory."""
    try:
        make_witness(folder, name)
    except AuditError as error:
        raise _failed(error) from error
    keys(folder)


@app.command()
def keys(folder: Folder) -> None:
    """Print the witness's public keys (Ed25519, ML-DSA-44), for whoever is to rely on it."""
    for key in _open(folder).cosigner.keys:
        _out.print(str(key), markup=False, highlight=False)


@app.command()
def trust(
    folder: Folder,
    log_key: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    note: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Head signed by the known key and this one, its next."),
    ] = None,
) -> None:
    """Begin to witness the log whose key is in this file, or go on with its next key."""
    try:
        log = Verifier.parse(log_key.read_text(errors="replace"))
        _open(folder).trust(log, None if note is None else note.read_text(errors="replace"))
    except AuditError as error:
        raise _failed(error) from error
    _out.print(f"witnessing {log.name}", markup=False)


@app.command()
def cosign(folder: Folder, request: Annotated[Path, typer.Argument(exists=True, dir_okay=False)]) -> None:
    """Answer one add-checkpoint request from a file: prints the cosignatures, or exits with 1."""
    try:
        answer = _open(folder).add_checkpoint(request.read_text(errors="replace"))
    except AuditError as error:
        raise _failed(error) from error
    if answer.status != 200:
        _err.print(f"[bold white on red] REFUSED [/] {answer.status}: {escape(answer.body.strip())}")
        raise typer.Exit(1)
    typer.echo(answer.body, nl=False)


@app.command()
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8021,
) -> None:
    """Answer over HTTP (tlog-witness): POST add-checkpoint."""
    server = make_server(_open(folder), host, port)
    _out.print(f"witness at http://{host}:{server.server_port}", markup=False)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


def make_server(witness: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """Make the HTTP server of a witness; the caller runs and closes it."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _IDLE_SECONDS

        def do_POST(self) -> None:
            self._answer(self._decide())

        def _decide(self) -> Answer:
            length = self.headers.get("Content-Length", "")
            if self.path != "/add-checkpoint":
                return Answer(404, "no such thing\n")
            if not length.isascii() or not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
                return Answer(400, "a request of unknown or too great length\n")
            try:
                return witness.add_checkpoint(self.rfile.read(int(length)).decode(errors="replace"))
            except AuditError as error:
                _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
                return Answer(500, "this witness cannot answer now\n")

        def _answer(self, answer: Answer) -> None:
            body = answer.body.encode(errors="replace")
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Keep quiet: what was asked is of no use, what was seen is in the folder."""

    return ThreadingHTTPServer((host, port), Handler)


def _open(folder: Path) -> Witness:
    try:
        return Witness(folder, lambda: int(time.time()))
    except AuditError as error:
        raise _failed(error) from error


def _failed(error: Exception) -> typer.Exit:
    _err.print(f"[bold red]Failed:[/] {escape(str(error))}")
    return typer.Exit(1)
