"""Log lines of the sidecar: JSON or text, one line per event, each with request, trace, tenant and run where known.

What looks like a secret, is a secret of the settings, or stands under a name such as `password` is blacked out before
a line is written. Libraries (uvicorn among them) log through the same chain.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import structlog
from pydantic import SecretStr

from offgridflow_pipeline.telemetry import access_lines
from offgridflow_pipeline.telemetry.shown_paths import shown

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from offgridflow_pipeline.settings import Settings

BLACKED_OUT = "[secret]"
MINIMUM_SECRET_LENGTH = 8
#: What HTTP knows as methods; a client may write anything.
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
UNLOGGED_PATHS = frozenset({"/livez", "/readyz"})
SECRET_NAMES = re.compile(
    r"(?i)(pass(word|phrase)?|secret|token|cookie|authorization|api_?key|pepper|credential|totp|recovery_code)$"
)
#: Our own: API keys, and tokens of links. Those of the clouds come with `redact`.
_OWN_SECRETS = re.compile(r"ogf_live_[A-Za-z0-9_-]{8,}|(?<=[?&]token=)[^&\s\"']+|(?<=ogf_session=)[^;\s\"']+")

#: Made by this chain and the middleware themselves: nothing of a client stands in them.
_OWN_FIELDS = frozenset(
    {"level", "logger", "timestamp", "status", "duration_ms", "request_id", "caller", "tenant"}
    | {"trace_id", "span_id"}
)

Redact = Callable[[str], str]
EventDict = MutableMapping[str, Any]
#: Takes a request, the status of its answer, and its duration in seconds.
Measured = Callable[["Scope", int, float], None]

log = structlog.stdlib.get_logger(access_lines.LOGGER)
#: State of the request at work: the frame and the authentication write into it, log lines read it.
_request: ContextVar[MutableMapping[str, Any] | None] = ContextVar("offgridflow_request", default=None)


def configure(settings: Settings, *, redact: Redact | None = None, stream: TextIO | None = None) -> None:
    """Send every log line of this process through the chain, to `stream` (default: standard error).

    `redact` blacks out further shapes of secrets in a text.
    """
    redaction = Redaction(secrets_of(settings), redact)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context,
        structlog.processors.format_exc_info,
        structlog.processors.StackInfoRenderer(),
        redaction,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    is_json = settings.logs_json
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=True) if is_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        access_lines.Formatter(
            redaction.text,
            is_json=is_json,
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("stripe").setLevel(logging.WARNING)  # it tells each address it asks, with what was asked for
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = name != "uvicorn.access"  # `RequestLog` writes that line, with more to it


def secrets_of(settings: Settings) -> list[str]:
    """Values of the settings that must never be written."""
    values = (getattr(settings, name) for name in type(settings).model_fields)
    return [
        value.get_secret_value()
        for value in values
        if isinstance(value, SecretStr) and len(value.get_secret_value()) >= MINIMUM_SECRET_LENGTH
    ]


class Redaction:
    """Processor that blacks out secrets, however deep they lie in an event."""

    def __init__(self, secrets: Iterable[str], redact: Redact | None = None) -> None:
        self._secrets = sorted(set(secrets), key=len, reverse=True)
        self._redact = redact

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        """The event without secrets; what the logging library itself needs is left as it is."""
        return {
            name: value if name in _OWN_FIELDS or name.startswith("_") else self._value(name, value)
            for name, value in event.items()
        }

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, BLACKED_OUT)
        text = _OWN_SECRETS.sub(BLACKED_OUT, text)
        return self._redact(text) if self._redact else text

    def _value(self, name: str, value: Any) -> Any:
        if SECRET_NAMES.search(name) and value:
            return BLACKED_OUT
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self._value(str(key), item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value("", item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))


def _add_context(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Request, caller and tenant of the request at work, and ids of the current span."""
    state = _request.get() or {}
    for name in ("request_id", "caller", "tenant"):
        if (value := state.get(name)) and name not in event:
            event[name] = value
    if "opentelemetry.trace" in sys.modules:
        span = sys.modules["opentelemetry.trace"].get_current_span().get_span_context()
        if span.is_valid:
            event["trace_id"] = f"{span.trace_id:032x}"
            event["span_id"] = f"{span.span_id:016x}"
    return event


class RequestLog:
    """Middleware around all others: one line per request, and the request's state for the lines between.

    The path is logged without its query: links of mails carry tokens there; and without what opens a download.
    """

    def __init__(self, app: ASGIApp, measured: Measured | None = None) -> None:
        """`measured` is told of every request that is logged."""
        self._app = app
        self._measured = measured

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; anything but HTTP passes through."""
        if scope["type"] != "http" or scope["path"] in UNLOGGED_PATHS:
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        began, status = time.perf_counter(), 500
        token = _request.set(state)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - began
            if self._measured is not None:
                self._measured(scope, status, seconds)
            _describe_span(state)
            _write_line(scope["method"], shown(scope["path"]), status, round(seconds * 1000, 1))
            _request.reset(token)


def _write_line(method: str, path: str, status: int, duration_ms: float) -> None:
    fields = {"method": method, "path": path, "status": status, "duration_ms": duration_ms}
    if method in METHODS and access_lines.is_plain(path):
        access_lines.write(dict(_add_context(None, "", fields)))
    else:
        log.info(access_lines.EVENT, **fields)


def _describe_span(state: MutableMapping[str, Any]) -> None:
    """Tenant and request on the span of the request: never on a metric."""
    if "opentelemetry.trace" not in sys.modules:
        return
    span = sys.modules["opentelemetry.trace"].get_current_span()
    if not span.is_recording():
        return
    for name in ("request_id", "caller", "tenant"):
        if value := state.get(name):
            span.set_attribute(f"offgridflow.{name}", str(value))
