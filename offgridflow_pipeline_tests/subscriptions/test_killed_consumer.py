"""A consumer that is killed: when the lease has ended another goes on, and everything has happened once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.demo.stripe_counterpart import StripeServer
from offgridflow_pipeline_tests.subscriptions.shop import Shop, audited, inbox, mails, standing

#: Over HTTP, as a run does, until the named place, where the process kills itself.
CHILD = """
import os, signal, sys
from datetime import UTC, datetime, timedelta
from offgridflow_pipeline.database.engine import open_database
from offgridflow_pipeline.database.money.external_events import ExternalEvents
from offgridflow_pipeline.subscriptions import application, consumer
from offgridflow_pipeline.subscriptions.gateway import StripeGateway
from offgridflow_pipeline_tests.subscriptions.shop import settings

def die(*_arguments, **_named):
    os.kill(os.getpid(), signal.SIGKILL)

place = {"between fetch and apply": (consumer, "apply"), "inside the transaction": (application, "write_mails"),
         "between apply and settle": (ExternalEvents, "settle")}[sys.argv[1]]
setattr(*place, die)
ours = settings(stripe_api_url=os.environ["STRIPE_URL"], database_url=os.environ["ADMIN_URL"])
now = datetime.fromisoformat(os.environ["NOW"])
consumer.drain(open_database(ours), StripeGateway(ours), ours, now, budget=timedelta(minutes=1))
"""


@pytest.mark.parametrize("place", ["between fetch and apply", "inside the transaction", "between apply and settle"])
def test_a_killed_consumer_loses_nothing_and_does_nothing_twice(shop: Shop, tenant: str, place: str) -> None:
    database = shop.database
    shop.subscribe(shop.customer(tenant), trial_period_days=14)
    shop.deliver()
    with StripeServer(shop.world) as server:
        variables = {
            "ADMIN_URL": database.admin_engine.url.render_as_string(hide_password=False),
            "STRIPE_URL": server.url,
            "NOW": shop.world.clock.now().isoformat(),
        }
        child = subprocess.run([sys.executable, "-c", CHILD, place], env={**os.environ, **variables}, check=False)
    assert child.returncode == -signal.SIGKILL
    assert {event.state for event in inbox(database).values()} == {"processing", "ignored"}
    applied = place == "between apply and settle"
    assert standing(database, tenant) == (("pro", "trial") if applied else ("free", "active"))
    assert shop.consume().events == 0  # the lease holds
    with database.admin_engine.begin() as connection:
        connection.execute(
            sa.text("update ogf.external_events set lease_until = clock_timestamp() where state = 'processing'")
        )
    assert shop.consume().events > 0
    assert standing(database, tenant) == ("pro", "trial")
    assert audited(database, tenant) == [("plan:changed", "free", "pro"), ("state:changed", "active", "trial")]
    assert mails(database, tenant) == {"subscription_active": 1}
    assert {event.state for event in inbox(database).values()} == {"done", "ignored"}
