"""Reading errors: each has one of two shapes, and a helper that holds it to that."""

from __future__ import annotations

from typing import Any


def openai_error(answer: Any) -> dict[str, Any]:
    """Read an error of the OpenAI-compatible routes."""
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    return dict(body["error"])


def problem(answer: Any) -> dict[str, Any]:
    """Read a problem (RFC 9457)."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code and body["type"].endswith(body["code"]) and body["title"]
    assert body["detail"]
    return dict(body)
