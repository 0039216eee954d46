"""`/openapi.json`: FastAPI's document, with a summary that says what an operation does, and examples.

The examples are requests that the application was sent and what it answered (`python -m tests.api.record_examples`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI

_CLAUSE_END = re.compile(r"[.;:](?:\s|$)")
EXAMPLES = Path(__file__).with_name("examples.json")


def complete(app: FastAPI) -> None:
    """Have an application hand out the document with summaries and examples."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _fill(plain(), json.loads(EXAMPLES.read_text(encoding="utf-8")))
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]


def _fill(document: dict[str, Any], examples: dict[str, dict[str, Any]]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            paragraph = " ".join(operation["description"].partition("\n\n")[0].split())
            operation["summary"] = _CLAUSE_END.split(paragraph)[0]
            known = examples.get(f"{method.upper()} {path}", {})
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if "request" in known:
                    content["example"] = known["request"]
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/json")
                if content is not None and status == known.get("status"):
                    content["example"] = known["answer"]
