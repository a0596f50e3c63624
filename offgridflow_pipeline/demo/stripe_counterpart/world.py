"""A Stripe account that exists only here: the API in process, the customers' deeds, time, and failures on demand.

Every identifier follows from the seed and the order of what happens, every date from the world's own clock.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from offgridflow_pipeline.demo.stripe_counterpart.api import Api, Parts
from offgridflow_pipeline.demo.stripe_counterpart.books import API_VERSION, AccountSettings, Books, Cause
from offgridflow_pipeline.demo.stripe_counterpart.cards import GOOD, card_of
from offgridflow_pipeline.demo.stripe_counterpart.catalog import Catalog
from offgridflow_pipeline.demo.stripe_counterpart.changes import Changes
from offgridflow_pipeline.demo.stripe_counterpart.charging import Charging
from offgridflow_pipeline.demo.stripe_counterpart.checkout import Checkouts
from offgridflow_pipeline.demo.stripe_counterpart.clock import WorldClock
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError
from offgridflow_pipeline.demo.stripe_counterpart.forms import Form, nested
from offgridflow_pipeline.demo.stripe_counterpart.lifecycle import Lifecycle
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document, copied

#: How long Stripe remembers an idempotency key.
_KEYS_ARE_KEPT = int(timedelta(hours=24).total_seconds())


class NoAnswerError(Exception):
    """The connection ended without an answer; whether the request had its effect is not known to the caller."""


@dataclass(slots=True)
class Failure:
    """How requests are to fail. `status` 0: no answer at all. `path`: only requests whose path begins so.

    `after_effect`: the request is carried out first and only its answer is lost, as when a line breaks.
    """

    status: int
    times: int = 1
    path: str = "/"
    after_effect: bool = False


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request as it arrived. `version`: the Stripe-Version it asked for, empty when it asked for none."""

    method: str
    path: str
    version: str
    idempotency_key: str
    form: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and headers of an answer."""

    status: int
    document: Document
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Remembered:
    request: str
    answer: Answer
    at: int


class StripeWorld:
    """One account in test mode. Use it from one thread at a time, or hold `lock`."""

    def __init__(
        self, clock: WorldClock | None = None, *, seed: int = 0, settings: AccountSettings | None = None
    ) -> None:
        self.clock = clock or WorldClock()
        self.books = Books(self.clock, seed, settings or AccountSettings())
        self.lock = threading.RLock()
        self.requests: list[SeenRequest] = []
        #: While true no request is answered.
        self.unreachable = False
        #: Told of every deed that may change the world, by name and arguments, just before it is done.
        self.on_deed: Callable[[str, list[Any]], None] = lambda _deed, _arguments: None
        charging = Charging(self.books)
        lifecycle = Lifecycle(self.books, charging)
        changes = Changes(self.books, charging, lifecycle)
        catalog = Catalog(self.books, charging, lifecycle, changes)
        self.parts = Parts(
            self.books, catalog, charging, lifecycle, changes, Checkouts(self.books, charging, lifecycle)
        )
        self._api = Api(self.parts)
        self._failures: list[Failure] = []
        self._remembered: dict[str, _Remembered] = {}

    @property
    def events(self) -> list[Document]:
        """All events, oldest first, also those that cannot be listed any more."""
        return self.books.events

    def handle(
        self, method: str, path: str, form: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[int, Document]:
        """Status and body for a request; `form` with names in brackets or as a tree.

        Raises:
            NoAnswerError: by a `Failure`, or while the world is unreachable.
        """
        answer = self.answer(method, path, form, headers)
        return answer.status, answer.document

    def answer(self, method: str, path: str, form: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        """As `handle`, with the answer's headers."""
        tree = nested(form.items())
        stated = {name.lower(): value for name, value in headers.items()}
        with self.lock:
            key = stated.get("idempotency-key", "") if method == "POST" else ""
            version = stated.get("stripe-version", "")
            self.requests.append(SeenRequest(method, path, version, key, tree))
            if self.unreachable:
                raise NoAnswerError(f"{method} {path}")
            failure = self._failure(path)
            if failure is not None and not failure.after_effect:
                return _failed(failure)
            answer = self._answer(method, path, tree, key, stated)
            return answer if failure is None else _failed(failure)

    def _answer(self, method: str, path: str, form: Form, key: str, headers: Mapping[str, str]) -> Answer:
        request = json.dumps([method, path, form], sort_keys=True)
        known = self._remembered.get(key)
        if key and known is not None and self.clock.timestamp - known.at < _KEYS_ARE_KEPT:
            if known.request == request:
                return Answer(
                    known.answer.status,
                    copied(known.answer.document),
                    {**known.answer.headers, "Idempotent-Replayed": "true"},
                )
            return Answer(400, _reused(key).document)
        if method != "GET":
            self.on_deed("answer", [method, path, form, {"authorization": "Bearer sk_test_", "idempotency-key": key}])
        request_id = self.books.objects.new_id("request")
        answer_headers = {"Request-Id": request_id, "Stripe-Version": API_VERSION}
        try:
            _check(headers)
            with self.acting(Cause(request_id, key or None)):
                document = self._api.call(method, path, form)
        except ApiError as refusal:
            answer = Answer(refusal.status, refusal.document, answer_headers)
        else:
            answer = Answer(200, document, answer_headers)
        # A request that was refused before it began may be sent again under its key; a declined card may not.
        if key and answer.status in {200, 402}:
            self._remembered[key] = _Remembered(
                request, replace(answer, document=copied(answer.document)), self.clock.timestamp
            )
        return answer

    @contextmanager
    def acting(self, cause: Cause | None = None) -> Iterator[None]:
        """Do something at the present time; what it makes due at once happens right after."""
        with self.lock:
            self.books.cause = cause
            try:
                yield
            finally:
                self.books.cause = None
            self.clock.advance(timedelta(0))

    def advance(self, by: timedelta) -> None:
        """As `clock.advance`, safe beside other threads."""
        with self.lock:
            self.on_deed("advance", [by.total_seconds()])
            self.clock.advance(by)

    def fail(self, failure: Failure) -> None:
        """Let coming requests fail; several failures are used up in the order they were stated."""
        self._failures.append(failure)

    def _failure(self, path: str) -> Failure | None:
        for failure in self._failures:
            if failure.times > 0 and path.startswith(failure.path):
                failure.times -= 1
                return failure
        return None

    def call(self, method: str, path: str, **form: Any) -> Document:
        """A request without a client library.

        Raises:
            ApiError: it is refused.
        """
        with self.acting():
            if method != "GET":
                self.on_deed("call", [method, path, form])
            return self._api.call(method, path, nested(form.items()))

    def offer(self, plan: str, price_id: str, unit_amount: int, *, interval: str = "month") -> Document:
        """A product of this name with one price; the plan's name is in the product's metadata and the lookup key."""
        with self.acting():
            product = self.parts.catalog.add_product(
                {"name": f"OffGridFlow {plan.title()}", "metadata": {"plan": plan}, "id": f"prod_{price_id}"}
            )
            price = self.parts.catalog.add_price(
                {
                    "product": product["id"],
                    "unit_amount": unit_amount,
                    "recurring": {"interval": interval},
                    "lookup_key": plan,
                },
                price_id,
            )
            product["default_price"] = price["id"]
            return copied(price)

    def complete_checkout(self, session_id: str, card: str | None = GOOD.number, email: str | None = None) -> Document:
        """The customer fills in the checkout page.

        Raises:
            ApiError: 402, the card is declined and the page stays open.
        """
        with self.acting():
            token = card_of(card).token if card is not None else None
            self.on_deed("complete_checkout", [session_id, token, email])
            session = self.books.objects.get("checkout.session", session_id)
            return copied(self.parts.checkouts.complete(session, token, email=email))

    def use_card(self, customer_id: str, card: str) -> None:
        """The customer replaces their card (number or token); what falls due later is charged to it.

        Raises:
            ApiError: 402, the card cannot be attached.
        """
        with self.acting():
            token = card_of(card).token
            self.on_deed("use_card", [customer_id, token])
            self.parts.changes.use_card(self.books.customer(customer_id), token)

    def pay_invoice(self, invoice_id: str, card: str | None = None) -> None:
        """The customer pays an open invoice on its page, with a new card or the one on file.

        Raises:
            ApiError: 402, the card is declined.
        """
        with self.acting():
            bill = self.books.objects.get("invoice", invoice_id)
            token = card_of(card).token if card else None
            self.on_deed("pay_invoice", [invoice_id, token])
            method = self.parts.charging.new_method(token, bill["customer"]) if token else None
            self.parts.lifecycle.pay(bill, method_id=method["id"] if method else None, on_session=True)

    def dispute(self, customer_id: str, reason: str = "fraudulent") -> Document:
        """The cardholder disputes the customer's newest charge.

        Raises:
            LookupError: nothing was charged yet.
        """
        with self.acting():
            charges = [charge for charge in self.books.objects.of("charge") if charge["customer"] == customer_id]
            if not charges:
                raise LookupError(f"Customer {customer_id} was never charged.")
            self.on_deed("dispute", [customer_id, reason])
            return copied(self.parts.charging.dispute(charges[0], reason))


def _check(headers: Mapping[str, str]) -> None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise ApiError(401, "You did not provide an API key.")
    if not key.startswith(("sk_test_", "rk_test_")):
        raise ApiError(401, "Invalid API Key provided: this counterpart takes keys of test mode only.")
    version = headers.get("stripe-version", API_VERSION)
    if version != API_VERSION:
        raise ApiError(400, f"Invalid Stripe API version: {version}. This counterpart has {API_VERSION} only.")


def _reused(key: str) -> ApiError:
    return ApiError(
        400,
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        f"Try using a key other than '{key}' if you meant to execute a different request.",
        kind="idempotency_error",
    )


def _failed(failure: Failure) -> Answer:
    if failure.status == 0:
        raise NoAnswerError("The connection ended before an answer.")
    if failure.status == 429:
        error = ApiError(429, "Request rate limit exceeded.", code="rate_limit")
    else:
        error = ApiError(failure.status, "An unknown error occurred.", kind="api_error")
    return Answer(failure.status, error.document)
