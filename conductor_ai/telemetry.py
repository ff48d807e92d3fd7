"""Logs: one place that declares how they look."""

import logging
import sys

import structlog

from conductor_ai.settings import Settings

QUIET = ("httpx", "httpcore", "httpx2", "docker", "urllib3", "uvicorn.access")
"""Libraries that log every request, some with whole URLs."""


class _NoTracebackOfCancels(logging.Filter):
    """Temporal's SDK logs each cancelled activity with a traceback; a cancel is no fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "cancelled" in record.getMessage().lower() and record.exc_info:
            record.exc_info = None
        return True


def configure_logging(settings: Settings) -> None:
    """Log to standard error: text for people, or one JSON object a line (CONDUCTOR_LOG_JSON)."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if settings.log_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_NoTracebackOfCancels())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
