"""Identifiers: a prefix that names the kind, then 48 bits of time and 80 random bits in base 32, sortable by age."""

from __future__ import annotations

import re
import secrets
import time

# Crockford's alphabet (as in ULID): no I, L, O, U, and in the order of ASCII so that text sorts like time.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_CHARACTERS = 26
_SHAPE = re.compile(rf"[a-z]{{2,6}}_[{_ALPHABET}]{{{_CHARACTERS}}}")


def new_id(prefix: str) -> str:
    """Make an identifier such as `job_01jd...`: a short prefix and 26 characters of time and chance."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    digits = [_ALPHABET[value >> shift & 31] for shift in range(5 * (_CHARACTERS - 1), -1, -5)]
    return f"{prefix}_{''.join(digits)}"


def is_id(text: str) -> bool:
    """Whether a text from outside has the shape of an identifier. What has not is never looked up nor logged."""
    return _SHAPE.fullmatch(text) is not None
