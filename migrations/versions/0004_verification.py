"""Verification: challenges, invitations, what was found out about a recording, and when requests are deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(40)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the new tables, and a column to jobs."""
    op.add_column("job", sa.Column("purged_at", MOMENT, nullable=True))
    op.create_table(
        "challenge",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("language", sa.String(20), nullable=False),
        sa.Column("statement_version", sa.String(20), nullable=False),
        sa.Column("notice_version", sa.String(20), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("used_at", MOMENT, nullable=True),
        _refers_to("challenge", "tenant_id", "tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_challenge"),
    )
    op.create_index("ix_challenge_tenant_id", "challenge", ["tenant_id"])
    op.create_table(
        "invitation",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("api_key_id", ID, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("consent_id", ID, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("closed_at", MOMENT, nullable=True),
        _refers_to("invitation", "api_key_id", "api_key"),
        _refers_to("invitation", "consent_id", "consent"),
        _refers_to("invitation", "tenant_id", "tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_invitation"),
        sa.UniqueConstraint("digest", name="uq_invitation_digest"),
    )
    op.create_index("ix_invitation_tenant_id", "invitation", ["tenant_id"])
    op.create_table(
        "verification",
        sa.Column("consent_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("challenge_id", ID, nullable=False),
        sa.Column("text_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("transcript_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("verdict", sa.String(8), nullable=True),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("measures", sa.JSON(), nullable=False),
        sa.Column("thresholds", sa.JSON(), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("decided_at", MOMENT, nullable=True),
        _refers_to("verification", "challenge_id", "challenge"),
        _refers_to("verification", "consent_id", "consent"),
        _refers_to("verification", "job_id", "job"),
        sa.PrimaryKeyConstraint("consent_id", name="pk_verification"),
        sa.UniqueConstraint("challenge_id", name="uq_verification_challenge_id"),
        sa.UniqueConstraint("job_id", name="uq_verification_job_id"),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("verification")
    op.drop_table("invitation")
    op.drop_table("challenge")
    with op.batch_alter_table("job") as job:
        job.drop_column("purged_at")


def _refers_to(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}_{target}"
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, deferrable=True, initially="DEFERRED")
