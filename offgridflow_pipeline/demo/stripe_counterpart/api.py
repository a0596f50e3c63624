"""The endpoints of the counterpart: which method and path does what. Keys, failures and repeats are `world`'s."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from offgridflow_pipeline.demo.stripe_counterpart.books import Books
from offgridflow_pipeline.demo.stripe_counterpart.catalog import Catalog
from offgridflow_pipeline.demo.stripe_counterpart.changes import Changes
from offgridflow_pipeline.demo.stripe_counterpart.charging import Charging, subscription_of
from offgridflow_pipeline.demo.stripe_counterpart.checkout import Checkouts
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError, missing, required
from offgridflow_pipeline.demo.stripe_counterpart.forms import Form, flag, words
from offgridflow_pipeline.demo.stripe_counterpart.lifecycle import DAY, ENDED, Lifecycle, Terms
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document, filtered, paged

#: Events older than this cannot be listed any more.
EVENTS_ARE_KEPT = timedelta(days=30)

#: Collection of the path -> kind of object, and parameters that filter a listing by a field of the same name.
_COLLECTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "charges": ("charge", ("customer", "payment_intent")),
    "checkout/sessions": ("checkout.session", ("customer", "subscription", "status")),
    "customers": ("customer", ("email",)),
    "disputes": ("dispute", ("charge", "payment_intent")),
    "events": ("event", ()),
    "invoice_payments": ("invoice_payment", ("invoice", "status")),
    "invoices": ("invoice", ("customer", "status", "collection_method")),
    "payment_intents": ("payment_intent", ("customer",)),
    "payment_methods": ("payment_method", ("customer", "type")),
    "prices": ("price", ("currency", "product", "type")),
    "products": ("product", ()),
    "subscription_items": ("subscription_item", ("subscription",)),
    "subscriptions": ("subscription", ("customer", "collection_method")),
}
_TWO_PART_ROOMS = frozenset({"billing_portal", "checkout"})

#: (method, collection, what follows the id: "-" nothing, "" no id at all)
_Route = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a world that endpoints act on."""

    books: Books
    catalog: Catalog
    charging: Charging
    lifecycle: Lifecycle
    changes: Changes
    checkouts: Checkouts


