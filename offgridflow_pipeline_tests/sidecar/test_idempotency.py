"""Idempotency-Key: a creating request sent again creates nothing again, whatever happens in between."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.entrance.caller import Caller
from offgridflow_pipeline.sidecar.entrance.idempotency import HEADER, REPLAYED, fingerprint, idempotent
from offgridflow_pipeline.sidecar.entrance.problems import Problem
from offgridflow_pipeline.sidecar.services import Services

PATIENCE = 10


class Order(BaseModel):
    """What the test route creates."""

    name: str
    secret: SecretStr = SecretStr("")


@dataclass
class Shop:
    """A served route that creates mails, one per request it really works on."""

    client: TestClient
    database: Database
    before_answer: Callable[[], None] = field(default=lambda: None)

    def order(
        self, tenant: str, key: str | None, name: str = "a", principal: str = "key:1", path: str = "/orders"
    ) -> Any:
        headers = {"tenant": tenant, "principal": principal, **({HEADER: key} if key is not None else {})}
        return self.client.post(path, json={"name": name}, headers=headers)

    def created(self, tenant: str) -> int:
        return len(self.database.outbox.list(tenant))


@pytest.fixture
def shop(api_database: Database) -> Iterator[Shop]:
    app = FastAPI()
    app.state.services = Services(Settings(_env_file=None, environment="test"), api_database)

    def create(
        order: Order, request: Request, tenant: Annotated[str, Header()], principal: Annotated[str, Header()]
    ) -> Response:
        tenant_id = api_database.tenants.get(tenant).tenant_id
        with api_database.requests.by_tenant(tenant_id, tenant) as bound:
            caller = Caller("token", principal, tenant, tenant_id, tenant, frozenset(), bound)
            with idempotent(caller, request, order) as once:
                if once.replay is not None:
                    return once.replay
                made = str(uuid.uuid4())
                bound.outbox.add(
                    tenant, "test", to="a@b.example", user_id=None, locale="en", variables={}, dedupe_key=made
                )
                if order.name == "refused":
                    raise Problem(422, "out_of_stock")
                served.before_answer()
                return once.keep(JSONResponse({"id": made}, 201, {"Location": f"/orders/{made}"}))

    app.post("/orders")(create)
    app.post("/baskets/{basket}/orders")(create)

    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Problem) -> Response:
        return JSONResponse({"code": error.code}, error.status, error.headers)

    with TestClient(app, raise_server_exceptions=False) as client:
        served = Shop(client, api_database)
        yield served


def test_the_same_request_again_creates_nothing_and_gets_the_same_answer(
    shop: Shop, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    first, again = shop.order(tenant, "k-1"), shop.order(tenant, "k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["content-type"] == first.headers["content-type"]
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    assert shop.created(tenant) == 1


@pytest.mark.parametrize("key", [None, "", "with blank", "x" * 256, "tab\there"])
def test_without_a_usable_key_nothing_is_created(shop: Shop, new_tenant: Callable[[], str], key: str | None) -> None:
    tenant = new_tenant()
    answer = shop.order(tenant, key)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key")
    assert shop.created(tenant) == 0


def test_the_same_key_with_another_body_or_path_is_refused(shop: Shop, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    assert shop.order(tenant, "k", "a").status_code == 201
    other_body = shop.order(tenant, "k", "b")
    assert (other_body.status_code, other_body.json()["code"]) == (422, "key_reused")
    assert shop.order(tenant, "p", path="/baskets/1/orders").status_code == 201
    assert shop.order(tenant, "p", path="/baskets/2/orders").status_code == 422
    assert shop.created(tenant) == 2


def test_a_key_belongs_to_its_tenant_its_principal_and_its_route(shop: Shop, new_tenant: Callable[[], str]) -> None:
    tenant, foreign = new_tenant(), new_tenant()
    answers = [
        shop.order(tenant, "shared", "a"),
        shop.order(foreign, "shared", "b"),
        shop.order(tenant, "shared", "c", principal="key:2"),
        shop.order(tenant, "shared", "d", path="/baskets/1/orders"),
    ]
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["id"] for answer in answers}) == 4
    assert (shop.created(tenant), shop.created(foreign)) == (3, 1)


def test_a_refused_creation_keeps_nothing_and_may_be_sent_again(shop: Shop, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    assert shop.order(tenant, "k", "refused").json()["code"] == "out_of_stock"
    assert shop.order(tenant, "k", "refused").json()["code"] == "out_of_stock"
    assert shop.order(tenant, "k", "a").status_code == 201
    assert shop.created(tenant) == 1


def test_a_crash_before_the_end_leaves_neither_creation_nor_answer(shop: Shop, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()

    def crash() -> None:
        raise RuntimeError("power cut")

    shop.before_answer = crash
    assert shop.order(tenant, "k").status_code == 500
    assert (shop.created(tenant), _kept(shop, tenant)) == (0, [])
    shop.before_answer = lambda: None
    assert shop.order(tenant, "k").status_code == 201
    assert shop.created(tenant) == 1


def test_while_a_request_runs_the_same_one_is_told_to_come_back(shop: Shop, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    working, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        working.set()
        assert go_on.wait(PATIENCE)

    shop.before_answer = hold
    with ThreadPoolExecutor(1) as pool:
        first: Future[Any] = pool.submit(shop.order, tenant, "k")
        assert working.wait(PATIENCE)
        early = shop.order(tenant, "k")
        go_on.set()
        answer = first.result(PATIENCE)
    late = shop.order(tenant, "k")
    assert (early.status_code, early.json()["code"], early.headers["retry-after"]) == (409, "request_running", "1")
    assert (answer.status_code, late.status_code, late.json()) == (201, 201, answer.json())
    assert shop.created(tenant) == 1


def test_of_many_at_once_one_creates_and_none_creates_again(shop: Shop, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    barrier = threading.Barrier(4)

    def order(_number: int) -> Any:
        barrier.wait(PATIENCE)
        return shop.order(tenant, "k")

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(order, range(4)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert shop.created(tenant) == 1


def test_after_a_day_the_key_is_free_and_old_answers_are_removed(
    shop: Shop, new_tenant: Callable[[], str], database: Database
) -> None:
    tenant = new_tenant()
    first = [shop.order(tenant, key).json()["id"] for key in ("old", "older")]
    with database.admin_engine.begin() as connection:
        connection.execute(
            sa.text(
                "update ogf.idempotency_keys k set created_at = k.created_at - interval '24 hours'"
                " from ogf.tenants t where t.tenant_id = k.tenant_id and t.slug = :slug"
            ),
            {"slug": tenant},
        )
    again = shop.order(tenant, "old", "another body")
    assert (again.status_code, REPLAYED in again.headers) == (201, False)
    assert again.json()["id"] not in first
    assert _kept(shop, tenant) == ["old"]


def _kept(shop: Shop, tenant: str) -> list[str]:
    with shop.database.tenant(tenant) as scope:
        return list(
            scope.connection.scalars(
                sa.text("select key from ogf.idempotency_keys where tenant_id = :tenant_id order by 1"),
                {"tenant_id": scope.tenant_id},
            )
        )


def test_a_kept_answer_cannot_be_read_in_the_database(
    shop: Shop, new_tenant: Callable[[], str], database: Database
) -> None:
    tenant = new_tenant()
    made = shop.order(tenant, "sealed").json()["id"]
    with database.admin_engine.begin() as connection:
        bodies = list(connection.scalars(sa.text("select body from ogf.idempotency_keys where key = 'sealed'")))
    assert len(bodies) == 1
    assert made.encode() not in bytes(bodies[0])


def test_a_handler_that_forgets_to_keep_its_answer_is_an_error(
    api_database: Database, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    request = Request({"type": "http", "method": "POST", "path": "/x", "headers": [(HEADER.lower().encode(), b"k")],
                       "query_string": b"", "server": ("h", 80), "scheme": "http",
                       "app": _App(Services(Settings(_env_file=None, environment="test"), api_database))})  # fmt: skip
    with pytest.raises(RuntimeError, match="keep"), api_database.tenant(tenant) as scope:
        caller = Caller("token", "key:1", tenant, scope.tenant_id, tenant, frozenset(), api_database.within(scope))
        with idempotent(caller, request, None):
            pass


class _App:
    def __init__(self, services: Services) -> None:
        self.state = type("State", (), {"services": services})()


@given(name=st.text(max_size=20), other=st.text(max_size=20))
def test_fingerprints_are_equal_for_equal_bodies_and_tell_others_apart(name: str, other: str) -> None:
    one = fingerprint("POST", "/orders", Order(name=name))
    assert one == fingerprint("POST", "/orders", Order.model_validate({"secret": "", "name": name}))
    assert (one == fingerprint("POST", "/orders", Order(name=other))) == (name == other)


def test_fingerprints_tell_secrets_methods_paths_and_files_apart() -> None:
    body = Order(name="a", secret=SecretStr("one"))
    different = {
        fingerprint("POST", "/orders", body),
        fingerprint("POST", "/orders", Order(name="a", secret=SecretStr("two"))),
        fingerprint("PUT", "/orders", body),
        fingerprint("POST", "/order", body),
        fingerprint("POST", "/orders", b"\x00" * 32),
        fingerprint("POST", "/orders", None),
    }
    assert len(different) == 6
