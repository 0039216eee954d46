"""Runs the migrations on the connection, and in the transaction, that `vivavoce.ledger.schema` opened."""

from alembic import context

from vivavoce.ledger.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can roll back DDL; Alembic assumes that its driver cannot, which is true only of the driver's own BEGIN.
    transactional_ddl=True,
    # SQLite alters tables by rebuilding them.
    render_as_batch=True,
)
context.run_migrations()
