"""localstripe, a Stripe server that others wrote, as a process of its own: a second opinion on webhooks and flow.

Installed by ``install_from_lock.sh`` beside this file. It answers in shapes of 2017 (periods on the subscription,
plans instead of prices), knows no checkout, no portal and no idempotency keys, fails on listing invoices by status, listens
on every address of the machine, and writes a file of its own below /tmp.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import stripe

from offgridflow_pipeline_tests.counterparts.installation import counterparts_folder
from offgridflow_pipeline_tests.counterparts.processes import free_port, wait_until_ready

INSTALL_SCRIPT = "install_from_lock.sh localstripe"


class NotInstalledError(RuntimeError):
    """localstripe is not installed; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class LocalStripe:
    """A running server."""

    url: str

    def client(self) -> stripe.StripeClient:
        """A client of the official library."""
        return stripe.StripeClient("sk_test_local", base_addresses={"api": self.url}, max_network_retries=0)

    def send_webhooks_to(self, url: str, secret: str) -> None:
        """Deliver all events from now on, signed."""
        answer = requests.post(f"{self.url}/_config/webhooks/test", json={"url": url, "secret": secret}, timeout=10)
        answer.raise_for_status()

    def add_plan(self, plan: str, product: str, amount_cents: int) -> None:
        """A monthly plan, which the library has no more words for."""
        fields: dict[str, Any] = {
            "id": plan,
            "product": product,
            "amount": amount_cents,
            "currency": "eur",
            "interval": "month",
        }
        self.client().raw_request("post", "/v1/plans", **fields)


@contextmanager
def localstripe_server() -> Iterator[LocalStripe]:
    """Start the server with nothing in it.

    Raises:
        NotInstalledError: the install script has not been run.
    """
    home = counterparts_folder() / "localstripe"
    if not (home / "installed.lock").is_file():
        raise NotInstalledError(f"no localstripe at {home}: run {Path(__file__).parent / INSTALL_SCRIPT}")
    port = free_port()
    command = [home / "venv" / "bin" / "localstripe", "--port", str(port), "--from-scratch"]
    with (
        tempfile.TemporaryDirectory(prefix="ogf-localstripe-") as folder,
        (Path(folder) / "log").open("w+") as log,
        subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={"PATH": os.environ["PATH"]}, cwd=folder
        ) as process,
    ):
        try:
            server = LocalStripe(f"http://127.0.0.1:{port}")
            wait_until_ready("localstripe", process, log, lambda: _answers(server.url))
            yield server
        finally:
            process.kill()


def _answers(url: str) -> AbstractContextManager[Any]:
    try:
        return urllib.request.urlopen(url, timeout=5)  # type: ignore[no-any-return]
    except urllib.error.HTTPError:
        return nullcontext()  # it refuses to serve without a key: it is there
