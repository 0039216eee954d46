"""The first schema: people, voices, work and the log, whose rows the database itself refuses to change."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(40)
HASH = sa.LargeBinary(32)
MOMENT = sa.DateTime(timezone=True)

TABLES = (
    "tenant",
    "api_key",
    "subject",
    "consent",
    "voice",
    "reference_clip",
    "job",
    "output",
    "audit_leaf",
    "audit_node",
    "audit_checkpoint",
    "audit_payload",
)
APPEND_ONLY = ("audit_leaf", "audit_node", "audit_checkpoint")


def upgrade() -> None:
    """Create all tables, then the guards of the log."""
    _create_people()
    _create_voices()
    _create_work()
    _create_log()
    if op.get_bind().dialect.name == "postgresql":
        _guard_on_postgresql()
    else:
        _guard_on_sqlite()


def downgrade() -> None:
    """Leave an empty database."""
    for table in reversed(TABLES):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION vivavoce_refuse_change()")
        op.execute("DROP FUNCTION vivavoce_require_next_leaf()")


def _refers_to(table: str, column: str, target: str, target_column: str = "id") -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}_{target}"
    return sa.ForeignKeyConstraint(
        [column], [f"{target}.{target_column}"], name=name, deferrable=True, initially="DEFERRED"
    )


def _create_people() -> None:
    op.create_table(
        "tenant",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenant"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("prefix", sa.String(24), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        _refers_to("api_key", "tenant_id", "tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("digest", name="uq_api_key_digest"),
    )
    op.create_index("ix_api_key_tenant_id", "api_key", ["tenant_id"])
    op.create_table(
        "subject",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("erased_at", MOMENT, nullable=True),
        _refers_to("subject", "tenant_id", "tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_subject"),
    )
    op.create_index("ix_subject_tenant_id", "subject", ["tenant_id"])
    op.create_table(
        "consent",
        sa.Column("id", ID, nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("statement_id", sa.String(80), nullable=False),
        sa.Column("statement_version", sa.String(20), nullable=False),
        sa.Column("language", sa.String(20), nullable=False),
        sa.Column("operations", sa.JSON(), nullable=False),
        sa.Column("purposes", sa.JSON(), nullable=False),
        sa.Column("languages", sa.JSON(), nullable=False),
        sa.Column("territory", sa.JSON(), nullable=False),
        sa.Column("commercial", sa.Boolean(), nullable=False),
        sa.Column("valid_from", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("assurance", sa.String(16), nullable=False),
        sa.Column("recording_key", sa.String(200), nullable=False),
        sa.Column("recording_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("decided_at", MOMENT, nullable=True),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.Column("revoked_reason", sa.String(500), nullable=True),
        sa.Column("leaf_index", sa.Integer(), nullable=True),
        _refers_to("consent", "subject_id", "subject"),
        _refers_to("consent", "tenant_id", "tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_consent"),
    )
    op.create_index("ix_consent_subject_id", "consent", ["subject_id"])
    op.create_index("ix_consent_tenant_id", "consent", ["tenant_id"])


def _create_voices() -> None:
    op.create_table(
        "voice",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("consent_id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT, nullable=True),
        _refers_to("voice", "consent_id", "consent"),
        _refers_to("voice", "tenant_id", "tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_voice"),
    )
    op.create_index("ix_voice_consent_id", "voice", ["consent_id"])
    op.create_index("ix_voice_tenant_id", "voice", ["tenant_id"])
    op.create_table(
        "reference_clip",
        sa.Column("id", ID, nullable=False),
        sa.Column("voice_id", ID, nullable=False),
        sa.Column("object_key", sa.String(200), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("transcript_sealed", sa.LargeBinary(), nullable=False),
        _refers_to("reference_clip", "voice_id", "voice"),
        sa.PrimaryKeyConstraint("id", name="pk_reference_clip"),
    )
    op.create_index("ix_reference_clip_voice_id", "reference_clip", ["voice_id"])


def _create_work() -> None:
    op.create_table(
        "job",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("api_key_id", ID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("voice_id", ID, nullable=True),
        sa.Column("consent_id", ID, nullable=True),
        sa.Column("subject_id", ID, nullable=True),
        sa.Column("purpose", ID, nullable=True),
        sa.Column("grant_token", sa.String(4000), nullable=True),
        sa.Column("request_key", sa.String(200), nullable=False),
        sa.Column("input_key", sa.String(200), nullable=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("format", sa.String(8), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(120), nullable=True),
        sa.Column("lease_expires_at", MOMENT, nullable=True),
        sa.Column("error_code", sa.String(60), nullable=True),
        sa.Column("error_detail", sa.String(1000), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("idempotency_key", sa.String(200), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("intent_leaf", sa.Integer(), nullable=False),
        sa.Column("outcome_leaf", sa.Integer(), nullable=True),
        _refers_to("job", "api_key_id", "api_key"),
        _refers_to("job", "consent_id", "consent"),
        _refers_to("job", "subject_id", "subject"),
        _refers_to("job", "tenant_id", "tenant"),
        _refers_to("job", "voice_id", "voice"),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.UniqueConstraint("tenant_id", "idempotency_key", name="uq_job_tenant_id_idempotency_key"),
    )
    op.create_index("ix_job_consent_id", "job", ["consent_id"])
    op.create_index("ix_job_status_lease", "job", ["status", "lease_expires_at"])
    op.create_index("ix_job_tenant_id", "job", ["tenant_id"])
    op.create_table(
        "output",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("voice_id", ID, nullable=False),
        sa.Column("consent_id", ID, nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("format", sa.String(8), nullable=False),
        sa.Column("media_type", sa.String(60), nullable=False),
        sa.Column("sample_rate", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("message", sa.Integer(), nullable=False),
        sa.Column("mark_score", sa.Double(), nullable=False),
        sa.Column("mark_strength", sa.Double(), nullable=False),
        sa.Column("model_id", sa.String(120), nullable=False),
        sa.Column("object_key", sa.String(200), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("withheld_at", MOMENT, nullable=True),
        sa.Column("withheld_reason", sa.String(60), nullable=True),
        _refers_to("output", "consent_id", "consent"),
        _refers_to("output", "job_id", "job"),
        _refers_to("output", "subject_id", "subject"),
        _refers_to("output", "tenant_id", "tenant"),
        _refers_to("output", "voice_id", "voice"),
        sa.PrimaryKeyConstraint("id", name="pk_output"),
        sa.UniqueConstraint("job_id", name="uq_output_job_id"),
    )
    op.create_index("ix_output_consent_id", "output", ["consent_id"])
    op.create_index("ix_output_message", "output", ["message"])
    op.create_index("ix_output_sha256", "output", ["sha256"])
    op.create_index("ix_output_subject_id", "output", ["subject_id"])
    op.create_index("ix_output_tenant_id", "output", ["tenant_id"])
    op.create_index("ix_output_voice_id", "output", ["voice_id"])


def _create_log() -> None:
    op.create_table(
        "audit_leaf",
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("hash", HASH, nullable=False),
        sa.Column("tag", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("index", name="pk_audit_leaf"),
    )
    op.create_index("ix_audit_leaf_tag", "audit_leaf", ["tag"])
    op.create_index("ix_audit_leaf_tenant_id", "audit_leaf", ["tenant_id"])
    op.create_table(
        "audit_node",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", HASH, nullable=False),
        sa.PrimaryKeyConstraint("level", "index", name="pk_audit_node"),
    )
    op.create_table(
        "audit_checkpoint",
        sa.Column("size", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("root", HASH, nullable=False),
        sa.Column("note", sa.String(2000), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_audit_checkpoint"),
    )
    op.create_table(
        "audit_payload",
        sa.Column("leaf_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        _refers_to("audit_payload", "leaf_index", "audit_leaf", "index"),
        _refers_to("audit_payload", "subject_id", "subject"),
        sa.PrimaryKeyConstraint("leaf_index", name="pk_audit_payload"),
    )
    op.create_index("ix_audit_payload_subject_id", "audit_payload", ["subject_id"])


def _guard_on_postgresql() -> None:
    op.execute("""
        CREATE FUNCTION vivavoce_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
        END $$
    """)
    op.execute("""
        CREATE FUNCTION vivavoce_require_next_leaf() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW."index" <> (SELECT coalesce(max("index") + 1, 0) FROM audit_leaf) THEN
            RAISE EXCEPTION 'audit_leaf % does not follow the last leaf', NEW."index"
              USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
    """)
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION vivavoce_refuse_change()"
        )
        # ALWAYS: not even a session that plays a replica gets past it.
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")
    op.execute(
        "CREATE TRIGGER audit_leaf_next BEFORE INSERT ON audit_leaf "
        "FOR EACH ROW EXECUTE FUNCTION vivavoce_require_next_leaf()"
    )
    op.execute("ALTER TABLE audit_leaf ENABLE ALWAYS TRIGGER audit_leaf_next")


def _guard_on_sqlite() -> None:
    for table in APPEND_ONLY:
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: {action} refused'); END"
            )
    # INSERT OR REPLACE deletes a row without firing DELETE triggers: a row that exists may not be inserted again.
    op.execute("""
        CREATE TRIGGER audit_leaf_next BEFORE INSERT ON audit_leaf
        WHEN NEW."index" <> (SELECT coalesce(max("index") + 1, 0) FROM audit_leaf)
        BEGIN SELECT RAISE(ABORT, 'audit_leaf: this index does not follow the last leaf'); END
    """)
    op.execute("""
        CREATE TRIGGER audit_node_once BEFORE INSERT ON audit_node
        WHEN EXISTS (SELECT 1 FROM audit_node WHERE level = NEW.level AND "index" = NEW."index")
        BEGIN SELECT RAISE(ABORT, 'audit_node is append-only: REPLACE refused'); END
    """)
    op.execute("""
        CREATE TRIGGER audit_checkpoint_once BEFORE INSERT ON audit_checkpoint
        WHEN EXISTS (SELECT 1 FROM audit_checkpoint WHERE size = NEW.size)
        BEGIN SELECT RAISE(ABORT, 'audit_checkpoint is append-only: REPLACE refused'); END
    """)
