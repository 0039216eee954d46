"""`/v1/audit`: entries, signed heads and proofs of the log (RFC 6962, C2SP tlog-checkpoint)."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel
from sqlalchemy import select

from vivavoce.api.gate import Caller, allowed
from vivavoce.api.scopes import Scope
from vivavoce.api.services import Here
from vivavoce.audit.entries import Entry
from vivavoce.audit.tags import Tag
from vivavoce.ledger.tables import AuditLeaf

router = APIRouter(prefix="/v1/audit", tags=["audit"])

Reader = Annotated[Caller, allowed(Scope.AUDIT_READ)]
Place = Annotated[int, Query(ge=0, lt=2**53)]


class EntryView(BaseModel):
    """One entry."""

    index: int
    hash: str
    """RFC 6962 leaf hash, hexadecimal."""
    data: str
    """The leaf's own bytes, base64: what the hash is of."""
    entry: dict[str, Any]
    """The same, read."""


class EntryPage(BaseModel):
    """Entries in the order of the log; `after` of the last gives the next page."""

    object: Literal["list"] = "list"
    data: list[EntryView]
    has_more: bool


class ProofView(BaseModel):
    """A Merkle proof (RFC 9162 section 2.1.3 or 2.1.4)."""

    size: int
    hashes: list[str]
    """Base64, from the bottom up."""


@router.get("/entries")
def entries(
    caller: Reader,
    here: Here,
    after: Annotated[int, Query(ge=-1, lt=2**53)] = -1,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    tag: Tag | None = None,
) -> EntryPage:
    """Read entries behind `after`: the tenant's own, or everybody's with the scope `admin`, which is itself logged."""
    statement = select(AuditLeaf).where(AuditLeaf.index > after)
    if Scope.ADMIN in caller.scopes:
        with here.database.write() as session:
            here.log.append(session, Entry(Tag.LOG_READ, caller.tenant_id, caller.key_id, {}, {"after": after}))
    else:
        statement = statement.where(AuditLeaf.tenant_id == caller.tenant_id)
    if tag is not None:
        statement = statement.where(AuditLeaf.tag == tag)
    with here.database.read() as session:
        leaves = session.scalars(statement.order_by(AuditLeaf.index).limit(limit + 1)).all()
    return EntryPage(data=[entry_view(leaf) for leaf in leaves[:limit]], has_more=len(leaves) > limit)


@router.get("/checkpoint", response_class=PlainTextResponse)
def checkpoint(caller: Reader, here: Here) -> str:  # noqa: ARG001 - the scope is the point
    """Sign the log's present head; a C2SP signed note."""
    with here.database.write() as session:
        return here.log.checkpoint(session)


@router.get("/proofs/inclusion")
def inclusion(caller: Reader, here: Here, index: Place, size: Place) -> ProofView:  # noqa: ARG001
    """Prove that leaf `index` is in the tree of `size` leaves."""
    with here.database.read() as session:
        return ProofView(size=size, hashes=encoded(here.log.inclusion(session, index, size)))


@router.get("/proofs/consistency")
def consistency(caller: Reader, here: Here, old: Place, new: Place) -> ProofView:  # noqa: ARG001
    """Prove that the first `old` leaves are a beginning of the first `new`."""
    with here.database.read() as session:
        return ProofView(size=new, hashes=encoded(here.log.consistency(session, old, new)))


def entry_view(leaf: AuditLeaf) -> EntryView:
    """Show a leaf."""
    data = base64.b64encode(leaf.data).decode()
    return EntryView(index=leaf.index, hash=leaf.hash.hex(), data=data, entry=json.loads(leaf.data))


def encoded(hashes: list[bytes]) -> list[str]:
    """Write hashes in base64."""
    return [base64.b64encode(hash_).decode() for hash_ in hashes]
