"""Rights: links for speakers, profiles of tenants, suspension, renewal, guardians, deletion that survives a crash,
protected voices and their reviews."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.String(40)
MOMENT = sa.DateTime(timezone=True)

TABLES = ("subject_link", "doomed_object", "voice_print", "protected_voice", "review")
COLUMNS = {
    "tenant": ("profile", "least_assurance"),
    "consent": (
        "renews", "suspended_by", "guardian_sealed", "guardian_relationship", "guardian_assurance", "purged_at",
    ),
    "voice": ("standing",),
    "output": ("deleted_at",),
}  # fmt: skip


def upgrade() -> None:
    """Add columns to what is there, then the new tables."""
    op.add_column("tenant", sa.Column("profile", sa.String(8), nullable=False, server_default="max"))
    op.add_column("tenant", sa.Column("least_assurance", sa.String(16), nullable=True))
    with op.batch_alter_table("consent") as consent:
        consent.add_column(sa.Column("renews", ID, nullable=True))
        consent.add_column(sa.Column("suspended_by", sa.String(8), nullable=True))
        consent.add_column(sa.Column("guardian_sealed", sa.LargeBinary(), nullable=True))
        consent.add_column(sa.Column("guardian_relationship", sa.String(20), nullable=True))
        consent.add_column(sa.Column("guardian_assurance", sa.String(16), nullable=True))
        consent.add_column(sa.Column("purged_at", MOMENT, nullable=True))
        consent.create_foreign_key(
            "fk_consent_renews_consent", "consent", ["renews"], ["id"], deferrable=True, initially="DEFERRED"
        )
    op.add_column("voice", sa.Column("standing", sa.String(8), nullable=False, server_default="ready"))
    op.add_column("output", sa.Column("deleted_at", MOMENT, nullable=True))
    _create_rights()
    _create_protection()


def downgrade() -> None:
    """Take it away again."""
    for table in reversed(TABLES):
        op.drop_table(table)
    for table, columns in COLUMNS.items():
        with op.batch_alter_table(table) as changed:
            if table == "consent":
                changed.drop_constraint("fk_consent_renews_consent", type_="foreignkey")
            for column in columns:
                changed.drop_column(column)


def _refers_to(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}_{target}"
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, deferrable=True, initially="DEFERRED")


def _create_rights() -> None:
    op.create_table(
        "subject_link",
        sa.Column("id", ID, nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        _refers_to("subject_link", "subject_id", "subject"),
        _refers_to("subject_link", "tenant_id", "tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_subject_link"),
        sa.UniqueConstraint("digest", name="uq_subject_link_digest"),
    )
    op.create_index("ix_subject_link_subject_id", "subject_link", ["subject_id"])
    op.create_table(
        "doomed_object",
        sa.Column("object_key", sa.String(200), nullable=False),
        sa.Column("why", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("object_key", name="pk_doomed_object"),
    )
    op.create_table(
        "voice_print",
        sa.Column("voice_id", ID, nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("model", sa.String(120), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        _refers_to("voice_print", "subject_id", "subject"),
        _refers_to("voice_print", "voice_id", "voice"),
        sa.PrimaryKeyConstraint("voice_id", name="pk_voice_print"),
    )
    op.create_index("ix_voice_print_subject_id", "voice_print", ["subject_id"])


def _create_protection() -> None:
    op.create_table(
        "protected_voice",
        sa.Column("id", ID, nullable=False),
        sa.Column("model", sa.String(120), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("note_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("added_by", sa.String(120), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("removed_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_protected_voice"),
    )
    op.create_table(
        "review",
        sa.Column("id", ID, nullable=False),
        sa.Column("voice_id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("protected_id", ID, nullable=True),
        sa.Column("other_voice_id", ID, nullable=True),
        sa.Column("similarity", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("model", sa.String(120), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("decision", sa.String(8), nullable=True),
        sa.Column("reason_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("decided_by", sa.String(120), nullable=True),
        sa.Column("decided_at", MOMENT, nullable=True),
        _refers_to("review", "other_voice_id", "voice"),
        _refers_to("review", "protected_id", "protected_voice"),
        _refers_to("review", "tenant_id", "tenant"),
        _refers_to("review", "voice_id", "voice"),
        sa.PrimaryKeyConstraint("id", name="pk_review"),
        sa.UniqueConstraint("voice_id", name="uq_review_voice_id"),
    )
    op.create_index("ix_review_tenant_id", "review", ["tenant_id"])
