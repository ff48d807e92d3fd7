"""Logs: one place that declares how they look."""

import json
import logging
import sys
from urllib.parse import unquote, urlsplit

import structlog
from pydantic import SecretStr

from conductor_ai.settings import Settings
from conductor_ai.visible import visible

QUIET = ("anthropic", "httpx", "httpcore", "httpcore2", "httpx2", "docker", "urllib3", "uvicorn.access")
"""Libraries that log every request, some with whole URLs or the whole conversation."""

SHORTEST_SECRET = 6
"""Shorter ones are no secrets, and taking them out would make nonsense of ordinary words."""
HIDDEN = "[secret]"


class _NoTracebackOfCancels(logging.Filter):
    """Temporal's SDK logs each cancelled activity with a traceback; a cancel is no fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "cancelled" in record.getMessage().lower() and record.exc_info:
            record.exc_info = None
        return True


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Every secret of the settings, and each password inside of one, as it is written and as it is meant; longest first."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if not isinstance(value, SecretStr):
            continue
        text = value.get_secret_value()
        password = urlsplit(text).password if "://" in text else None
        found |= {text} if password is None else {text, password, unquote(password)}
    found |= {json.dumps(text)[1:-1] for text in found}
    return tuple(sorted((text for text in found if len(text) >= SHORTEST_SECRET), key=len, reverse=True))


class _Discreet(structlog.stdlib.ProcessorFormatter):
    """Takes the settings' secrets out of whatever is logged: a provider's answer may repeat the key that it refuses."""

    secrets: tuple[str, ...] = ()
    for_people = True

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        # Text from outside must not steer the terminal that shows the log. JSON escapes it by itself.
        return visible(text) if self.for_people else text


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
    formatter = _Discreet(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    formatter.secrets, formatter.for_people = secrets_of(settings), not settings.log_json
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_NoTracebackOfCancels())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
