"""`/console/audit`: search the log, look at an entry, check its proof, take entries away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.orm import Session

from vivavoce.api.problems import Problem
from vivavoce.api.routes.audit import entry_view
from vivavoce.api.services import Here, Services
from vivavoce.audit.entries import timestamp
from vivavoce.audit.publishing import prove_leaf
from vivavoce.audit.search import Query, names_of_person, search
from vivavoce.audit.tags import Tag
from vivavoce.console.desk import CONSOLE_HEADERS, Operator, Reader, show, write_down
from vivavoce.console.pages import CONSOLE
from vivavoce.console.proof import check_leaf
from vivavoce.ledger.ids import is_id
from vivavoce.ledger.tables import AuditLeaf, Consent, Output

router = APIRouter(prefix=f"{CONSOLE}/audit", tags=["console"], include_in_schema=False)

Place = Annotated[int, Path(ge=0, lt=2**53)]
_PAGE = 50
_MOST_EXPORTED = 10_000


@dataclass(frozen=True)
class Search:
    """The search form, as it was sent."""

    person: str = ""
    key: str = ""
    output: str = ""
    event: str = ""
    since: str = ""
    until: str = ""
    before: str = ""

    def address(self, before: int | None) -> str:
        """Give the query string of the page that goes on before a leaf."""
        said = {name: value for name, value in vars(self).items() if value and name != "before"}
        return urlencode(said if before is None else said | {"before": before})


class _Unclear(ValueError):
    """A field of the form that cannot be read."""


Asked = Annotated[Search, Depends()]


@router.get("")
def find(asked: Asked, operator: Reader, here: Here) -> Response:
    """Search the log."""
    _logged(here, operator, Tag.LOG_READ, asked)
    try:
        with here.database.read() as session:
            found = search(session, here.log, _query(session, asked), _before(asked), _PAGE)
    except _Unclear as unclear:
        return show("audit.html", operator, status=422, asked=asked, tags=list(Tag), problem=str(unclear), rows=[])
    rows = entries(found.leaves)
    older = None if found.before is None else asked.address(found.before)
    return show("audit.html", operator, asked=asked, tags=list(Tag), problem=None, rows=rows, older=older)


@router.get("/export")
def export(asked: Asked, operator: Reader, here: Here) -> Response:
    """Hand out what a search finds, as JSON lines; the last line says where to go on if there is more."""
    _logged(here, operator, Tag.LOG_EXPORT, asked)
    lines: list[str] = []
    before = _before(asked)
    try:
        with here.database.read() as session:
            query = _query(session, asked)
            while len(lines) < _MOST_EXPORTED:
                found = search(session, here.log, query, before, 1000)
                lines += [entry_view(leaf).model_dump_json() for leaf in found.leaves]
                before = found.before
                if before is None:
                    break
    except _Unclear as unclear:
        raise Problem(422, "invalid_request", str(unclear)) from unclear
    lines += [] if before is None else [json.dumps({"goes_on_before": before})]
    headers = CONSOLE_HEADERS | {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    return PlainTextResponse("".join(f"{line}\n" for line in lines), media_type="text/plain", headers=headers)


@router.get("/{index}")
def read(index: Place, operator: Reader, here: Here) -> Response:
    """Show an entry."""
    leaf = _leaf(here, operator, index)
    return show("leaf.html", operator, steps=None, **_shown(leaf))


@router.post("/{index}/verify")
def verify(index: Place, operator: Reader, here: Here) -> Response:
    """Check an entry against the log's signed head, and show each step."""
    leaf = _leaf(here, operator, index)
    return show("leaf.html", operator, steps=check_leaf(here, leaf), **_shown(leaf))


@router.get("/{index}/proof")
def proof(index: Place, operator: Reader, here: Here) -> Response:
    """Hand out an entry's proof: one file that `vivavoce audit check` checks anywhere."""
    _leaf(here, operator, index)
    with here.database.write() as session:
        text = prove_leaf(session, here.log, index, here.log.checkpoint(session))
    headers = CONSOLE_HEADERS | {"Content-Disposition": f'attachment; filename="leaf-{index}.tlog-proof"'}
    return PlainTextResponse(text, headers=headers)


def entries(leaves: Sequence[AuditLeaf]) -> list[dict[str, Any]]:
    """Read what leaves say. One whose bytes are no entry any more is shown by what the row knows of it."""
    return [_entry(leaf) for leaf in leaves]


def _entry(leaf: AuditLeaf) -> dict[str, Any]:
    row = {"index": leaf.index, "time": timestamp(leaf.created_at), "tag": leaf.tag, "tenant": leaf.tenant_id}
    try:
        said = json.loads(leaf.data)
    except ValueError:
        said = None
    return said if isinstance(said, dict) else row | {"actor": "unreadable", "refs": {}, "facts": {}, "personal": None}


def _leaf(here: Services, operator: Operator, index: int) -> AuditLeaf:
    write_down(here, operator, Tag.LOG_READ, {"leaf": index})
    with here.database.read() as session:
        leaf = session.get(AuditLeaf, index)
    if leaf is None:
        raise Problem(404, "no_such_leaf", "The log has no such entry.")
    return leaf


def _shown(leaf: AuditLeaf) -> dict[str, Any]:
    entry = _entry(leaf)
    return {"leaf": leaf, "entry": entry, "facts": json.dumps(entry["facts"], indent=2, sort_keys=True)}


def _logged(here: Services, operator: Operator, tag: Tag, asked: Search) -> None:
    # Only what has the shape of ours: a field may hold anything.
    named = {name: getattr(asked, name) for name in ("person", "key", "output") if is_id(getattr(asked, name))}
    facts = {"event": asked.event} if asked.event in list(Tag) else {}
    write_down(here, operator, tag, named, facts)


def _query(session: Session, asked: Search) -> Query:
    named = [_person(session, asked.person), _key(asked.key), _output(session, asked.output)]
    if asked.event and asked.event not in list(Tag):
        raise _Unclear("There is no such event.")
    return Query(
        named=[names for names in named if names],
        tag=Tag(asked.event) if asked.event else None,
        since=_moment(asked.since),
        until=_moment(asked.until),
    )


def _person(session: Session, name: str) -> set[str]:
    if not name:
        return set()
    consent = session.get(Consent, name) if is_id(name) else None
    if consent is None and not (is_id(name) and name.startswith("sub_")):
        raise _Unclear("A person is named by the id of the subject (sub_...), or of a consent (cons_...) of theirs.")
    return names_of_person(session, name if consent is None else consent.subject_id)


def _key(name: str) -> set[str]:
    if not name or is_id(name) or name.startswith(("operator", "worker:")):
        return {name} - {""}
    raise _Unclear("Who did it is an API key (key_...), an account (operator:name), operator or worker:name.")


def _output(session: Session, name: str) -> set[str]:
    if not name:
        return set()
    output = session.get(Output, name) if is_id(name) else None
    if output is None:
        raise _Unclear("There is no such output (out_...).")
    return {output.id, output.job_id}


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None
    except ValueError as error:
        raise _Unclear("A time reads like 2026-11-23T21:00, in UTC.") from error


def _before(asked: Search) -> int | None:
    if not asked.before:
        return None
    if not (asked.before.isascii() and asked.before.isdigit()) or len(asked.before) > 15:
        raise Problem(422, "invalid_request", "That is not the place of an entry.")
    return int(asked.before)
