"""Usage lines in two parts: what differs from row to row, and what all rows of a kind have in common.

A kind is one text per row, which Parquet stores once per distinct text: a thousandth of the rows. The columns of a
mapping that depend on telling columns alone are computed once per kind, all others once per row, by the same
expressions: which is which is read from the mapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES, Dialect
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.usage.keys import KEY_TEXT, joined_texts, key_sources, split_texts, usage_key
from offgridflow_pipeline.usage.normalise import dialect_of, mapped, typed
from offgridflow_pipeline.usage.pruning import pruned_over, source_columns
from offgridflow_pipeline.usage.quantities import BILLED, FACTORS, with_norm_quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ibis.expr.types as ir

KIND = "_kind_of_line"
_QUANTITY = "x_NormQuantity"
#: Extract columns with few distinct combinations: what was used, in which unit and where.
TELLING: dict[Dialect, frozenset[str]] = {
    "cur": frozenset(
        {
            "bill_billing_entity", "line_item_availability_zone", "line_item_line_item_type", "line_item_operation",
            "line_item_product_code", "line_item_usage_type", "pricing_unit", "product_gpu", "product_instance_type",
            "product_memory", "product_product_family", "product_product_name", "product_region",
            "product_region_code", "product_vcpu",
        }
    ),
    "azure": frozenset(
        {
            "AdditionalInfo", "ChargeType", "ConsumedService", "MeterCategory", "MeterName", "MeterRegion",
            "MeterSubCategory", "PublisherName", "PublisherType", "ResourceLocation", "UnitOfMeasure",
        }
    ),
    "gcp": frozenset(
        {
            "cost_type", "location_location", "location_region", "service_description", "service_id",
            "sku_description", "system_labels", "usage_unit",
        }
    ),
    "focus": frozenset(
        {
            "AvailabilityZone", "ChargeClass", "ChargeDescription", "ChargeSubcategory", "CommitmentDiscountStatus",
            "ConsumedUnit", "HostProviderName", "InvoiceIssuerName", "PricingUnit", "PublisherName", "RegionId",
            "RegionName", "ServiceName", "ServiceProviderName", "SkuMeter", "SkuPriceDetails", "feed", "x_CostType",
            "x_Location", "x_Operation", "x_ServiceCode", "x_ServiceId", "x_SkuDetails", "x_SkuMeterCategory",
            "x_SkuMeterName", "x_SkuMeterSubcategory", "x_SkuServiceFamily", "x_SystemLabels", "x_UsageType",
        }
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Packing:
    """How the lines of a feed are packed: names of columns of the mapped `lines`, and of extract rows (`telling`)."""

    lines: ir.Table
    columns: tuple[str, ...]
    by_kind: tuple[str, ...]
    by_row: tuple[str, ...]
    telling: tuple[str, ...]
    key_by_row: tuple[str, ...]

    @property
    def texts(self) -> int:
        """Texts that the text of a kind joins."""
        return len(self.telling) + len(self.key_by_row)


def packing(feed: str, columns: Sequence[str]) -> Packing:
    """The packing that gives `columns` of usage lines and the usage key; `x_LineId` cannot be among them.

    Raises:
        UnknownFeedError: `feed` is no name of `connectors.feeds`.
    """
    dialect = dialect_of(feed)
    table = schemas.table(EXTRACT_TABLES[dialect])
    lines = mapped(ibis.table(ibis.Schema.from_pyarrow(table.arrow_schema), name=table.name), dialect)
    key = [name for name in key_sources(lines) if name in lines.columns]
    known = [name for name in dict.fromkeys((*columns, *key, *FACTORS, BILLED)) if name in lines.columns]
    sources = {name: source_columns(lines, name) for name in known}
    told = {name for name, found in sources.items() if found <= TELLING[dialect]}
    late = _QUANTITY in columns and told.issuperset(FACTORS)
    wanted = [name for name in columns if not (late and name == _QUANTITY)]
    by_kind = [*(name for name in (*wanted, *key) if name in told), *(FACTORS if late else ())]
    return Packing(
        lines=lines,
        columns=tuple(columns),
        by_kind=tuple(dict.fromkeys(by_kind)),
        by_row=(*(name for name in wanted if name not in told), *((BILLED,) if late else ())),
        telling=tuple(sorted(frozenset().union(*(sources[name] for name in by_kind)))),
        key_by_row=tuple(name for name in key if name not in told),
    )


def packed_lines(plan: Packing, rows: ir.Table) -> ir.Table:
    """One line per extract row: the text of its kind as `KIND`, and the columns that differ from row to row."""
    told = {f"_told_{name}": rows[name] for name in plan.telling}
    own = {f"_row_{name}": plan.lines[name] for name in plan.key_by_row}
    by_row = _declared(plan.lines, plan.by_row)
    lines = pruned_over(plan.lines.select(**own, **by_row), rows.mutate(**told), list(told))
    return lines.select(**{KIND: joined_texts(lines, [*told, *own])}, **{name: lines[name] for name in by_row})


def kinds(plan: Packing, packed: ir.Table) -> ir.Table:
    """One row per kind: `KIND`, the usage key and its text as `KEY_TEXT`, and the columns that a kind has in common."""
    own = {name: f"_row_{name}" for name in plan.key_by_row}
    texts = packed.select(KIND).distinct()
    rows = texts.mutate(**split_texts(texts[KIND], [*plan.telling, *own.values()]))
    by_kind = _declared(plan.lines, plan.by_kind)
    lines = pruned_over(plan.lines.select(**by_kind), rows, [KIND, *own.values()]) if by_kind else rows
    text = joined_texts(lines, [own.get(name, name) for name in key_sources(plan.lines)])
    return lines.select(KIND, **{KEY_TEXT: text, "x_UsageKey": usage_key(text)}, **{n: lines[n] for n in by_kind})


def typical_lines(plan: Packing, packed: ir.Table) -> ir.Table:
    """Packed lines enough to calculate with: one per kind, day, region and presence of a quantity, with the largest."""
    quantity = BILLED if BILLED in plan.by_row else _QUANTITY
    keys = [KIND, *(name for name in ("usage_date", "RegionId") if name in plan.by_row)]
    groups = packed.group_by([*keys, packed[quantity].notnull().name("_is_known")])
    return groups.aggregate(**{quantity: packed[quantity].abs().max()}).drop("_is_known")


def unpacked_lines(plan: Packing, packed: ir.Table, found: ir.Table) -> ir.Table:
    """The usage key, its text and the columns asked for that packed lines (or typical ones) and their `kinds` give."""
    lines = packed.left_join(found, KIND)
    if BILLED in plan.by_row:
        lines = with_norm_quantity(lines)
    return lines.select(KEY_TEXT, "x_UsageKey", *(name for name in plan.columns if name in lines.columns))


def _declared(lines: ir.Table, names: Sequence[str]) -> dict[str, ir.Value]:
    """The columns, those of `usage_lines` in their declared types."""
    schema = ibis.Schema.from_pyarrow(schemas.USAGE_LINES.arrow_schema)
    return {name: typed(lines, name, schema[name]) if name in schema else lines[name] for name in names}
