"""The rules of the gate alone: what may reach Dagster, as any server behind might read it."""

from __future__ import annotations

import pytest

from offgridflow_pipeline.sidecar.gate_policy import Mode, UnclearError, mode_of, original, refusal

UI = "https://dagster.example.com"


def asked(method: str, uri: str, **headers: str) -> str | None:
    stated = {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal(original({"x-original-method": method, "x-original-uri": uri, **stated}.items()), [UI])


def from_ui(method: str, uri: str, **headers: str) -> str | None:
    return asked(method, uri, **{"origin": UI, "sec_fetch_site": "same-origin", **headers})


@pytest.mark.parametrize(
    ("method", "uri", "headers"),
    [
        ("GET", "/", {}),
        ("GET", "/runs/0b1?selection=*", {}),
        ("GET", "/assets/focus_billing_extract%2Fx?view=lineage", {"sec_fetch_site": "cross-site"}),
        ("HEAD", "/favicon.png", {}),
        ("GET", "/graphiql", {}),
        ("POST", "/graphql", {"origin": UI}),
        ("POST", "/graphql?op=RunsQuery", {"origin": UI, "sec_fetch_site": "same-origin"}),
        ("GET", "/graphql", {"origin": UI, "x_original_upgrade": "websocket"}),
    ],
)
def test_what_the_ui_does_passes(method: str, uri: str, headers: dict[str, str]) -> None:
    assert asked(method, uri, **headers) is None


@pytest.mark.parametrize(
    "uri",
    [
        "/report_asset_materialization/alder",
        "/report_asset_check/alder?check_name=x",
        "/report_asset_observation/alder",
        "/REPORT_ASSET_MATERIALIZATION/alder",
        "/report%5Fasset%5Fmaterialization/alder",
        "/%72eport_asset_check/alder",
        "/report%255Fasset_check/alder",
        "/prefix/report_asset_observation/alder",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_records_cannot_be_forged_however_the_path_is_written(method: str, uri: str) -> None:
    assert from_ui(method, uri) == "forges_records"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    "uri",
    [
        "/graphql?query=mutation{terminateRun(runId:%221%22){__typename}}",
        "/graphql",
        "/graphql/?query=x",
        "/GraphQL?query=x",
        "/%67raphql?query=x",
        "/prefix/graphql?query=x",
    ],
)
def test_graphql_does_not_run_over_a_plain_get(method: str, uri: str) -> None:
    assert from_ui(method, uri) == "graphql_by_get"


def test_a_websocket_with_a_query_is_a_get_with_a_query() -> None:
    assert from_ui("GET", "/graphql?query=x", x_original_upgrade="websocket") == "graphql_by_get"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"{UI}.evil.example"},
        {"origin": "http://dagster.example.com"},
        {"origin": UI, "sec_fetch_site": "cross-site"},
        {"origin": UI, "sec_fetch_site": "same-site"},
        {"origin": "https://evil.example", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
@pytest.mark.parametrize(("method", "upgrade"), [("POST", ""), ("GET", "websocket")])
def test_a_page_of_another_site_neither_posts_nor_opens_a_websocket(
    method: str, upgrade: str, headers: dict[str, str]
) -> None:
    assert asked(method, "/graphql", x_original_upgrade=upgrade, **headers) == "cross_origin"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "QUERY"])
def test_no_other_method_passes(method: str) -> None:
    assert from_ui(method, "/runs") == "method"


@pytest.mark.parametrize(
    "uri",
    [
        "/static/../graphql",
        "/graphql/.",
        "/a/%2e%2e/graphql",
        "/a/%252e%252e/graphql",
        "//graphql",
        "/a%5c..%5cgraphql",
        "/a%0d%0agraphql",
        "/a%00",
        "/%25252525252520",
    ],
)
def test_a_path_that_servers_read_differently_is_refused(uri: str) -> None:
    assert from_ui("POST", uri) == "unclear_path"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-original-method": "GET"},
        {"x-original-uri": "/"},
        {"x-original-method": "GET", "x-original-uri": "runs"},
        {"x-original-method": "GET", "x-original-uri": "http://x/"},
        {"x-original-method": "GET", "x-original-uri": "/", "x-forwarded-uri": "/graphql?query=x"},
        {"x-original-method": "GET", "x-original-uri": "/", "x-forwarded-method": "POST"},
    ],
)
def test_an_original_that_is_missing_or_stated_twice_is_unclear(headers: dict[str, str]) -> None:
    with pytest.raises(UnclearError):
        original(headers.items())


@pytest.mark.parametrize("name", ["X-Original-URI", "X-Original-Method", "Origin", "Sec-Fetch-Site"])
def test_a_header_that_a_client_sent_beside_the_proxys_own_is_unclear(name: str) -> None:
    headers = {"X-Original-Method": "POST", "X-Original-URI": "/graphql", "Origin": UI, "Sec-Fetch-Site": "none"}
    with pytest.raises(UnclearError):
        original([*headers.items(), (name, "GET")])


def test_caddys_headers_say_the_same() -> None:
    found = original({"x-forwarded-method": "post", "x-forwarded-uri": "/graphql?op=x", "upgrade": "websocket"}.items())
    assert (found.method, found.path, found.query, found.websocket) == ("POST", "/graphql", "op=x", True)


@pytest.mark.parametrize("text", ["", "rw", "READ-WRITE", "read-write, read-only"])
def test_a_mode_that_is_not_one_of_the_two_is_unclear(text: str) -> None:
    with pytest.raises(UnclearError):
        mode_of(text)


def test_a_mode_in_the_header_and_another_in_the_query_is_unclear() -> None:
    with pytest.raises(UnclearError):
        mode_of("read-only", "read-write")


def test_the_modes_are_those_of_the_proxy_files() -> None:
    assert [mode_of(text) for text in ("read-only", "read-write")] == [Mode.READ_ONLY, Mode.READ_WRITE]
