"""The subscription of the demonstration: a company without bills buys a plan at our own Stripe, and its card fails.

Nothing is played but Stripe: `offgridflow serve` takes the signed webhooks, a Dagster run consumes them, mails wait in
the outbox. The world's clock began so long ago that the trial is over and the first payment has just failed.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.demo.stripe_counterpart import FAILING, AccountSettings, Deliveries, StripeWorld, to_url
from offgridflow_pipeline.demo.stripe_counterpart.__main__ import OFFERED, stock
from offgridflow_pipeline.demo.stripe_counterpart.deliveries import system_time
from offgridflow_pipeline.demo.stripe_counterpart.journal import Journal
from offgridflow_pipeline.demo.stripe_counterpart.server import StripeServer

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings

SUBSCRIBER, SUBSCRIBER_NAME, OWNER = "dunmore-foods", "Dunmore Foods plc (fictional)", "dora@dunmore.example"
TRIAL_DAYS = 14
WEBHOOK_SECRET = "whsec_demonstration"  # noqa: S105  opens nothing but the counterpart
#: Time since the failed payment, so that the company is in its days of grace.
FAILED_BEFORE = timedelta(days=2)
START_SECONDS = 60


def account_journal(settings: Settings) -> Path:
    """File that the Stripe account of the demonstration is kept in."""
    return settings.data_dir / "demo" / "stripe.jsonl"


class StoryError(RuntimeError):
    """The demonstration could not be told; the message says what was waited for."""


def stripe_variables(stripe_url: str) -> dict[str, str]:
    """Environment of processes that use the counterpart at this address: keys that open nothing else."""
    return {f"OFFGRIDFLOW_{name.upper()}": value for name, value in _stripe_settings(stripe_url).items()}


def _stripe_settings(stripe_url: str) -> dict[str, Any]:
    return {
        "stripe_secret_key": "sk_test_demonstration",
        "stripe_webhook_secret": WEBHOOK_SECRET,
        "stripe_api_url": stripe_url,
        "stripe_trial_days": str(TRIAL_DAYS),
        **{f"stripe_price_{plan}": f"price_{plan}" for plan in OFFERED},
    }


def tell(
    database: Database,
    environment: Mapping[str, str],
    consume: Callable[[Mapping[str, str]], None],
    log: Path,
    journal: Journal,
) -> Iterator[str]:
    """Tell the story, a line for each thing that came of it. `consume` runs the job that consumes events.

    `journal`: where the Stripe account is kept, so that ``offgridflow dev --billing`` goes on with it.
    `database` is connected as the operator. A company that has subscribed before is only said to have.

    Raises:
        StoryError: a process did not start, or a webhook was not taken.
    """
    from offgridflow_pipeline.settings import Settings

    if _is_known(database) and database.subscriptions.get(SUBSCRIBER) is not None:
        yield f"{SUBSCRIBER} subscribed in an earlier demonstration: {_standing(database)}"
        return
    start = datetime.now(UTC) - timedelta(days=TRIAL_DAYS) - FAILED_BEFORE
    world = journal.world(stock, start=start, seed=int(start.timestamp()), settings=AccountSettings())
    port = _free_port()
    webhook = to_url(f"http://127.0.0.1:{port}/v1/webhooks/stripe")
    deliveries = Deliveries(world, webhook, secrets=[WEBHOOK_SECRET], signed_at=system_time)
    with StripeServer(world) as stripe:
        stated = {**environment, **stripe_variables(stripe.url)}
        with _sidecar(port, stated, log):
            _enlist(database)
            _buy(database, Settings(**_stripe_settings(stripe.url)), world)
            _deliver(deliveries)
            consume(stated)
            yield f"{SUBSCRIBER} buys the pro plan: {_standing(database)}"
            world.advance(timedelta(days=TRIAL_DAYS) + timedelta(hours=2))
            _deliver(deliveries)
            consume(stated)
            yield f"its card is declined when the trial ends: {_standing(database)}"
    mails = [mail.template for mail in database.outbox.list(SUBSCRIBER)]
    yield f"mails that wait for {OWNER}: {', '.join(mails)}"


def _enlist(database: Database) -> None:
    """The company and its owner, where they are missing; nobody signs in as her here."""
    from offgridflow_pipeline.identity import accounts

    if not _is_known(database):
        database.tenants.add(SUBSCRIBER, SUBSCRIBER_NAME, currency="EUR")
    known = {person.email: person.user_id for person in database.users.directory()}
    sidecar = database.connected_as("ogf_api")
    try:
        user_id = known.get(OWNER) or accounts.add(sidecar, OWNER, "Dora Dunmore").user_id
        if not any(member.user_id == user_id for member in sidecar.memberships.list(SUBSCRIBER)):
            accounts.add_member(sidecar, user_id, SUBSCRIBER, "owner")
    finally:
        sidecar.close()


def _is_known(database: Database) -> bool:
    return SUBSCRIBER in {tenant.slug for tenant in database.tenants.list(inactive=True)}


def _buy(database: Database, settings: Settings, world: StripeWorld) -> None:
    """As the billing page does: a Checkout session; then as the buyer does, with a card that pays nothing later."""
    from offgridflow_pipeline.subscriptions.checkout import Buyer, start_checkout
    from offgridflow_pipeline.subscriptions.gateway import StripeGateway

    sidecar = database.connected_as("ogf_api")
    try:
        start_checkout(
            sidecar,
            StripeGateway(settings),
            settings,
            SUBSCRIBER,
            "pro",
            Buyer("system", OWNER),
            now=datetime.now(UTC),
        )
    finally:
        sidecar.close()
    world.complete_checkout(world.parts.books.objects.of("checkout.session")[0]["id"], FAILING.number)


def _deliver(deliveries: Deliveries) -> None:
    deliveries.flush()
    if deliveries.waiting:
        missed = [made for made in deliveries.made if not 200 <= made.status < 300]
        raise StoryError(f"The sidecar did not take {missed[-1].event_type}: it answered {missed[-1].status}.")


def _standing(database: Database) -> str:
    found = database.subscriptions.standing(SUBSCRIBER)
    since = f" since {found.since:%Y-%m-%d}" if found.since else ""
    return f"{found.plan}, {found.state}{since}"


@contextmanager
def _sidecar(port: int, environment: Mapping[str, str], log: Path) -> Iterator[None]:
    command = [str(Path(sys.executable).parent / "offgridflow"), "serve", "--port", str(port)]
    # No second process of the installation may take the metrics' port.
    stated = {**environment, "OFFGRIDFLOW_METRICS_PORT": "0"}
    with log.open("a", encoding="utf-8") as stream:
        process = subprocess.Popen(command, env=stated, stdout=stream, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(process, f"http://127.0.0.1:{port}/livez", log)
            yield
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  our own address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise StoryError(f"The sidecar did not start: see {log}.")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
