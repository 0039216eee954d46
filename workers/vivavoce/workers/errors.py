"""What can go wrong in a worker."""

from __future__ import annotations


class WorkerError(Exception):
    """Base of this area's errors."""


class StartError(WorkerError):
    """The worker lacks something without which it may not accept a single job."""


class Stopped(WorkerError):
    """The work on a job was broken off: its lease was lost, or the worker is stopping."""
