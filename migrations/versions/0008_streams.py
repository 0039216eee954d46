"""Sounds that leave while they are being made."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.String(40)
MOMENT = sa.DateTime(timezone=True)


def _refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}_{to}"
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=name, deferrable=True, initially="DEFERRED")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "output_stream",
        sa.Column("id", ID, nullable=False),
        *(sa.Column(f"{name}_id", ID, nullable=False) for name in ("job", "tenant", "voice", "consent", "subject")),
        sa.Column("format", sa.String(8), nullable=False),
        sa.Column("media_type", sa.String(60), nullable=False),
        sa.Column("mark_identity", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("leaf_index", sa.Integer(), nullable=False),
        *(_refers("output_stream", f"{to}_id", to) for to in ("job", "tenant", "voice", "consent", "subject")),
        sa.PrimaryKeyConstraint("id", name="pk_output_stream"),
        sa.UniqueConstraint("job_id", name="uq_output_stream_job_id"),
        sa.UniqueConstraint("mark_identity", name="uq_output_stream_mark_identity"),
    )
    for name in ("tenant", "consent", "subject"):
        op.create_index(f"ix_output_stream_{name}_id", "output_stream", [f"{name}_id"])
    op.create_table(
        "output_chunk",
        sa.Column("stream_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("taken_at", MOMENT, nullable=True),
        _refers("output_chunk", "stream_id", "output_stream"),
        sa.PrimaryKeyConstraint("stream_id", "number", name="pk_output_chunk"),
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("output_chunk")
    op.drop_table("output_stream")
