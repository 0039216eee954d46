"""The model area's errors: one small tree."""

from __future__ import annotations


class ModelError(Exception):
    """The model cannot do what was asked: bad input, a bad checkpoint, or output that is no speech."""
