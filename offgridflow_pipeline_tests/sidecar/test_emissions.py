"""Totals, trend and quality over HTTP: exact to the last digit, complete over pages, one tenant's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest

from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.sidecar.answering.questions import Dimension
from offgridflow_pipeline_tests.inventory.ledgers import line, money_line, realistic, unmapped_line
from offgridflow_pipeline_tests.sidecar.serving import Api, day, pages, statements

OCTOBER = {"from": "2026-10-01", "to": "2026-10-31"}
COLUMNS = {
    "scope": "scope",
    "provider": "x_Provider",
    "account": "SubAccountId",
    "service": "ServiceName",
    "region": "RegionId",
    "disposition": "disposition",
}
MEASURES = {
    "kwh": "kwh",
    "co2e_location_kg": "co2e_lbm_kg",
    "co2e_market_kg": "co2e_mbm_kg",
    "embodied_kg": "embodied_kg",
    "upstream_energy_kg": "upstream_energy_kg",
}
DIMENSIONS: tuple[Dimension, ...] = ("day", "month", "scope", "provider", "account", "service", "region", "disposition")


@pytest.fixture(scope="module")
def october(api: Api) -> tuple[str, dict[str, str], list[dict[str, Any]]]:
    """A tenant with a real month: its slug, a key, and its ledger lines."""
    tenant = api.pipeline.tenants.add("october", "October", currency="EUR").slug
    lines = realistic("2026-10", tenant=tenant).lines
    lines += [line(9001, RegionId=None, SubAccountId="", usage_date=day(3), kwh=Decimal("0.000000000001"))]
    api.publish(tenant, lines)
    return tenant, api.key(tenant), lines


def expected(lines: Iterable[Mapping[str, Any]], group_by: Iterable[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Totals added up in plain Python: group -> measures, costs per currency, lines per disposition."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in lines:
        groups[tuple(dimension(row, name) for name in group_by)].append(row)
    return {key: summed(rows) for key, rows in groups.items()}


def dimension(row: Mapping[str, Any], name: str) -> Any:
    if name in {"day", "month"}:
        return row["usage_date"].isoformat()[: 10 if name == "day" else 7]
    return row[COLUMNS[name]]


def summed(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    costs: dict[str, Decimal] = defaultdict(Decimal)
    dispositions = dict.fromkeys(("mapped", "proxied", "no_emission", "unmapped"), 0)
    for row in rows:
        costs[row["BillingCurrency"]] += row["billed_cost"]
        dispositions[row["disposition"]] += 1
    measures: dict[str, Any] = {}
    for name, column in MEASURES.items():
        values = [row[column] for row in rows if row.get(column) is not None]
        measures[name] = sum(values, Decimal(0)) if values else None
    return {**measures, "line_count": len(rows), "cost": dict(costs), "coverage": dispositions}


def read(items: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {
        tuple(item["group"].values()): {
            **{name: None if item[name] is None else Decimal(item[name]) for name in MEASURES},
            "line_count": item["line_count"],
            "cost": {cost["currency"]: Decimal(cost["billed_cost"]) for cost in item["cost"]},
            "coverage": item["coverage"],
        }
        for item in items
    }


@pytest.mark.parametrize("group_by", [(), *((name,) for name in DIMENSIONS), *combinations(DIMENSIONS, 2)])
def test_totals_of_every_grouping_are_the_sums_of_the_ledger_to_the_last_digit(
    api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]], group_by: tuple[Dimension, ...]
) -> None:
    _, key, lines = october
    seen = [
        item
        for page in pages(
            lambda cursor: api.get(
                "/v1/emissions/totals", key, **OCTOBER, group_by=list(group_by), limit=200, cursor=cursor
            )
        )
        for item in page
    ]
    assert read(seen) == expected(lines, group_by)


@pytest.mark.parametrize(("limit", "as_of"), [(1, None), (2, None), (3, None), (7, None), (50, None), (7, 1)])
def test_pages_of_any_size_put_together_are_the_whole_without_repetition(
    api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]], limit: int, as_of: int | None
) -> None:
    _, key, _ = october

    def get(size: int, cursor: str | None) -> Any:
        groups = ["region", "account"]
        return api.get("/v1/emissions/totals", key, **OCTOBER, group_by=groups, limit=size, cursor=cursor, as_of=as_of)

    seen = list(pages(lambda cursor: get(limit, cursor)))
    assert all(len(page) == limit for page in seen[:-1])
    assert [item for page in seen for item in page] == get(200, None).json()["items"]


def test_what_is_not_stated_is_a_group_of_its_own_and_can_be_asked_for(
    api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]]
) -> None:
    _, key, lines = october
    items = api.get("/v1/emissions/totals", key, **OCTOBER, group_by="region").json()["items"]
    assert items[0]["group"] == {"region": None}
    found = api.get("/v1/emissions/totals", key, **OCTOBER, region="").json()["items"]
    assert read(found) == expected([row for row in lines if row["RegionId"] is None], ())


def test_a_filter_takes_exactly_its_rows(api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]]) -> None:
    _, key, lines = october
    for name, column in COLUMNS.items():
        value = next(row[column] for row in lines if row[column])
        found = api.get("/v1/emissions/totals", key, **OCTOBER, **{name: value}).json()["items"]
        assert read(found) == expected([row for row in lines if row[column] == value], ())


def test_a_filter_is_data_and_never_sql(api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]]) -> None:
    _, key, _ = october
    for hostile in ("' or true --", "%", "_", "\\", ":first", "%(first)s", "{}"):
        answer = api.get("/v1/emissions/totals", key, **OCTOBER, service=hostile)
        assert (answer.status_code, answer.json()["items"]) == (200, [])


def test_the_lineage_of_a_group_leads_to_lines_that_add_up_to_it(
    api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]]
) -> None:
    _, key, _ = october
    items = api.get(
        "/v1/emissions/totals", key, **OCTOBER, group_by=["service", "region", "day"], provider="azure", limit=200
    ).json()["items"]
    item = next(item for item in items if item["kwh"] is not None)
    lines = api.client.get(item["_links"]["lineage"], headers=key).json()["items"]
    assert sum(Decimal(row["co2e_location_kg"]) for row in lines) == Decimal(item["co2e_location_kg"])
    assert len(lines) == item["line_count"]


def test_a_longer_period_leads_to_its_months_first(
    api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]]
) -> None:
    _, key, _ = october
    [item] = api.get("/v1/emissions/totals", key, **{"from": "2026-01-01", "to": "2026-12-31"}).json()["items"]
    [month] = api.client.get(item["_links"]["lineage"], headers=key).json()["items"]
    assert month["group"] == {"month": "2026-10"}
    assert month["_links"]["lineage"].startswith("/v1/emissions/lines?from=2026-10-01&to=2026-10-31")


def test_a_measure_without_any_figure_is_null_and_money_without_emission_is_zero(
    api: Api, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    api.publish(tenant, [unmapped_line(1, "5.5"), money_line(2, "-3", usage_date=day(2))])
    items = api.get("/v1/emissions/totals", api.key(tenant), **OCTOBER, group_by="day").json()["items"]
    assert [(item["kwh"], item["co2e_market_kg"], item["cost"][0]["billed_cost"]) for item in items] == [
        (None, None, "5.5"),
        ("0", "0", "-3"),
    ]


def test_figures_are_provisional_until_their_month_is_closed(api: Api, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    api.publish(tenant, [line(1, usage_date=day(30, "2026-09")), line(2, usage_date=day(1))])
    api.pipeline.period_closures.close(tenant, "2026-09", by="system")
    key, both = api.key(tenant), {"from": "2026-09-01", "to": "2026-10-31"}
    months = api.get("/v1/emissions/series", key, **both).json()["items"]
    assert [(item["group"]["month"], item["provisional"]) for item in months] == [("2026-09", False), ("2026-10", True)]
    assert api.get("/v1/emissions/totals", key, **both).json()["items"][0]["provisional"]
    only = api.get("/v1/emissions/totals", key, **both | {"to": "2026-09-30"}).json()["items"]
    assert not only[0]["provisional"]


def test_as_of_reads_what_was_reported_then(api: Api, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    first = api.publish(tenant, [line(1), line(2, BillingCurrency="EUR", RegionId=None)])
    key = api.key(tenant)

    def totals(as_of: int | None) -> Any:
        found = api.get("/v1/emissions/totals", key, **OCTOBER, group_by=["region", "month"], as_of=as_of).json()
        return found["items"], found["data_version"]

    before = totals(None)
    second = api.publish(tenant, [line(1, kwh=Decimal(7))], "run-2")
    with api.pipeline.tenant(tenant) as scope:
        third = api.pipeline.within(scope).publications.bump(tenant, "report", {"scope_totals": 0}, "run-3")
    assert totals(first) == before
    assert totals(second)[0] == totals(third)[0] == totals(None)[0] != before[0]


def test_an_unknown_version_is_not_found_and_one_before_any_totals_is_empty(
    api: Api, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    with api.pipeline.tenant(tenant) as scope:
        api.pipeline.within(scope).publications.bump(tenant, "report", {}, "run-1")
    key = api.key(tenant)
    assert api.get("/v1/emissions/totals", key, **OCTOBER, as_of=2).status_code == 404
    assert api.get("/v1/emissions/totals", key, **OCTOBER, as_of=1).json()["items"] == []


def test_a_day_without_lines_is_left_out_of_the_trend(api: Api, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    api.publish(tenant, [line(1, usage_date=day(1)), line(2, usage_date=day(3))])
    found = api.get("/v1/emissions/series", api.key(tenant), **OCTOBER, interval="day").json()["items"]
    assert [item["group"]["day"] for item in found] == ["2026-10-01", "2026-10-03"]


def test_quality_adds_up_to_the_bill_and_tells_the_newest_verdict_of_every_partition(
    api: Api, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    api.publish(tenant, [line(1), unmapped_line(2, "5.5"), money_line(3, "-3"), line(4, x_Provider="gcp")])
    keys = [f"2026-10-0{number}|{tenant}" for number in (1, 2)]
    ledger = api.pipeline.check_ledger
    ledger.record(run_id="r1", check_name="a.rows", partition_keys=keys, failing={keys[0]: "lost", keys[1]: "gone"})
    ledger.record(run_id="r2", check_name="a.rows", partition_keys=[keys[1]], failing={})
    ledger.record(run_id="r3", check_name="a.rows", partition_keys=[f"2026-09-30|{tenant}"], failing={})
    api.pipeline.connections.add(tenant, "aws-payer", provider="aws", kind="cur2", uri="s3://b/p")
    found = api.get("/v1/quality", api.key(tenant), **OCTOBER).json()
    parts = {
        (part["provider"], p["disposition"]): (p["line_count"], p["billed_cost"])
        for part in found["coverage"]
        for p in part["parts"]
    }
    assert parts == {
        ("aws", "mapped"): (1, "1.1"),
        ("aws", "unmapped"): (1, "5.5"),
        ("aws", "no_emission"): (1, "-3"),
        ("gcp", "mapped"): (1, "1.1"),
    }
    [check] = found["checks"]
    assert (check["check"], check["passed"], check["partition"]) == ("a.rows", True, "2026-10-02")
    assert (check["partitions"], check["failing"]) == (2, 1)
    assert [(source["connection_id"], source["last_success_at"]) for source in found["sources"]] == [
        ("aws-payer", None)
    ]


def test_an_unchanged_answer_is_304_before_the_heavy_read_and_a_publication_ends_it(
    api: Api, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    api.publish(tenant, [line(1)])
    key = api.key(tenant)
    tag = api.get("/v1/emissions/totals", key, **OCTOBER).headers["etag"]
    with statements(api.served) as seen:
        again = api.get("/v1/emissions/totals", {**key, "If-None-Match": f'"x", W/{tag}'}, **OCTOBER)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == "private, no-cache"
    assert not [statement for statement in seen if "daily_scope_totals" in statement]
    api.publish(tenant, [line(1, kwh=Decimal(9))], "run-2")
    changed = api.get("/v1/emissions/totals", {**key, "If-None-Match": tag}, **OCTOBER)
    assert (changed.status_code, changed.json()["items"][0]["kwh"]) == (200, "9")


def test_closing_a_month_ends_what_clients_hold_of_it(api: Api, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    api.publish(tenant, [line(1)])
    key = api.key(tenant)
    held = {"If-None-Match": api.get("/v1/emissions/totals", key, **OCTOBER).headers["etag"]}
    api.pipeline.period_closures.close(tenant, "2026-10", by="system")
    closed = api.get("/v1/emissions/totals", key | held, **OCTOBER)
    assert not closed.json()["items"][0]["provisional"]
    api.pipeline.period_closures.reopen(tenant, "2026-10", by="system")
    again = api.get("/v1/emissions/totals", key | {"If-None-Match": closed.headers["etag"]}, **OCTOBER)
    assert again.json()["items"][0]["provisional"]


def test_the_tag_of_another_tenant_or_question_never_says_unchanged(api: Api, new_tenant: Callable[[], str]) -> None:
    one, other = new_tenant(), new_tenant()
    for tenant in (one, other):
        api.publish(tenant, [line(1)])
    tag = api.get("/v1/emissions/totals", api.key(one), **OCTOBER).headers["etag"]
    held = {"If-None-Match": tag}
    assert api.get("/v1/emissions/totals", api.key(other) | held, **OCTOBER).status_code == 200
    assert api.get("/v1/emissions/totals", api.key(one) | held, **OCTOBER, limit=3).status_code == 200
    assert api.get("/v1/emissions/series", api.key(one) | held, **OCTOBER).status_code == 200
    assert api.get("/v1/emissions/totals", api.key(one) | {"If-None-Match": "*"}, **OCTOBER).status_code == 200


def test_a_cursor_of_another_tenant_or_question_is_refused(
    api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]], new_tenant: Callable[[], str]
) -> None:
    _, key, _ = october
    question = {**OCTOBER, "group_by": "service", "limit": 1}
    cursor = api.get("/v1/emissions/totals", key, **question).json()["next_cursor"]
    refused = [
        api.get("/v1/emissions/totals", api.key(new_tenant()), **question, cursor=cursor),
        api.get("/v1/emissions/totals", key, **question | {"group_by": "region"}, cursor=cursor),
        api.get("/v1/emissions/totals", key, **question, provider="aws", cursor=cursor),
        api.get("/v1/emissions/totals", key, **question, as_of=1, cursor=cursor),
        api.get("/v1/emissions/totals", key, **question, cursor=cursor[:-2]),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(400, "bad_cursor")] * 5


@pytest.mark.parametrize(
    "change",
    [
        {"from": None},
        {"from": "2026-13-01"},
        {"from": "2026-11-01"},
        {"from": "1999-12-31"},
        {"to": "2999-12-31"},
        {"from": "2001-01-01"},
        {"group_by": "password"},
        {"group_by": ["day", "day"]},
        {"group_by": ["day", "scope", "provider", "account", "service"]},
        {"limit": 0},
        {"limit": 201},
        {"as_of": 0},
        {"as_of": 2**63},
        {"region": "x" * 301},
        {"region": "a\0b"},
        {"cursor": "x" * 3000},
    ],
)
def test_a_bad_parameter_is_a_problem_that_names_it(
    api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]], change: dict[str, Any]
) -> None:
    _, key, _ = october
    answer = api.get("/v1/emissions/totals", key, **OCTOBER | change)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"].startswith("/query/")


@pytest.mark.parametrize("path", ["/v1/emissions/totals", "/v1/emissions/series", "/v1/quality"])
def test_a_read_needs_its_permission_and_at_most_three_statements(
    api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]], path: str
) -> None:
    tenant, key, _ = october
    with statements(api.served) as seen:
        assert api.get(path, key, **OCTOBER).status_code == 200
    assert len(seen) <= 3, seen
    assert api.get(path, api.key(tenant, [Permission.REPORTS_READ]), **OCTOBER).status_code == 403
    assert api.get(path, {}, **OCTOBER).status_code == 401


def test_as_of_needs_at_most_three_statements(
    api: Api, october: tuple[str, dict[str, str], list[dict[str, Any]]]
) -> None:
    with statements(api.served) as seen:
        assert api.get("/v1/emissions/totals", october[1], **OCTOBER, as_of=1).status_code == 200
    assert len(seen) <= 3, seen
