"""Whatever is sent to any operation of the document: no 5xx, and only such answers as the document describes.

FUZZ_EXAMPLES=100 python -m pytest -s tests/api/test_fuzz.py    # longer, and with the counts
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, not_a_server_error
from tests.api.conftest import Installation, Make

from vivavoce.api.keys import new_token

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "15"))  # requests to an operation
# What is sent as a sound is random bytes, and a text may be refused: that a request fits its schema is not enough.
LEFT_OUT = ("positive_data_acceptance",)
NAMES = ("voice", "consent")


def operations(installation: Installation) -> list[Any]:
    schema = schemathesis.openapi.from_asgi("/openapi.json", installation.client.app)
    return [result.ok() for result in schema.get_all_operations()]


def identifiers(operation: Any) -> set[str]:
    """What a request names that may be there or not: in its path, or as a voice or consent in its body."""
    bodies = [str(body.definition) for body in operation.body]
    named = {f"{name}_id" for name in NAMES for body in bodies if f"'{name}'" in body}
    return named | {parameter.name for parameter in operation.path_parameters}


def drive(
    installation: Installation, callers: list[dict[str, str]], known: dict[str, str], chosen: Callable[[Any], object]
) -> dict[int, int]:
    """Send generated requests to the chosen operations, each from any of these callers (their headers); identifiers
    that are known stand in for random ones."""
    seen: dict[int, int] = {}
    checks: list[Callable[..., Any]] = [not_a_server_error]
    checks += [check for check in CHECKS.get_all() if check.__name__ not in LEFT_OUT]
    asked = list(filter(chosen, operations(installation)))
    for operation in asked:

        @settings(
            max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
        )
        @given(case=operation.as_strategy(), headers=st.sampled_from(callers))
        def ask(case: Any, headers: dict[str, str]) -> None:
            case.path_parameters = {
                name: known.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
            for name in NAMES:
                if isinstance(case.body, dict) and name in case.body and f"{name}_id" in known:
                    case.body[name] = known[f"{name}_id"]
            answer = case.call(headers=headers)
            seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
            case.validate_response(answer, checks=checks)

        ask()
    counts = ", ".join(f"{count:,} x {status}" for status, count in sorted(seen.items()))
    print(  # noqa: T201 - the summary that -s shows
        f"\n{len(asked)} operations, {sum(seen.values()):,} requests: {counts}; no 5xx, no answer out of its schema"
    )
    return seen


def test_without_a_key_nothing_answers_but_what_is_open(make: Make) -> None:
    """Nor with a malformed one, nor with one that is nobody's."""
    installation = make(refusals_per_minute=10**6, public_detections_per_minute=10**6)
    callers = [{}, *({"Authorization": f"Bearer {key}"} for key in ("vv_x", new_token()))]
    before = installation.state()
    seen = drive(installation, callers, {}, chosen=lambda _: True)
    # 404: a speaker's link that opens nothing.
    assert set(seen) <= {200, 401, 404, 422}
    assert seen[401] > 10 * EXAMPLES
    after = installation.state()
    # Who asks at the public page is entered as one customer, and readiness tries the store; nothing else may change.
    changed = {name for name in after if after[name] != before[name]}
    assert changed <= {"tenant", "api_key", "objects"} and set(after["objects"]) <= {"probes/readyz"}


def test_with_a_key_and_random_identifiers(make: Make) -> None:
    """What takes no identifiers is asked the very same in the next test, where there is more to answer with."""
    installation = make(refusals_per_minute=10**6, public_detections_per_minute=10**6)
    seen = drive(installation, [installation.key()], {}, identifiers)
    assert seen[404] > 5 * EXAMPLES and max(seen) < 500


def test_with_a_key_and_what_is_really_there(make: Make) -> None:
    installation = make(refusals_per_minute=10**6, public_detections_per_minute=10**6)
    headers = installation.key()
    consent = installation.consent(headers)
    voice = installation.voice(headers, consent)
    asked = installation.client.post(
        "/v1/audio/speech",
        headers=headers | {"Prefer": "respond-async"},
        json={"voice": voice, "input": "He might even have been made amiable."},
    )
    assert asked.status_code == 202, asked.text
    known = {"consent_id": consent, "voice_id": voice, "job_id": asked.json()["id"]}

    def told(operation: Any) -> bool:
        named = identifiers(operation)
        return not named or bool(named & set(known))  # with others, this is the test above

    seen = drive(installation, [headers], known, told)
    assert seen[200] > 5 * EXAMPLES and max(seen) < 500
