"""Customers, products and prices: what the API creates and changes of them."""

from __future__ import annotations

from offgridflow_pipeline.demo.stripe_counterpart import documents
from offgridflow_pipeline.demo.stripe_counterpart.books import Books, changed_metadata
from offgridflow_pipeline.demo.stripe_counterpart.changes import Changes
from offgridflow_pipeline.demo.stripe_counterpart.charging import Charging
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError, required
from offgridflow_pipeline.demo.stripe_counterpart.forms import Form, flag
from offgridflow_pipeline.demo.stripe_counterpart.lifecycle import Lifecycle
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document


class Catalog:
    """Customers, products and prices of one world."""

    def __init__(self, books: Books, charging: Charging, lifecycle: Lifecycle, changes: Changes) -> None:
        self._books = books
        self._charging = charging
        self._lifecycle = lifecycle
        self._changes = changes

    def add_customer(self, form: Form) -> Document:
        """A customer as `POST /v1/customers` states it.

        Raises:
            ApiError: 402, its card cannot be attached.
        """
        owner = documents.customer(self._books, email=form.get("email"), name=form.get("name"))
        changed_metadata(owner, form)
        owner["description"] = form.get("description")
        owner["preferred_locales"] = list(form.get("preferred_locales") or [])
        method = form.get("payment_method")
        if method:
            attached = self._charging.new_method(str(method), owner["id"])
            owner["invoice_settings"]["default_payment_method"] = attached["id"]
        self._books.objects.add(owner)
        self._books.emit("customer.created", owner)
        return owner

    def change_customer(self, owner: Document, form: Form) -> None:
        """What `POST /v1/customers/:id` states; a new default payment method counts for running subscriptions too.

        Raises:
            ApiError: 402, the card cannot be attached.
        """
        method = (form.get("invoice_settings") or {}).get("default_payment_method")
        if method:
            self._changes.use_card(owner, str(method))
        with self._books.changing(owner, "customer.updated"):
            changed_metadata(owner, form)
            for name in ("email", "name", "description", "phone"):
                owner[name] = form.get(name, owner[name]) or None

    def delete_customer(self, owner: Document) -> None:
        """Delete a customer for good: its running subscriptions end at once."""
        for subscription in self._changes.running(owner):
            self._lifecycle.end(subscription, reason="cancellation_requested")
        self._books.emit("customer.deleted", owner)
        owner["deleted"] = True

    def add_product(self, form: Form) -> Document:
        """A product as `POST /v1/products` states it; an id may be stated.

        Raises:
            ApiError: 400, it has no name, or the id is taken.
        """
        if not form.get("name"):
            raise required("name")
        product = documents.product(self._books, name=str(form["name"]))
        if stated := form.get("id"):
            if self._books.objects.find(str(stated)):
                raise ApiError(400, f"Product already exists: {stated}", code="resource_already_exists", param="id")
            product["id"] = str(stated)
        changed_metadata(product, form)
        product["description"] = form.get("description")
        self._books.objects.add(product)
        self._books.emit("product.created", product)
        return product

    def add_price(self, form: Form, price_id: str = "") -> Document:
        """A price as `POST /v1/prices` states it; `price_id` is for prices that exist before the story begins.

        Raises:
            ApiError: 400, product or currency are missing.
        """
        if form.get("product_data"):
            product = self.add_product(form["product_data"])
        elif form.get("product"):
            product = self._books.objects.get("product", str(form["product"]))
        else:
            raise required("product")
        recurring = form.get("recurring") or {}
        price = documents.price(
            self._books,
            product_id=product["id"],
            unit_amount=int(form.get("unit_amount", 0)),
            currency=str(form.get("currency", self._books.settings.currency)),
            interval=recurring.get("interval"),
            interval_count=int(recurring.get("interval_count", 1)),
        )
        price["id"] = price_id or price["id"]
        changed_metadata(price, form)
        price.update(lookup_key=form.get("lookup_key"), nickname=form.get("nickname"))
        self._books.objects.add(price)
        self._books.emit("price.created", price)
        return price

    def change(self, document: Document, form: Form) -> None:
        """What an update of a product or price states."""
        with self._books.changing(document, f"{document['object']}.updated"):
            changed_metadata(document, form)
            if "active" in form:
                document["active"] = flag(form["active"])
            for name in ("name", "description", "nickname", "lookup_key"):
                if name in form and name in document:
                    document[name] = form[name] or None
