"""`python -m offgridflow_pipeline.demo.stripe_counterpart`: the counterpart as a program, until SIGTERM or Ctrl-C.

It offers the four plans under the price ids of STRIPE_PRICE_FREE and so on, else `price_free` and so on. With a journal
it is the same account when it is started again.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from offgridflow_pipeline.demo.stripe_counterpart.books import AccountSettings
from offgridflow_pipeline.demo.stripe_counterpart.clock import WorldClock
from offgridflow_pipeline.demo.stripe_counterpart.deliveries import Deliveries, system_time, to_url
from offgridflow_pipeline.demo.stripe_counterpart.journal import Journal
from offgridflow_pipeline.demo.stripe_counterpart.server import StripeServer
from offgridflow_pipeline.demo.stripe_counterpart.world import StripeWorld

#: Plans and their monthly prices in cents: figures of the demonstration, not an offer.
OFFERED = {"free": 0, "basic": 4_900, "pro": 19_900, "enterprise": 99_900}


def main() -> None:
    """Serve a world that goes on with the machine's clock."""
    stated = _arguments()
    start = stated.start or system_time()
    settings = AccountSettings(
        after_last_retry=stated.after_last_retry,
        hosted_url=f"http://127.0.0.1:{stated.port}" if stated.port else AccountSettings().hosted_url,
    )
    # Another seed for every new account: identifiers of one that is gone must not be given out again.
    seed = int(start.timestamp()) if stated.seed is None else stated.seed
    journal = Journal(stated.journal) if stated.journal else None
    since = journal.time_since() if journal and not stated.still else timedelta(0)
    if journal:
        world = journal.world(stock, start=start, seed=seed, settings=settings)
    else:
        world = StripeWorld(WorldClock(start), seed=seed, settings=settings)
        stock(world)
    deliveries = [
        Deliveries(world, to_url(url), secrets=[stated.secret], signed_at=system_time) for url in stated.webhook
    ]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with StripeServer(world, deliveries, port=stated.port, ticking=not stated.still) as server:
        with world.lock:
            world.clock.advance(since)
        print(f"Stripe counterpart at {server.url}", flush=True)  # noqa: T201  what a program tells
        stop.wait()


def stock(world: StripeWorld) -> None:
    """The four plans, each with a price."""
    for plan, unit_amount in OFFERED.items():
        world.offer(plan, os.environ.get(f"STRIPE_PRICE_{plan.upper()}") or f"price_{plan}", unit_amount)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stripe_counterpart", description="A Stripe account that exists only here.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--webhook", action="append", default=[], help="address that takes webhooks; repeatable")
    parser.add_argument(
        "--secret",
        default=os.environ.get("STRIPE_WEBHOOK_SECRET", ""),
        help="signs webhooks; else STRIPE_WEBHOOK_SECRET",
    )
    parser.add_argument("--start", type=_time, help="the world's time at the start, ISO 8601; now when not stated")
    parser.add_argument("--journal", type=Path, help="file that what happens is written to, and done again from")
    parser.add_argument("--still", action="store_true", help="the clock stands until POST /_world/advance")
    parser.add_argument("--seed", type=int, help="identifiers follow from it; from the start when not stated")
    parser.add_argument(
        "--after-last-retry", choices=("unpaid", "canceled", "past_due"), default="unpaid", help="what dunning ends in"
    )
    stated = parser.parse_args()
    if stated.webhook and not stated.secret:
        parser.error("webhooks need --secret or STRIPE_WEBHOOK_SECRET")
    return stated


def _time(text: str) -> datetime:
    stated = datetime.fromisoformat(text)
    return stated if stated.tzinfo else stated.replace(tzinfo=UTC)


if __name__ == "__main__":
    main()