class Api:
    """Endpoints of one world."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._objects = parts.books.objects
        self._routes: dict[_Route, Callable[[Form, str], Document]] = {
            ("POST", "customers", ""): lambda form, _: parts.catalog.add_customer(form),
            ("POST", "customers", "-"): self._change_customer,
            ("DELETE", "customers", "-"): self._delete_customer,
            ("GET", "customers", "-"): self._customer,
            ("POST", "products", ""): lambda form, _: parts.catalog.add_product(form),
            ("POST", "products", "-"): self._change_catalog,
            ("POST", "prices", ""): lambda form, _: parts.catalog.add_price(form),
            ("POST", "prices", "-"): self._change_catalog,
            ("POST", "payment_methods", "attach"): self._attach,
            ("POST", "checkout/sessions", ""): lambda form, _: parts.checkouts.open(form),
            ("POST", "checkout/sessions", "expire"): self._expire_session,
            ("GET", "checkout/sessions", "line_items"): self._line_items,
            ("POST", "billing_portal/sessions", ""): lambda form, _: parts.checkouts.open_portal(form),
            ("POST", "subscriptions", ""): self._add_subscription,
            ("POST", "subscriptions", "-"): self._change_subscription,
            ("DELETE", "subscriptions", "-"): self._cancel_subscription,
            ("POST", "subscriptions", "pause"): self._pause_subscription,
            ("POST", "subscriptions", "resume"): self._resume_subscription,
            ("POST", "invoices", "pay"): self._pay_invoice,
            ("POST", "invoices", "finalize"): self._finalize_invoice,
            ("POST", "invoices", "void"): self._void_invoice,
            ("POST", "invoices", "mark_uncollectible"): self._give_invoice_up,
        }

    def call(self, method: str, path: str, form: Form) -> Document:
        """The answer to one request.

        Raises:
            ApiError: the request is refused.
        """
        collection, object_id, verb = _read(path)
        key = (method, collection, verb or ("-" if object_id else ""))
        if key in self._routes:
            return self._objects.shown(self._routes[key](form, object_id), form)
        if method == "GET" and collection in _COLLECTIONS and not verb:
            if object_id:
                return self._objects.shown(self._one(collection, object_id), form)
            return self._objects.shown(paged(self._listed(collection, form), form, f"/v1/{collection}"), form)
        raise ApiError(404, f"Unrecognized request URL ({method}: {path}). This counterpart does not have it.")

    def _one(self, collection: str, object_id: str) -> Document:
        found = self._objects.get(_COLLECTIONS[collection][0], object_id)
        if collection == "events" and found["created"] < self._oldest_event():
            raise missing("event", object_id)
        return found

    def _listed(self, collection: str, form: Form) -> list[Document]:
        kind, names = _COLLECTIONS[collection]
        if collection == "subscription_items" and not form.get("subscription"):
            raise required("subscription")
        found = filtered(self._objects.of(kind), form, *names)
        match collection:
            case "customers":
                return [owner for owner in found if not owner.get("deleted")]
            case "events":
                return [event for event in found if self._is_wanted(event, form)]
            case "invoices":
                wanted = form.get("subscription")
                return [bill for bill in found if not wanted or subscription_of(bill) == wanted]
            case "subscriptions":
                return [subscription for subscription in found if _has_status(subscription, form)]
            case "prices" | "products":
                return [document for document in found if _is_offered(document, form)]
        return found

    def _oldest_event(self) -> int:
        return int((self._parts.books.clock.now() - EVENTS_ARE_KEPT).timestamp())

    def _is_wanted(self, event: Document, form: Form) -> bool:
        if event["created"] < self._oldest_event():
            return False
        types = words(form, "types") or words(form, "type")
        if types and not any(_is_type(event["type"], wanted) for wanted in types):
            return False
        stated = form.get("delivery_success")
        return stated is None or flag(stated) == (event["pending_webhooks"] == 0)

    def _customer(self, _form: Form, object_id: str) -> Document:
        owner = self._objects.get("customer", object_id)
        return {"id": object_id, "object": "customer", "deleted": True} if owner.get("deleted") else owner

    def _change_customer(self, form: Form, object_id: str) -> Document:
        owner = self._parts.books.customer(object_id)
        self._parts.catalog.change_customer(owner, form)
        return owner

    def _delete_customer(self, _form: Form, object_id: str) -> Document:
        self._parts.catalog.delete_customer(self._parts.books.customer(object_id))
        return {"id": object_id, "object": "customer", "deleted": True}

    def _change_catalog(self, form: Form, object_id: str) -> Document:
        found = self._objects.find(object_id)
        if found is None or found["object"] not in {"price", "product"}:
            raise missing("product", object_id)
        self._parts.catalog.change(found, form)
        return found

    def _attach(self, form: Form, object_id: str) -> Document:
        return self._parts.charging.new_method(object_id, self._parts.books.customer(str(form["customer"]))["id"])

    def _session(self, object_id: str) -> Document:
        return self._objects.get("checkout.session", object_id)

    def _expire_session(self, _form: Form, object_id: str) -> Document:
        return self._parts.checkouts.expire(self._session(object_id))

    def _line_items(self, _form: Form, object_id: str) -> Document:
        return self._parts.checkouts.line_items(self._session(object_id))

    def _subscription(self, object_id: str) -> Document:
        return self._objects.get("subscription", object_id)

    def _add_subscription(self, form: Form, _object_id: str) -> Document:
        if not form.get("customer"):
            raise required("customer")
        if not form.get("items"):
            raise required("items")
        owner = self._parts.books.customer(str(form["customer"]))
        priced = [
            (self._objects.get("price", str(item["price"])), int(item.get("quantity", 1))) for item in form["items"]
        ]
        subscription = self._parts.lifecycle.start(owner, priced, self._terms(form, owner))
        later = {name: form[name] for name in ("cancel_at", "cancel_at_period_end") if name in form}
        if later:
            self._parts.changes.update(subscription, later)
        return subscription

    def _terms(self, form: Form, owner: Document) -> Terms:
        now = self._parts.books.clock.timestamp
        trial_end = form.get("trial_end")
        if trial_end is None and int(form.get("trial_period_days") or 0):
            trial_end = now + int(form["trial_period_days"]) * DAY
        method = form.get("default_payment_method")
        behaviour = (form.get("trial_settings") or {}).get("end_behavior") or {}
        return Terms(
            metadata=dict(form.get("metadata") or {}),
            description=form.get("description"),
            trial_end=int(trial_end) if trial_end not in {None, "now"} else None,
            method_id=self._parts.charging.new_method(str(method), owner["id"])["id"] if method else None,
            missing_payment_method=str(behaviour.get("missing_payment_method", "create_invoice")),
            payment_behavior=str(form.get("payment_behavior", "allow_incomplete")),
            on_session=not flag(form.get("off_session", "false")),
        )

    def _change_subscription(self, form: Form, object_id: str) -> Document:
        subscription = self._subscription(object_id)
        self._parts.changes.update(subscription, form)
        return subscription

    def _cancel_subscription(self, form: Form, object_id: str) -> Document:
        subscription = self._subscription(object_id)
        self._parts.changes.cancel(subscription, form)
        return subscription

    def _pause_subscription(self, _form: Form, object_id: str) -> Document:
        subscription = self._subscription(object_id)
        self._parts.lifecycle.pause(subscription, "pause_requested")
        return subscription

    def _resume_subscription(self, form: Form, object_id: str) -> Document:
        subscription = self._subscription(object_id)
        self._parts.changes.resume(subscription, form)
        return subscription

    def _invoice(self, object_id: str) -> Document:
        return self._objects.get("invoice", object_id)

    def _pay_invoice(self, form: Form, object_id: str) -> Document:
        bill = self._invoice(object_id)
        method = form.get("payment_method")
        method_id = self._parts.charging.new_method(str(method), bill["customer"])["id"] if method else None
        self._parts.lifecycle.pay(bill, method_id=method_id, on_session=not flag(form.get("off_session", "true")))
        return bill

    def _finalize_invoice(self, _form: Form, object_id: str) -> Document:
        bill = self._invoice(object_id)
        self._parts.charging.finalize(bill)
        return bill

    def _void_invoice(self, _form: Form, object_id: str) -> Document:
        bill = self._invoice(object_id)
        self._parts.charging.check_payable(bill)
        self._parts.charging.void(bill)
        return bill

    def _give_invoice_up(self, _form: Form, object_id: str) -> Document:
        bill = self._invoice(object_id)
        self._parts.charging.check_payable(bill)
        self._parts.charging.mark_uncollectible(bill)
        return bill


def _read(path: str) -> tuple[str, str, str]:
    """Collection, id and verb of a path."""
    parts = path.strip("/").split("/")[1:]
    count = 2 if parts and parts[0] in _TWO_PART_ROOMS else 1
    rest = [*parts[count:], "", ""]
    return "/".join(parts[:count]), rest[0], rest[1]


def _is_type(event_type: str, wanted: str) -> bool:
    return event_type.startswith(wanted[:-1]) if wanted.endswith("*") else event_type == wanted


def _has_status(subscription: Document, form: Form) -> bool:
    wanted, status = str(form.get("status") or ""), subscription["status"]
    prices = {item["price"]["id"] for item in subscription["items"]["data"]}
    if form.get("price") and form["price"] not in prices:
        return False
    match wanted:
        case "all":
            return True
        case "ended":
            return status in ENDED
        case "":
            return bool(status != "canceled")
    return bool(status == wanted)


def _is_offered(document: Document, form: Form) -> bool:
    keys, ids = words(form, "lookup_keys"), words(form, "ids")
    return (
        (not keys or document.get("lookup_key") in keys)
        and (not ids or document["id"] in ids)
        and ("active" not in form or document["active"] == flag(form["active"]))
    )
