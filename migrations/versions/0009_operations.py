"""Where a job's trace goes on from."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    with op.batch_alter_table("job") as job:
        job.add_column(sa.Column("traceparent", sa.String(55), nullable=True))


def downgrade() -> None:
    """Take it away again."""
    with op.batch_alter_table("job") as job:
        job.drop_column("traceparent")
