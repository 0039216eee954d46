"""Keep what every route of a running installation is asked and answers as the examples of `/openapi.json`.

python -m tests.api.record_examples
"""

from __future__ import annotations

import json
import re
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Installation, open_installation
from tests.api.test_auth import routes
from tests.api.test_one_door import ENDED, Driver, work

from vivavoce.api import batching, flow
from vivavoce.api.document import EXAMPLES
from vivavoce.ledger.lease import claim
from vivavoce.ledger.schema import upgrade
from vivavoce.ledger.tables import JobStatus
from vivavoce.release.outcome import finish

MOST_ITEMS = 2  # of a list of objects
PART = re.compile(rb'name="(\w+)"(; filename="[^"]*")?\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)


def sent(request: Any) -> Any:
    """The body of a request: JSON, or the fields of a form; None where there is none that could be shown."""
    kind = request.headers.get("content-type", "")
    body = request.read()
    if kind == "application/json":
        return json.loads(body)
    if kind.startswith("multipart/form-data"):
        return {
            name.decode(): "the bytes of a sound file" if file else value.decode()
            for name, file, value in PART.findall(body)
        }
    return None


def short(value: Any) -> Any:
    """With lists of a few objects: what they hold is shown, not how much."""
    if isinstance(value, dict):
        return {name: short(one) for name, one in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [short(one) for one in value[:MOST_ITEMS]]
    return value


def waiting_job(driver: Driver, *, failed: bool) -> str:
    """A job that nobody works on, or one that has failed; returns its id."""
    here, now = driver.installation, datetime.now(UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "ring", lambda *_: True)
        asked = driver.bodies["POST", "/v1/audio/speech"]
        answer = here.client.post("/v1/audio/speech", headers=driver.headers | {"Prefer": "respond-async"}, **asked)
    job_id = str(answer.json()["id"])
    if failed:
        with here.services.database.write() as session:
            lease = claim(session, job_id, "worker", now, timedelta(seconds=60))
            finish(session, here.services.log, lease, job_id, JobStatus.FAILED, error_code="model_error", now=now)
    return job_id


def record(installation: Installation) -> dict[str, dict[str, Any]]:
    """Ask every route that the document shows."""
    driver = Driver(installation)
    examples: dict[str, dict[str, Any]] = {}
    shown = [route for route in routes(installation) if route.include_in_schema]
    asked = {(method, route.path) for route in shown for method in route.methods}
    for method, path in sorted(
        asked, key=lambda route: (route not in ENDED, ("POST", "GET", "DELETE").index(route[0]), route)
    ):
        made = driver.ids["job_id"]
        if (method, path) in ENDED:
            driver.ids["job_id"] = waiting_job(driver, failed=path.endswith("/retry"))
        answer = driver.ask(method, path)
        driver.ids["job_id"] = made
        example: dict[str, Any] = {}
        if (body := sent(answer.request)) is not None:
            example["request"] = body
        if answer.is_success and answer.headers["content-type"] == "application/json":
            example |= {"status": str(answer.status_code), "answer": short(answer.json())}
        if example:
            examples[f"{method} {path}"] = example
    return examples


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        template = Path(folder) / "template.sqlite3"
        upgrade(f"sqlite:///{template}")
        with open_installation(Path(folder) / "home", template, wait_seconds=5) as installation:
            for module in (flow, batching):
                patch.setattr(module, "ring", lambda _, job_id: work(installation.services, job_id))
            examples = record(installation)
    EXAMPLES.write_text(json.dumps(examples, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
