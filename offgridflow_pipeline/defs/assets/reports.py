"""Report assets of a month: iXBRL, xBRL-XML, PDF, workbook and data pack from one fact table, then publication.

Artefacts are drafts until `report_publication` has seen every blocking check pass: nothing invalid or
half-written becomes visible. A plan without a format has reports without it: `standings.without_barred` leaves its
asset out of the run that was asked for, and one that is launched all the same is refused.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline import __version__
from offgridflow_pipeline.defs.artefacts import load_artefact, store_artefact
from offgridflow_pipeline.defs.catalog import OWNERS, asset_tags, description
from offgridflow_pipeline.defs.checks.verdict import Failures, rows_of, verdict
from offgridflow_pipeline.defs.job_runs import ACTOR_TAG
from offgridflow_pipeline.defs.partitions import (
    month_tenant,
    monthly_backfill,
    months_by_tenant,
    split_key,
)
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.standings import format_decision, published_artefacts
from offgridflow_pipeline.months import month_days

if TYPE_CHECKING:
    import pyarrow as pa

    from offgridflow_pipeline.reporting.profile import ReportProfile

DRAFTS = ("report_pdf", "report_ixbrl", "report_xbrl", "report_workbook", "report_datapack")
#: Also told the artefacts that go into this one, where the run makes them.
Build = Callable[[Platform, "pa.Table", "ReportProfile", str, Path, Sequence[Path]], Path]


def preparer(tags: Mapping[str, str], run_id: str) -> str:
    """Who prepared the report: the person or key that asked for the run, else the run itself."""
    actor = tags.get(ACTOR_TAG, "")
    return actor if actor.startswith(("user:", "key:")) else f"run:{run_id}"


def profile_of(platform: Platform, tenant: str, run_id: str) -> "ReportProfile":
    """Whom and what the report is about, from the tenants table and the pinned factor set."""
    from offgridflow_pipeline.reporting.profile import ReportProfile

    row = platform.database.tenants.get(tenant)
    return ReportProfile(
        tenant=tenant,
        display_name=row.display_name,
        lei=row.lei,
        currency=row.currency,
        run_id=run_id,
        factor_set_name=f"{platform.factor_set.name} {platform.factor_set.semver}",
    )


def _partition(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> tuple[str, str]:
    ((tenant, months),) = months_by_tenant(str(k) for k in context.partition_keys).items()
    return tenant, months[0]


def _artefact_asset(
    name: str, meaning: str, kind: str, build: Build, after: tuple[str, ...] = ()
) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        group_name="6_reports",
        partitions_def=month_tenant,
        backfill_policy=monthly_backfill,
        kinds={kind},
        owners=OWNERS,
        tags=asset_tags("low", pii=True),
        ins={"report_facts": dg.AssetIn(input_manager_key="lake_io")},
        deps=[dg.AssetDep(upstream) for upstream in after],
        code_version=__version__,
        description=description(
            meaning, "month x tenant", "report_facts", "Read the message; the last published report stays."
        ),
    )
    def artefact(
        context: dg.AssetExecutionContext, platform: Platform, report_facts: dict[str, Any]
    ) -> dg.MaterializeResult[None]:
        from offgridflow_pipeline.reporting.facts import run_of

        tenant, month = _partition(context)
        _require_format(platform, tenant, name)
        facts = platform.engine.to_arrow(report_facts[tenant].order_by("sort_order"))
        made = published_artefacts(platform.standing(tenant), context.run.tags)
        with ExitStack() as stack:
            parts = [stack.enter_context(load_artefact(platform, tenant, month, n)) for n in after if n in made]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ogf-report-")))
            path = build(platform, facts, profile_of(platform, tenant, run_of(facts)), month, folder, parts)
            metadata = store_artefact(platform, tenant, month, name, path, context.run.run_id)
        return dg.MaterializeResult(metadata=metadata)

    return artefact


def _require_format(platform: Platform, tenant: str, artefact: str) -> None:
    decision = format_decision(platform.standing(tenant), artefact)
    if not decision.allowed:
        raise dg.Failure(
            f"No {artefact} for {tenant}. {decision.reason} Or launch the run without it: a report that is asked for "
            "in the portal has what the plan allows.",
            allow_retries=False,
        )


def _file(profile: "ReportProfile", month: str, extension: str) -> str:
    return f"offgridflow-{profile.tenant}-{month}.{extension}"


def _ixbrl(
    _: Platform, facts: "pa.Table", profile: "ReportProfile", month: str, folder: Path, __: Sequence[Path]
) -> Path:
    from offgridflow_pipeline.reporting.xbrl.ixbrl import build_ixbrl

    return build_ixbrl(facts, profile, folder / _file(profile, month, "xhtml"))


def _xbrl(
    _: Platform, facts: "pa.Table", profile: "ReportProfile", month: str, folder: Path, __: Sequence[Path]
) -> Path:
    from offgridflow_pipeline.reporting.xbrl.instance import build_xbrl

    return build_xbrl(facts, profile, folder / _file(profile, month, "xbrl"))


def _pdf(
    _: Platform, facts: "pa.Table", profile: "ReportProfile", month: str, folder: Path, parts: Sequence[Path]
) -> Path:
    from offgridflow_pipeline.reporting.pdf.document import build_pdf

    return build_pdf(facts, profile, parts, folder / _file(profile, month, "pdf"))


def _workbook(
    platform: Platform, facts: "pa.Table", profile: "ReportProfile", month: str, folder: Path, _: Sequence[Path]
) -> Path:
    from offgridflow_pipeline.reporting.workbook.document import build_workbook

    return build_workbook(facts, _cited(platform, profile.tenant, month), folder / _file(profile, month, "xlsx"))


def _cited(platform: Platform, tenant: str, month: str) -> list[dict[str, Any]]:
    """Factors of the month's ledger, as the workbook lists them."""
    from offgridflow_pipeline.reporting.cited_factors import cited_factors

    ledger = rows_of(platform, "emission_lines", tenant, month_days(month))
    return cited_factors(platform.engine, ledger, platform.factor_set)


