"""A world over HTTP on 127.0.0.1: the API below /v1, the hosted pages, and below /_world what only a story can do.

Control, as forms: `POST /_world/advance` (days, hours, seconds), `POST /_world/card` (customer, card),
`POST /_world/failure` (status, times, path); `GET /_world` tells the time and how many deliveries wait.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from offgridflow_pipeline.demo.stripe_counterpart.deliveries import Deliveries
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError
from offgridflow_pipeline.demo.stripe_counterpart.forms import parsed
from offgridflow_pipeline.demo.stripe_counterpart.hosted import HostedPages
from offgridflow_pipeline.demo.stripe_counterpart.world import Failure, NoAnswerError, StripeWorld

_TICK_SECONDS = 0.1


class StripeServer:
    """A served world; use it as a context. `url` is the base address of API and pages.

    Its thread delivers webhooks of `deliveries` as they fall due; with `ticking` the world's clock goes on with the
    machine's, otherwise it stands until it is advanced.
    """

    def __init__(
        self, world: StripeWorld, deliveries: Sequence[Deliveries] = (), *, port: int = 0, ticking: bool = False
    ) -> None:
        self.world = world
        self._deliveries = deliveries
        self._ticking = ticking
        handler = type("Handler", (_Handler,), {"world": world, "server_of": self, "pages": HostedPages(world)})
        self._httpd = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._httpd.server_address[1]}"
        world.books.hosted_url = self.url
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True),
            threading.Thread(target=self._go_on, daemon=True),
        ]

    def __enter__(self) -> StripeServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._httpd.shutdown()
        self._httpd.server_close()
        for thread in self._threads:
            thread.join(timeout=15)

    def _go_on(self) -> None:
        last = time.monotonic()
        while not self._stopping.wait(_TICK_SECONDS):
            seconds = int(time.monotonic() - last)
            if self._ticking and seconds:
                last += seconds
                with self.world.lock:
                    self.world.clock.advance(timedelta(seconds=seconds))
            for deliveries in self._deliveries:
                deliveries.pump()

    def control(self, deed: str, form: Mapping[str, str]) -> dict[str, Any]:
        """A deed of the story; the answer tells how the world stands then.

        Raises:
            ApiError: 404, there is no such deed; 402, the card cannot be attached.
        """
        match deed:
            case "advance":
                units = {unit: float(form[unit]) for unit in ("days", "hours", "seconds") if unit in form}
                self.world.advance(timedelta(**units))
            case "card":
                self.world.use_card(form.get("customer", ""), form.get("card", ""))
            case "failure":
                times, path = int(form.get("times", "1")), form.get("path", "/")
                self.world.fail(Failure(int(form.get("status", "500")), times=times, path=path))
            case "":
                pass
            case _:
                raise ApiError(404, f"There is no deed {deed!r}: advance, card, failure.")
        return {
            "now": self.world.clock.now().isoformat(),
            "events": len(self.world.events),
            "waiting_deliveries": sum(deliveries.waiting for deliveries in self._deliveries),
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world: ClassVar[StripeWorld]
    server_of: ClassVar[StripeServer]
    pages: ClassVar[HostedPages]

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8", "replace")
        address = urlsplit(self.path)
        if address.path.startswith("/v1/"):
            self._api(address.path, body if self.command == "POST" else address.query)
        elif address.path.startswith("/_world"):
            self._control(address.path.removeprefix("/_world").strip("/"), dict(parse_qsl(body)))
        else:
            shown = self.pages.show(self.command, address.path, dict(parse_qsl(body, keep_blank_values=True)))
            headers = {"Location": shown.location} if shown.location else {}
            self._send(shown.status, "text/html; charset=utf-8", shown.html, headers)

    def _api(self, path: str, encoded: str) -> None:
        try:
            answer = self.world.answer(self.command, path, parsed(encoded), dict(self.headers.items()))
        except NoAnswerError:
            self.close_connection = True
            return
        self._send(answer.status, "application/json", json.dumps(answer.document), answer.headers)

    def _control(self, deed: str, form: Mapping[str, str]) -> None:
        try:
            status, document = 200, self.server_of.control(deed if self.command == "POST" else "", form)
        except ApiError as refusal:
            status, document = refusal.status, refusal.document
        self._send(status, "application/json", json.dumps(document), {})

    def _send(self, status: int, kind: str, text: str, headers: Mapping[str, str]) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        with suppress(OSError):  # the client may have gone
            self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _any  # noqa: N815  names of the base class

    def log_message(self, *_arguments: object) -> None:
        """Requests are recorded by the world, not printed."""
