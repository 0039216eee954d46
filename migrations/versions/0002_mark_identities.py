"""Marks name one output each: 48 bits that are unique in the registry, instead of a message that many could share.

The sounds that were marked before carry a mark of the first kind, which no detector reads any more: their outputs get
no identity. Their 16-bit message is not lost; the log holds it in the outcome leaf, and that is where the way back
finds it. An identity begins with the very bits that the message was (both are the beginning of one HMAC).

Findings of detections that have ended are brought into the shape that the API shows, and back.
"""

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JOB = sa.table("job", sa.column("id", sa.String), sa.column("kind", sa.String), sa.column("result", sa.JSON))


def upgrade() -> None:
    """Take the message away, make room for the identity."""
    op.drop_index("ix_output_message", "output")
    op.drop_column("output", "message")
    op.add_column("output", sa.Column("mark_identity", sa.BigInteger(), nullable=True))
    op.create_index("ix_output_mark_identity", "output", ["mark_identity"], unique=True)
    _rewrite_findings(_new_finding)


def downgrade() -> None:
    """Bring the message back, from the identity or from the log."""
    op.add_column("output", sa.Column("message", sa.Integer(), nullable=True))
    op.execute("UPDATE output SET message = mark_identity >> 32 WHERE mark_identity IS NOT NULL")
    _fill_from_log(op.get_bind())
    op.drop_index("ix_output_mark_identity", "output")
    with op.batch_alter_table("output") as output:
        output.drop_column("mark_identity")
        output.alter_column("message", existing_type=sa.Integer(), nullable=False)
    op.create_index("ix_output_message", "output", ["message"])
    _rewrite_findings(_old_finding)


def _fill_from_log(connection: sa.Connection) -> None:
    query = sa.text(
        "SELECT output.id, audit_leaf.data FROM output JOIN job ON job.id = output.job_id "
        'JOIN audit_leaf ON audit_leaf."index" = job.outcome_leaf WHERE output.mark_identity IS NULL'
    )
    for output_id, data in connection.execute(query).all():
        message = json.loads(bytes(data))["facts"]["mark_message"]
        connection.execute(
            sa.text("UPDATE output SET message = :message WHERE id = :id"), {"message": message, "id": output_id}
        )


def _rewrite_findings(rewrite: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    connection = op.get_bind()
    for job_id, result in connection.execute(sa.select(JOB.c.id, JOB.c.result).where(JOB.c.kind == "detection")).all():
        if result is not None:
            connection.execute(sa.update(JOB).where(JOB.c.id == job_id).values(result=rewrite(result)))


def _new_finding(old: dict[str, Any]) -> dict[str, Any]:
    return {
        "verdict": "ours" if old["found"] else "not_detected",
        "reason": "judged by a mark of the first kind, which named nobody",
        "score": old["score"],
        "threshold": old["threshold"],
        "segments": [{"start_s": part["start_s"], "end_s": part["end_s"]} for part in old["segments"]],
        "speed": 1.0,
        "pitch": 1.0,
        "model_id": old["model_id"],
        "seconds": old["seconds"],
        "resolution": None,
    }


def _old_finding(new: dict[str, Any]) -> dict[str, Any]:
    same = {name: new[name] for name in ("score", "threshold", "model_id", "seconds")}
    segments = [part | {"score": new["score"]} for part in new["segments"]]
    found = new["verdict"] in ("ours", "ours_modified")
    return same | {"found": found, "message": None, "confidence": 0.0, "segments": segments}
