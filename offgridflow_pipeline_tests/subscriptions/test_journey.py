"""One subscription from the first trial to the closed account, told by Stripe's events alone."""

from __future__ import annotations

import uuid

from offgridflow_pipeline.demo.stripe_counterpart import FAILING, GOOD, StripeWorld
from offgridflow_pipeline.demo.stripe_counterpart.books import AccountSettings
from offgridflow_pipeline_tests.subscriptions.shop import Shop, audited, mails, standing


def test_trial_active_grace_restricted_paid_cancelled_suspended_offboarded(shop: Shop, tenant: str) -> None:
    database = shop.database
    shop = Shop(
        database, world=StripeWorld(seed=uuid.uuid4().int, settings=AccountSettings(after_last_retry="past_due"))
    )
    customer = shop.customer(tenant)
    subscription = shop.subscribe(customer, trial_period_days=14)
    shop.listen()
    assert standing(database, tenant) == ("pro", "trial")
    shop.listen(days=12)
    shop.listen(days=3)
    assert standing(database, tenant) == ("pro", "active")
    shop.world.use_card(customer, FAILING.token)
    shop.listen(days=30, hours=2)  # the renewal, and the hour after which its invoice is charged
    assert standing(database, tenant) == ("pro", "grace")
    for _ in range(13):
        shop.listen(days=1)
    assert standing(database, tenant) == ("pro", "grace")
    shop.listen(days=1)
    assert standing(database, tenant) == ("pro", "restricted")
    shop.world.use_card(customer, GOOD.token)
    invoice = next(one for one in shop.world.books.objects.of("invoice") if one["status"] == "open")
    shop.world.pay_invoice(invoice["id"])
    shop.listen()
    assert standing(database, tenant) == ("pro", "active")
    shop.world.call("DELETE", f"/v1/subscriptions/{subscription}")
    shop.listen()
    assert standing(database, tenant) == ("pro", "active")  # until the paid period is over
    shop.listen(days=32)
    assert standing(database, tenant) == ("pro", "suspended")
    shop.listen(days=91)
    assert standing(database, tenant) == ("pro", "offboarded")
    assert audited(database, tenant) == [
        ("plan:changed", "free", "pro"),
        ("state:changed", "active", "trial"),
        ("state:changed", "trial", "active"),
        ("state:changed", "active", "grace"),
        ("state:changed", "grace", "restricted"),
        ("state:changed", "restricted", "active"),
        ("state:changed", "active", "suspended"),
        ("state:changed", "suspended", "offboarded"),
    ]
    assert mails(database, tenant) == {
        "subscription_active": 2,  # when it began, and when it was paid again
        "trial_ending": 1,
        **{f"payment_failed.{day}": 1 for day in (0, 3, 7, 12)},
        "subscription_restricted": 1,
        "subscription_suspended": 1,
    }
