"""Where this installation keeps its things. Each area reads the same variables; areas add their own."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class CoreSettings(BaseSettings):
    """Settings that every process of an installation shares, from `VIVAVOCE_*` variables.

    With none set, everything lives in one folder and no server is needed: SQLite, a file transport, a local store.
    """

    model_config = SettingsConfigDict(env_prefix="VIVAVOCE_", extra="ignore", frozen=True)

    home: Path = Path(".vivavoce")
    """Folder of the embedded defaults below."""
    database_url: str = ""
    """SQLAlchemy URL: `sqlite:///...` or `postgresql+psycopg://...`."""
    objects_url: str = ""
    """Object store URL: `file:///...` or `s3://bucket/prefix`."""
    broker_url: str = ""
    """Celery broker URL: `filesystem:///folder`, `redis://...` or `amqp://...`."""
    keys_dir: Path | None = None
    """Folder of the key files."""
    log_origin: str = "vivavoce.local/log"
    """Name of this installation's log in its checkpoints (C2SP tlog-checkpoint origin)."""

    webhooks_to_loopback: bool = False
    """Let webhooks go to this very host, over plain HTTP too: for trying them out, never in production."""

    @model_validator(mode="before")
    @classmethod
    def _derive_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        home = Path(str(values.get("home") or ".vivavoce")).absolute()
        embedded = {
            "home": home,
            "database_url": f"sqlite:///{home / 'ledger.sqlite3'}",
            "objects_url": f"file://{home / 'objects'}",
            "broker_url": f"filesystem://{home / 'broker'}",
            "keys_dir": home / "keys",
        }
        given = {name: value for name, value in values.items() if name != "home" and value not in ("", None)}
        return embedded | given

    @property
    def keys_folder(self) -> Path:
        """Folder of the key files, always set once defaults are derived."""
        assert self.keys_dir is not None  # noqa: S101 - the validator above fills it in
        return self.keys_dir
