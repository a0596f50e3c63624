"""The objects of a Stripe world: deterministic ids, look-up, pages by cursor, `expand[]`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError, missing
from offgridflow_pipeline.demo.stripe_counterpart.forms import Form, words

Document = dict[str, Any]
_Tree = TypeVar("_Tree")

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIXES = {
    "customer": "cus_",
    "product": "prod_",
    "price": "price_",
    "payment_method": "pm_",
    "checkout.session": "cs_test_",
    "billing_portal.session": "bps_",
    "portal_secret": "p_session_test_",
    "subscription": "sub_",
    "subscription_item": "si_",
    "invoice": "in_",
    "line_item": "il_",
    "invoice_payment": "inpay_",
    "payment_intent": "pi_",
    "charge": "ch_",
    "dispute": "du_",
    "event": "evt_",
    "request": "req_",
    "hosted_invoice": "test_",
}
#: Stripe refuses deeper paths, and the `data` of a list counts: `data.items.data.price` is the deepest of a listing.
_DEEPEST_EXPANSION = 4
_LARGEST_PAGE = 100


class Objects:
    """Everything that exists. Documents are the live ones: whoever hands them out copies them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._counts: dict[str, int] = {}
        self._by_id: dict[str, Document] = {}
        self._by_kind: dict[str, list[Document]] = {}

    def new_id(self, kind: str) -> str:
        """The next id of a kind: the same for the same seed and the same number of objects before."""
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        digest = int.from_bytes(hashlib.sha256(f"{self._seed}:{kind}:{number}".encode()).digest(), "big")
        letters = []
        for _ in range(24):
            digest, place = divmod(digest, len(_ALPHABET))
            letters.append(_ALPHABET[place])
        return _PREFIXES[kind] + "".join(letters)

    def add(self, document: Document) -> Document:
        """Keep a new object; returns it."""
        self._by_id[document["id"]] = document
        self._by_kind.setdefault(document["object"], []).append(document)
        return document

    def get(self, kind: str, object_id: str) -> Document:
        """An object by id.

        Raises:
            ApiError: 404, there is none of this kind.
        """
        found = self._by_id.get(object_id)
        if found is None or found["object"] != kind:
            raise missing(kind, object_id)
        return found

    def find(self, object_id: str) -> Document | None:
        """An object of any kind."""
        return self._by_id.get(object_id)

    def of(self, kind: str) -> list[Document]:
        """All objects of a kind, newest first."""
        return self._by_kind.get(kind, [])[::-1]

    def shown(self, document: Document, form: Form) -> Document:
        """A copy for an answer, with what `expand[]` asks for.

        Raises:
            ApiError: 400, the path is too deep or leads nowhere.
        """
        copy = copied(document)
        for path in words(form, "expand"):
            parts = path.split(".")
            if len(parts) > _DEEPEST_EXPANSION:
                raise ApiError(
                    400, f"You cannot expand more than 4 levels of a property. Property: {path}", param="expand"
                )
            self._expand(copy, parts, path)
        return copy

    def _expand(self, place: Any, parts: Sequence[str], path: str) -> None:
        if isinstance(place, list):
            for element in place:
                self._expand(element, parts, path)
            return
        if place is None:
            return
        name, rest = parts[0], parts[1:]
        if isinstance(place, dict) and name == "payments" and place.get("object") == "invoice":
            place["payments"] = self._payments(place["id"])
        if not isinstance(place, dict) or name not in place:
            hint = f" You may want to try expanding 'data.{path}' instead." if _is_list(place) else ""
            raise ApiError(400, f"This property cannot be expanded ({name}).{hint}", param="expand")
        value = place[name]
        if isinstance(value, str):
            found = self._by_id.get(value)
            if found is None:
                raise ApiError(400, f"This property cannot be expanded ({name}).", param="expand")
            value = place[name] = copied(found)
        if rest:
            self._expand(value, rest, path)

    def _payments(self, invoice_id: str) -> Document:
        found = [payment for payment in self.of("invoice_payment") if payment["invoice"] == invoice_id]
        return page(copied(found), "/v1/invoice_payments")


def copied(document: _Tree) -> _Tree:
    """A copy of a document down to its leaves; several times as fast as `copy.deepcopy`, for JSON only."""
    tree: Any = document
    if isinstance(tree, dict):
        tree = {name: copied(value) for name, value in tree.items()}
    elif isinstance(tree, list):
        tree = [copied(value) for value in tree]
    found: _Tree = tree
    return found


def _is_list(place: Any) -> bool:
    return isinstance(place, dict) and place.get("object") == "list"


def page(data: list[Document], url: str, *, has_more: bool = False) -> Document:
    """A list as Stripe writes it."""
    return {"object": "list", "url": url, "has_more": has_more, "data": data}


def paged(found: Sequence[Document], form: Form, url: str) -> Document:
    """One page of objects that come newest first: `limit`, `starting_after`, `ending_before`.

    Raises:
        ApiError: 400, the limit or the cursor is none.
    """
    limit = _limit(form)
    places = {document["id"]: place for place, document in enumerate(found)}
    if before := form.get("ending_before"):
        end = _cursor(places, str(before), "ending_before")
        start = max(0, end - limit)
        return page(list(found[start:end]), url, has_more=start > 0)
    start = 0
    if after := form.get("starting_after"):
        start = _cursor(places, str(after), "starting_after") + 1
    return page(list(found[start : start + limit]), url, has_more=start + limit < len(found))


def _limit(form: Form) -> int:
    text = str(form.get("limit", "10"))
    if not text.isdecimal() or not 1 <= int(text) <= _LARGEST_PAGE:
        raise ApiError(400, f"Invalid integer: {text}. The limit is between 1 and 100.", param="limit")
    return int(text)


def _cursor(places: dict[str, int], object_id: str, param: str) -> int:
    if object_id not in places:
        raise ApiError(400, f"No such object: '{object_id}'", code="resource_missing", param=param)
    return places[object_id]


def filtered(found: Iterable[Document], form: Form, *names: str) -> list[Document]:
    """Objects whose fields have the stated values, created when `created` says."""
    wanted = {name: str(form[name]) for name in names if form.get(name)}
    return [
        document
        for document in found
        if all(str(document.get(name)) == value for name, value in wanted.items())
        and _is_within(document["created"], form.get("created"))
    ]


def _is_within(created: int, bounds: Any) -> bool:
    if not bounds:
        return True
    if not isinstance(bounds, dict):
        return created == int(bounds)
    tests = {"gt": created.__gt__, "gte": created.__ge__, "lt": created.__lt__, "lte": created.__le__}
    return all(tests[name](int(value)) for name, value in bounds.items())
