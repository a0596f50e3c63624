"""Every page: well formed, without script or inline style, labelled, in both languages, and safe from what people write."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from offgridflow_pipeline.sidecar.portal.assets import asset_url, assets
from offgridflow_pipeline_tests.sidecar.portal.house import DOORS, House, build, last_month, tree, words
from offgridflow_pipeline_tests.sidecar.world import World

PAYLOADS = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</title><svg onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
    "&lt;b&gt; %(name)s %s",
)


def every_page(house: House) -> list[tuple[str, Any]]:
    inside = [(path, house.get(path)) for path in house.paths()]
    return inside + [(path, house.world.client.get(path)) for path in DOORS]


def test_every_page_answers_and_carries_the_strict_policy(house: House) -> None:
    for path, answer in every_page(house):
        assert answer.status_code == (410 if "token=unknown" in path else 200), (path, answer.text[:300])
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "script-src" not in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store", path


def test_no_page_has_a_script_an_inline_style_or_a_foreign_address(house: House) -> None:
    for path, answer in every_page(house):
        page = tree(answer)
        assert page.xpath("//script | //style | //iframe | //object | //base") == [], path
        assert page.xpath("//@style") == [], path
        assert [name for node in page.iter() for name in node.attrib if str(name).lower().startswith("on")] == [], path
        foreign = [url for url in page.xpath("//@href | //@src | //@action") if not re.match(r"/(?!/)|[?#]", url)]
        assert foreign == [], path


def test_every_page_has_one_heading_a_title_a_language_and_unique_ids(house: House) -> None:
    titles = Counter()
    for path, answer in every_page(house):
        page = tree(answer)
        assert len(page.xpath("//h1")) == 1, path
        assert page.get("lang") == "en"
        titles[page.findtext(".//title")] += 1
        assert [one for one, count in Counter(page.xpath("//@id")).items() if count > 1] == [], path
        assert page.xpath("//main[@id='main']"), path
    assert all(title.endswith("OffGridFlow") for title in titles)


def test_every_control_has_a_label_and_every_description_exists(house: House) -> None:
    for path, answer in every_page(house):
        page = tree(answer)
        for control in page.xpath("//input[not(@type='hidden') and not(@hidden)] | //select"):
            assert page.xpath(f"//label[@for='{control.get('id')}']"), (path, control.get("name"))
        ids = set(page.xpath("//@id"))
        referred = " ".join(page.xpath("//@aria-describedby | //@aria-labelledby")).split()
        assert set(referred) <= ids, path


def test_every_link_of_every_page_leads_somewhere(house: House) -> None:
    links = {link for _, answer in every_page(house) for link in tree(answer).xpath("//a/@href | //link/@href")}
    inside = sorted(link for link in links if link.startswith("/") and "/files/" not in link and "export" not in link)
    assert len(inside) > 25
    broken = [
        (link, answer.status_code) for link in inside if (answer := house.get(link)).status_code not in (200, 303)
    ]
    assert broken == []


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_people_write_is_shown_as_text_and_never_as_markup(world: World, payload: str) -> None:
    house = build(world, name=payload, error=payload)
    seen = 0
    for path in house.paths():
        answer = house.get(path)
        assert answer.status_code == 200, path
        page = tree(answer)
        assert page.xpath("//script | //img | //svg[@onload] | //b") == [], path
        assert [name for node in page.iter() for name in node.attrib if str(name).lower().startswith("on")] == [], path
        seen += payload in page.text_content() or payload in " ".join(page.text_content().split())
    assert seen >= 4


def test_a_german_reader_sees_german_words_and_numbers(house: House) -> None:
    answer = house.world.client.get("/sign-in", headers={"Accept-Language": "de"})
    assert tree(answer).get("lang") == "de"
    assert "Anmelden" in words(answer)
    reader = house.world.someone(house.tenant, "viewer")
    house.post("/settings/profile", {"name": "Bianca", "locale": "de"}, reader)
    page = house.get("/", reader, **{"Accept-Language": "en"})
    assert "Summe, standortbasiert" in words(page)
    assert re.search(r"\d,\d\d t CO2e", words(page))


def test_the_language_chosen_at_the_door_is_kept(house: House) -> None:
    answer = house.world.client.get("/sign-in?language=de", headers={"Accept-Language": "en"})
    assert tree(answer).get("lang") == "de"
    assert "ogf_language=de" in answer.headers["set-cookie"]


def test_both_totals_stand_side_by_side_and_the_table_says_what_the_chart_shows(house: House) -> None:
    page = tree(house.get("/"))
    labels = [" ".join(dt.text_content().split()) for dt in page.xpath("//dl[contains(@class, 'two')]//dt")]
    assert labels == ["Total, location-based", "Total, market-based"]
    figures = [dd.text for dd in page.xpath("//dl[contains(@class, 'two')]//dd[@class='value']")]
    row = page.xpath(f"//details//tr[.//a[contains(@href, '{last_month()}')]]")[0]
    assert [cell.text for cell in row.xpath("td[@class='num']")][-2:] == figures
    drawn = page.xpath("//div[@class='wide']//*[local-name()='text']")
    assert figures[0] in [text.text for text in drawn]


def test_a_month_that_is_open_says_that_it_is_provisional_and_why(house: House) -> None:
    page = words(house.get("/"))
    assert "is provisional" in page
    assert "could not be read lately" in page
    assert "1 check does not hold" in page


def test_a_new_organisation_is_told_what_comes_next(world: World) -> None:
    tenant = world.tenant()
    viewer = world.someone(tenant, "viewer")
    answer = world.client.get("/", headers=viewer.headers)
    assert "No figures yet" in words(answer)


def test_a_reader_sees_only_the_sections_and_buttons_of_their_role(house: House) -> None:
    viewer = house.world.someone(house.tenant, "viewer")
    page = tree(house.get("/reports", viewer))
    sections = {link.get("href") for link in page.xpath("//nav//a")}
    assert sections == {"/", "/emissions", "/quality", "/reports"}
    assert page.xpath("//main//form") == []
    assert tree(house.get(f"/reports/{house.report_id}", viewer)).xpath("//main//form") == []


def test_files_beside_the_pages_may_be_kept_for_ever_and_change_their_address(house: House) -> None:
    for name, asset in assets().items():
        answer = house.world.client.get(asset_url(name))
        assert answer.content == asset.content
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert house.world.client.get("/static/0000000000000000/portal.css").status_code == 404
    assert house.world.client.get(asset_url("portal.css").replace("portal.css", "..%2Ftexts.py")).status_code == 404


def test_what_is_not_there_is_a_page_with_the_request_s_id(house: House) -> None:
    for path in ("/nowhere", "/reports/rep_nobody", "/uploads/upl_x", "/reports/jobs/job_x"):
        answer = house.get(path)
        assert answer.status_code == 404
        assert answer.headers["x-request-id"] in words(answer)
    assert house.world.client.get("/v1/nowhere").headers["content-type"] == "application/problem+json"


def test_another_organisation_s_things_look_like_nothing(house: House) -> None:
    stranger = house.world.someone(house.world.tenant(), "owner")
    for path in (f"/reports/{house.report_id}", f"/uploads/{house.upload_id}", f"/reports/jobs/{house.job_id}"):
        assert house.get(path, stranger).status_code == 404, path


def test_an_unexpected_fault_is_a_page_that_tells_nothing_of_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "offgridflow_pipeline.sidecar.portal.figures.trend", lambda *_: (_ for _ in ()).throw(OSError("secret place"))
    )
    answer = house.get("/")
    assert answer.status_code == 500
    assert "secret place" not in answer.text
    assert "Something went wrong here" in words(answer)
