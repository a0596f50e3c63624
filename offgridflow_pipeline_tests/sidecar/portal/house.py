"""An organisation in full use: a year of totals, connections, reports, jobs, keys, files; names may be given."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
from lxml import html

from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.permissions import Permission, permissions_of
from offgridflow_pipeline.months import shifted
from offgridflow_pipeline_tests.sidecar.world import ORIGIN, Someone, World

PROVIDERS = {"aws": ("Amazon EC2", "eu-central-1"), "azure": ("Virtual Machines", "westeurope")}


@dataclass
class House:
    """The world, one of its tenants, and the ids of what is in it."""

    world: World
    tenant: str
    owner: Someone
    report_id: str
    job_id: str
    upload_id: str
    invitation_id: str

    def get(self, path: str, someone: Someone | None = None, **headers: str) -> Any:
        """The answer to a page, as the owner unless somebody else asks."""
        return self.world.client.get(path, headers={**(someone or self.owner).headers, **headers})

    def post(self, path: str, data: dict[str, Any] | None = None, someone: Someone | None = None) -> Any:
        """The answer to a form."""
        return self.world.client.post(path, data=data or {}, headers=(someone or self.owner).headers)

    def paths(self) -> list[str]:
        """Every page that a signed-in owner may open."""
        return [
            "/",
            "/emissions",
            "/emissions?by=scope",
            "/emissions?by=service",
            "/emissions?by=region",
            "/emissions?by=account",
            "/quality",
            "/reports",
            f"/reports/{self.report_id}",
            f"/reports/jobs/{self.job_id}",
            "/connections",
            "/uploads",
            f"/uploads/{self.upload_id}",
            "/members",
            f"/members/{self.owner.user_id}",
            "/keys",
            "/audit",
            "/settings",
            "/settings/second-factor",
            "/step-up",
            "/switch-tenant",
        ]


DOORS = (
    "/sign-in",
    "/forgot-password",
    "/reset-password?token=unknown",
    "/invitation?token=unknown",
)


def with_second_factor(world: World, someone: Someone) -> tuple[str, list[str], dict[str, str]]:
    """Enrol by the pages; returns the key, the recovery codes, and headers of the session as it is then."""
    begun = world.client.post("/settings/second-factor", headers=someone.headers)
    secret = tree(begun).xpath("//code[@class='secret']")[0].text.replace(" ", "")
    confirmed = world.client.post(
        "/settings/second-factor/confirm", data={"code": pyotp.TOTP(secret).now()}, headers=someone.headers
    )
    return secret, shown_codes(confirmed), signed_in_with(world, confirmed)


def shown_codes(answer: Any) -> list[str]:
    """The recovery codes on a page."""
    return [item.text for item in tree(answer).xpath("//ul[@class='codes']/li")]


def next_code(secret: str) -> str:
    """The code that the authenticator shows next: the present one was used to enrol."""
    return pyotp.TOTP(secret).at(time.time() + 30)


def last_month() -> str:
    """The newest month that has ended."""
    return shifted(f"{datetime.now(UTC):%Y-%m}", -1)


def build(world: World, *, name: str = "payer", error: str = "403 from the store: renew the token.") -> House:
    """A tenant with everything a page can show; `name` and `error` stand wherever people may write."""
    tenant = world.tenant()
    owner = world.someone(tenant, "owner")
    analyst = world.someone(tenant, "analyst")
    world.operator.scope_totals.replace(tenant, *_totals(name))
    month = last_month()
    world.operator.period_closures.close(tenant, shifted(month, -1), by="system")
    world.operator.connections.add(tenant, "payer", provider="aws", kind="cur2", uri="s3://bucket/exports")
    world.operator.connections.record_failure(tenant, "payer", error)
    world.operator.check_ledger.record(
        run_id="r", check_name="totals_match", partition_keys=[f"{month}-03|{tenant}"], severity="WARN",
        failing={f"{month}-03|{tenant}": error},
    )  # fmt: skip
    report = report_of(world, tenant, month, prepared_by=f"user:{analyst.user_id}")
    job = world.operator.jobs.add(
        tenant, job_type="report_generation", payload={"month": month}, requested_by=f"user:{analyst.user_id}"
    )
    with world.api.tenant(tenant) as scope:
        api_keys.create(
            world.api.within(scope), tenant, name, [Permission.EMISSIONS_READ], creator=f"user:{owner.user_id}",
            creator_permissions=permissions_of("owner"),
        )  # fmt: skip
    upload, _ = world.api.uploads.add(
        tenant, kind="fuel", file_name=name.replace("/", "_").replace("\\", "_"), media_type="text/csv",
        sha256="ab" * 32, size_bytes=900, row_count=3, state="refused", uploaded_by=f"user:{analyst.user_id}",
        problems=[{"row": 2, "column": name, "message": error, "cure": "Write a number."}],
    )  # fmt: skip
    invitation = world.invitation(tenant)
    return House(world, tenant, owner, f"rep_{report}", f"job_{job.job_id}", f"upl_{upload.upload_id}", str(invitation))


def report_of(world: World, tenant: str, month: str, *, prepared_by: str) -> Any:
    """A draft of the month with one file."""
    edition = world.operator.report_register.record(
        tenant=tenant, period=month, kind="report_pdf", file_name="report.pdf", sha256="cd" * 32, size_bytes=1_482_113,
        media_type="application/pdf", run_id="r", validation={"verdict": "valid"},
    )  # fmt: skip
    published, _ = world.operator.reports.publish(
        tenant, month, {"report_pdf": edition}, run_id="r", prepared_by=prepared_by
    )
    return published.report_id


def tree(answer: Any) -> Any:
    """The page as a tree."""
    return html.document_fromstring(answer.text)


def words(answer: Any) -> str:
    """The text that a reader sees, blanks as one."""
    return " ".join(tree(answer).xpath("//body")[0].text_content().split())


def signed_in_with(world: World, answer: Any) -> dict[str, str]:
    """Headers with the session cookie that the answer set."""
    token = answer.headers["set-cookie"].partition("ogf_session=")[2].partition(";")[0]
    return {"Cookie": f"ogf_session={token}", **ORIGIN}


def where(answer: Any) -> tuple[str, dict[str, str]]:
    """Path and query of a redirect."""
    assert answer.status_code == 303, answer.text
    parts = urlsplit(answer.headers["location"])
    assert parts.scheme == parts.netloc == ""
    return parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}


def _totals(service: str) -> tuple[list[date], list[dict[str, Any]]]:
    """Three months that have ended: every fifth day, two providers, mapped and unmapped rows."""
    first = date.fromisoformat(f"{shifted(last_month(), -2)}-01")
    end = datetime.now(UTC).date().replace(day=1)
    days = [first + timedelta(days=n) for n in range(0, (end - first).days)]
    rows: list[dict[str, Any]] = []
    for number, day in enumerate(days):
        for place, (provider, (usual, region)) in enumerate(PROVIDERS.items()):
            kg = Decimal(str(round(40 / (1 + place) * (1 + 0.1 * math.sin(number)), 6)))
            common = {
                "usage_date": day,
                "provider": provider,
                "sub_account": "4711",
                "region": region,
                "currency": "EUR",
            }
            rows.append({
                **common, "scope": "3", "s3_category": 1, "service": service if place else usual,
                "disposition": "mapped", "line_count": 100, "billed_cost": kg * 7, "kwh": kg * 3, "co2e_lbm_kg": kg,
                "co2e_mbm_kg": kg / 2, "embodied_kg": kg / 5, "upstream_energy_kg": kg / 6,
            })  # fmt: skip
            rows.append({
                **common, "scope": None, "s3_category": None, "service": "AI", "disposition": "unmapped",
                "line_count": 2, "billed_cost": Decimal(5), "kwh": None, "co2e_lbm_kg": None, "co2e_mbm_kg": None,
                "embodied_kg": None, "upstream_energy_kg": None,
            })  # fmt: skip
    return days, rows
