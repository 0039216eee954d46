"""Checking that the log holds an entry, step by step, so that a reader can follow."""

from __future__ import annotations

from dataclasses import dataclass

from vivavoce.api.services import Services
from vivavoce.audit import merkle
from vivavoce.audit.entries import place_and_time
from vivavoce.audit.errors import HeadConflict, LogBroken, NoteInvalid
from vivavoce.audit.heads import Heads
from vivavoce.audit.notes import Checkpoint
from vivavoce.ledger.tables import AuditLeaf


@dataclass(frozen=True)
class Step:
    """One check, and how it went."""

    good: bool
    said: str


def check_leaf(services: Services, leaf: AuditLeaf) -> list[Step]:
    """Check a leaf against the log's signed head; stops at the first step that fails."""
    steps = [_own_hash(leaf), _own_place(leaf)]
    if not all(step.good for step in steps):
        return steps
    try:
        with services.database.write() as session:
            note = services.log.checkpoint(session)
            head = Checkpoint.open(note, *services.log.verifiers)
            path = services.log.inclusion(session, leaf.index, head.size)
    except (LogBroken, NoteInvalid) as error:
        return [*steps, Step(False, f"The log's head cannot be signed: {error}")]
    steps.append(Step(True, f"The head of {head.size} leaves is signed by {services.log.verifier.name}."))
    proven = merkle.verify_inclusion(leaf.hash, leaf.index, head.size, path, head.root)
    way = f"{len(path)} hashes of the inclusion proof lead from the leaf to the signed root {head.root.hex()}"
    steps.append(Step(proven, f"{way}." if proven else "The inclusion proof does not lead to the signed root."))
    return [*steps, _kept(services)]


def _own_hash(leaf: AuditLeaf) -> Step:
    made = merkle.leaf_hash(leaf.data)
    if made != leaf.hash:
        return Step(False, f"The entry has the hash {made.hex()}, and {leaf.hash.hex()} was recorded: it was altered.")
    return Step(True, f"The entry has its recorded hash {made.hex()}.")


def _own_place(leaf: AuditLeaf) -> Step:
    try:
        index, _ = place_and_time(leaf.data)
    except ValueError:
        return Step(False, "What is stored there is not an entry.")
    return Step(index == leaf.index, f"It says that it is leaf {index}, and stands at {leaf.index}.")


def _kept(services: Services) -> Step:
    """Compare with what is kept outside the database, which whoever changes rows cannot change along."""
    try:
        kept = Heads(services.store, *services.log.verifiers).last()
        if kept is None:
            return Step(True, "No earlier head is kept outside the database to compare with.")
        with services.database.read() as session:
            services.log.require_beginning(session, kept)
    except (HeadConflict, LogBroken) as error:
        return Step(False, f"The head that is kept outside the database says otherwise: {error}")
    return Step(True, f"The head of {kept.size} leaves that is kept outside the database is a beginning of this log.")