def _datapack(
    platform: Platform, facts: "pa.Table", profile: "ReportProfile", month: str, folder: Path, _: Sequence[Path]
) -> Path:
    from offgridflow_pipeline.reporting.datapack import build_datapack

    days = month_days(month)
    tables = {name: rows_of(platform, name, profile.tenant, days) for name in ("emission_lines", "scope_totals")}
    return build_datapack(
        platform.engine, facts, tables, platform.factor_set, profile, folder / _file(profile, month, "datapack.zip")
    )


report_ixbrl = _artefact_asset(
    "report_ixbrl", "The report as Inline XBRL, the accessible edition, over our own taxonomy.", "xbrl", _ixbrl
)
report_xbrl = _artefact_asset("report_xbrl", "The same facts as an xBRL-XML instance.", "xbrl", _xbrl)
report_pdf = _artefact_asset(
    "report_pdf",
    "The report as PDF/A-3b, with the iXBRL embedded where there is one.",
    "pdf",
    _pdf,
    after=("report_ixbrl",),
)
report_workbook = _artefact_asset(
    "report_workbook",
    "The report as a workbook: every fact as a number with its id, the report's tables, factors and dictionary.",
    "excel",
    _workbook,
)
report_datapack = _artefact_asset(
    "report_datapack", "Ledger, totals, facts, factors and data dictionary as CSV and Parquet.", "zip", _datapack
)


def _validity_check(asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name="valid",
        description="Arelle, offline: no error, warning or inconsistency, and every fact was read back.",
        blocking=True,
        partitions_def=month_tenant,
    )
    def valid(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        from offgridflow_pipeline.reporting.xbrl.validation import validate

        failing: Failures = {}
        for key in (str(k) for k in context.partition_keys):
            start, tenant = split_key(key)
            with load_artefact(platform, tenant, start[:7], asset) as path:
                result = validate(path, platform.settings)
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            platform.database.report_register.validated(tenant, start[:7], asset, sha256, result.record())
            if not result.valid:
                failing[key] = f"{result.verdict}: " + "; ".join(result.messages[:5])
        return verdict(context, platform, asset, "valid", failing)

    return valid


@dg.asset_check(
    asset="report_workbook",
    name="equals_facts",
    description="Read back, every cell shows, in its format, what facts and factors say there; names fit too.",
    blocking=True,
    partitions_def=month_tenant,
)
def workbook_equals_facts(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
    """The workbook against the month's facts and factors, as they are stored."""
    from offgridflow_pipeline.reporting.workbook.reading import differences

    failing: Failures = {}
    for key in (str(k) for k in context.partition_keys):
        start, tenant = split_key(key)
        facts = platform.engine.to_arrow(rows_of(platform, "report_facts", tenant, [start[:7]]))
        with load_artefact(platform, tenant, start[:7], "report_workbook") as path:
            if found := differences(path, facts, _cited(platform, tenant, start[:7])):
                failing[key] = "; ".join(found[:5])
    return verdict(context, platform, "report_workbook", "equals_facts", failing)


REPORT_CHECKS = [_validity_check("report_ixbrl"), _validity_check("report_xbrl"), workbook_equals_facts]


@dg.asset(
    group_name="6_reports",
    partitions_def=month_tenant,
    backfill_policy=monthly_backfill,
    kinds={"postgres"},
    owners=OWNERS,
    tags=asset_tags("low"),
    deps=[dg.AssetDep(name) for name in DRAFTS],
    description=description(
        "Makes the month's validated artefacts visible in the report register and in the reports folder.",
        "month x tenant",
        ", ".join(DRAFTS),
        "The last published report stays visible; mend the failed check and re-run.",
    ),
)
def report_publication(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
    """Publish what passed, in the formats of the plan; what was published in others stays."""
    from offgridflow_pipeline.defs.artefacts import publish

    tenant, month = _partition(context)
    run_id = context.run.run_id
    kinds = published_artefacts(platform.standing(tenant), context.run.tags)
    report, paths = publish(platform, tenant, month, kinds, run_id, preparer(context.run.tags, run_id))
    page = f"{platform.settings.public_url.rstrip('/')}/reports/rep_{report.report_id}"
    return dg.MaterializeResult(
        metadata={
            "artefacts": len(paths),
            "edition": report.edition,
            "portal": dg.MetadataValue.url(page),
            **{p.suffix.lstrip("."): dg.MetadataValue.path(str(p)) for p in paths},
        }
    )
