"""Our own Stripe for tests and the demonstration: a stateful account behind the real API's shapes, offline.

`StripeWorld` is the account with its clock, `InProcessHTTPClient` lets the official library ask it without sockets,
`Deliveries` signs and delivers its webhooks, `StripeServer` serves it over HTTP with pages for a browser. Objects have
the shapes of API version 2026-10-28.endive; prorations are near, taxes, coupons, meters and Connect are not there.
"""

from offgridflow_pipeline.demo.stripe_counterpart.books import API_VERSION, AccountSettings
from offgridflow_pipeline.demo.stripe_counterpart.cards import (
    AUTHENTICATED,
    CARDS,
    DECLINED,
    DISPUTED,
    FAILING,
    GOOD,
    MASTERCARD,
    Card,
)
from offgridflow_pipeline.demo.stripe_counterpart.clock import WorldClock
from offgridflow_pipeline.demo.stripe_counterpart.deliveries import (
    Deliveries,
    Delivery,
    DeliveryPlan,
    signature,
    system_time,
    to_url,
)
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError
from offgridflow_pipeline.demo.stripe_counterpart.in_process import InProcessHTTPClient
from offgridflow_pipeline.demo.stripe_counterpart.server import StripeServer
from offgridflow_pipeline.demo.stripe_counterpart.world import Failure, NoAnswerError, StripeWorld

__all__ = [
    "API_VERSION",
    "AUTHENTICATED",
    "CARDS",
    "DECLINED",
    "DISPUTED",
    "FAILING",
    "GOOD",
    "MASTERCARD",
    "AccountSettings",
    "ApiError",
    "Card",
    "Deliveries",
    "Delivery",
    "DeliveryPlan",
    "Failure",
    "InProcessHTTPClient",
    "NoAnswerError",
    "StripeServer",
    "StripeWorld",
    "WorldClock",
    "signature",
    "system_time",
    "to_url",
]
