"""The developer API: how far a job has come, webhooks and their deliveries, batches."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(40)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add a column, then the tables."""
    op.add_column("job", sa.Column("stage", sa.String(16), nullable=True))
    _create_webhooks()
    _create_batches()


def downgrade() -> None:
    """Take them away again."""
    for table in ("batch_item", "batch", "webhook_delivery", "webhook"):
        op.drop_table(table)
    with op.batch_alter_table("job") as job:
        job.drop_column("stage")


def _create_webhooks() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT, nullable=True),
        _refers_to("webhook", "tenant_id", "tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook"),
    )
    op.create_index("ix_webhook_tenant_id", "webhook", ["tenant_id"])
    op.create_table(
        "webhook_delivery",
        sa.Column("id", ID, nullable=False),
        sa.Column("webhook_id", ID, nullable=False),
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("refs", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", MOMENT, nullable=True),
        sa.Column("delivered_at", MOMENT, nullable=True),
        sa.Column("last_error", sa.String(40), nullable=True),
        _refers_to("webhook_delivery", "webhook_id", "webhook"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_delivery"),
    )
    op.create_index("ix_webhook_delivery_webhook_id", "webhook_delivery", ["webhook_id"])
    op.create_index("ix_webhook_delivery_next_at", "webhook_delivery", ["next_at"])


def _create_batches() -> None:
    op.create_table(
        "batch",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(200), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        _refers_to("batch", "tenant_id", "tenant"),
        sa.PrimaryKeyConstraint("id", name="pk_batch"),
        sa.UniqueConstraint("tenant_id", "idempotency_key", name="uq_batch_tenant_id_idempotency_key"),
    )
    op.create_index("ix_batch_tenant_id", "batch", ["tenant_id"])
    op.create_table(
        "batch_item",
        sa.Column("batch_id", ID, nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("custom_id", sa.String(64), nullable=True),
        sa.Column("job_id", ID, nullable=True),
        sa.Column("error_code", sa.String(60), nullable=True),
        sa.Column("error_detail", sa.String(1000), nullable=True),
        _refers_to("batch_item", "batch_id", "batch"),
        _refers_to("batch_item", "job_id", "job"),
        sa.PrimaryKeyConstraint("batch_id", "place", name="pk_batch_item"),
    )
    op.create_index("ix_batch_item_job_id", "batch_item", ["job_id"])


def _refers_to(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}_{target}"
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name, deferrable=True, initially="DEFERRED")
