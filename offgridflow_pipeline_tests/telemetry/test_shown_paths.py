"""A link that opens a download by itself is in no log and no trace."""

from __future__ import annotations

import json
import logging

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from offgridflow_pipeline.sidecar.answering import signed_links
from offgridflow_pipeline.telemetry import logs, traces
from offgridflow_pipeline.telemetry.shown_paths import shown

LINK = f"{signed_links.PATH}/eyJleHBpcmVzIjoxfQ.c2lnbmF0dXJl"


@pytest.mark.parametrize("path", ["/", "/v1/reports/rep_1/artifacts/a.pdf", "/v1/downloads", "/downloads/x"])
def test_other_paths_are_shown_as_they_are(path: str) -> None:
    assert shown(path) == path


def test_a_span_holds_no_signed_link() -> None:
    span = ReadableSpan(name="GET /v1/downloads/{link}", attributes={"url.path": LINK, "http.route": "/v1/downloads"})
    assert traces.harmless(span).attributes == {"url.path": "/v1/downloads/...", "http.route": "/v1/downloads"}


async def _asked(path: str) -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        return None

    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    await logs.RequestLog(app)(scope, None, None)  # type: ignore[arg-type]


def test_a_log_line_holds_no_signed_link(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    with caplog.at_level(logging.INFO, logger="offgridflow.access"):
        asyncio.run(_asked(LINK))
    told = json.dumps([record.__dict__ for record in caplog.records], default=str)
    assert "/v1/downloads/..." in told
    assert "eyJleHBpcmVz" not in told
