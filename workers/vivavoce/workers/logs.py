"""What a worker writes about its doings: job ids and codes, never what was said or by whom."""

from __future__ import annotations

import logging
import sys
import traceback

import structlog

_log = structlog.get_logger("vivavoce.workers")


def log_unforeseen(event: str, error: Exception) -> None:
    """Log an error that nobody foresaw: where it happened, but not its words, which may quote rows and texts."""
    _log.error(event, error=type(error).__name__, trace=traceback.format_tb(error.__traceback__))


def configure_logging(level: str) -> None:
    """Write log lines to standard error: for people on a terminal, else one JSON object a line.

    Raises:
        ValueError: There is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"not a log level: {level}")
    logging.basicConfig(
        stream=sys.stderr, level=max(number, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
