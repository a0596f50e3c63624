"""Figures that cannot be right: caps on watts and on kilograms per money (carbon-method.md section 14, P12).

Caps are factors (``coefficient/cap.*``, assumptions), an order of magnitude wider than any usage; what is beyond
them is an error of unit, rule or factor, not an unusual customer. Compares in binary floating point: no figure of
the ledger is made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.factors.register import FactorSet

_GIB_PER_TB = 10**12 / 2**30
_WATTS_PER_KW = 1000
_CURRENCY_CAP = "coefficient/cap.kg_per_"
#: Loads that are a part of what runs on a vCPU: held hardware idles, credits and increments come on top.
_PARTIAL = ("held", "increment_above_held", "surplus_credits")


def implausible(ledger: ir.Table, lines: ir.Table, factor_set: FactorSet) -> ir.Table:
    """Findings beyond a cap; empty when all is plausible.

    Args:
        ledger: ledger lines with all columns.
        lines: the usage lines of the same days; needs ``x_UsageKey`` and ``x_VCpus``.
        factor_set: the set whose caps apply.

    Returns:
        ``check`` (watts_per_vcpu, watts_per_tb or kg_per_money), ``provider, service, rule_id`` (null for
        kg_per_money), ``subject`` (usage key or currency), ``value, low, high`` (W, W, kgCO2e per unit of money)
        and ``rows``. Watts are IT power at the assumed load per vCPU with its memory, or per stored TB with all
        copies. kg are location-based plus embodied over rows that cost something, per service: usage paid in
        advance costs nothing on its own row. Currencies without a cap are not tested.
    """
    counted = ledger.filter(ledger.disposition.isin(["mapped", "proxied"]))
    return ibis.union(
        _per_vcpu(counted, lines, factor_set), _per_tb(counted, factor_set), _per_money(counted, factor_set)
    )


def _per_vcpu(ledger: ir.Table, lines: ir.Table, factor_set: FactorSet) -> ir.Table:
    low = float(factor_set.number("coefficient/cap.compute_watts_per_vcpu_low"))
    high = float(factor_set.number("coefficient/cap.compute_watts_per_vcpu_high"))
    keys = lines.group_by("x_UsageKey").aggregate(_vcpus=lines.x_VCpus.arbitrary().cast("float64"))
    joined = ledger.filter(ledger.intensity_it_kwh_compute.notnull()).left_join(keys, "x_UsageKey")
    partial = ibis.or_(*(joined.flags.contains(flag) for flag in _PARTIAL))
    vcpus = ibis.cases(
        (joined.norm_unit == "vCPU-Hours", ibis.literal(1.0)),
        (joined.norm_unit == "Hours", joined._vcpus),
        else_=ibis.null("float64"),
    )
    kwh = joined.intensity_it_kwh_compute.cast("float64") + _or_zero(joined.intensity_it_kwh_memory)
    found = joined.filter(~partial & (vcpus > 0)).mutate(_value=kwh * _WATTS_PER_KW / vcpus)
    return _findings(found, "watts_per_vcpu", low, high)


def _per_tb(ledger: ir.Table, factor_set: FactorSet) -> ir.Table:
    high = float(factor_set.number("coefficient/cap.storage_watts_per_tb"))
    stored = ledger.filter((ledger.norm_unit == "GiB-Hours") & ledger.intensity_it_kwh_storage.notnull())
    watts = stored.intensity_it_kwh_storage.cast("float64") * (_WATTS_PER_KW * _GIB_PER_TB)
    return _findings(stored.mutate(_value=watts), "watts_per_tb", 0.0, high)


def _findings(rows: ir.Table, check: str, low: float, high: float) -> ir.Table:
    beyond = rows.filter((rows._value < low) | (rows._value > high))
    grouped = beyond.group_by(
        provider=beyond.x_Provider, service=beyond.ServiceName, rule_id=beyond.rule_id, subject=beyond.x_UsageKey
    ).aggregate(value=beyond._value.max(), rows=beyond.count())
    return _columns(grouped.mutate(check=ibis.literal(check), low=ibis.literal(low), high=ibis.literal(high)))


def _per_money(ledger: ir.Table, factor_set: FactorSet) -> ir.Table:
    caps = {
        row.factor_key.removeprefix(_CURRENCY_CAP).upper(): float(row.value)
        for row in factor_set.of_kind("coefficient")
        if row.factor_key.startswith(_CURRENCY_CAP) and row.value is not None
    }
    paid = ledger.filter((ledger.billed_cost > 0) & ledger.BillingCurrency.isin(sorted(caps)))
    kilograms = _or_zero(paid.co2e_lbm_kg) + _or_zero(paid.embodied_kg)
    sums = paid.group_by(provider=paid.x_Provider, service=paid.ServiceName, subject=paid.BillingCurrency).aggregate(
        rows=paid.count(), _kg=kilograms.sum(), _cost=paid.billed_cost.cast("float64").sum()
    )
    cap = ibis.cases(*((sums.subject == currency, ibis.literal(value)) for currency, value in caps.items()))
    rated = sums.mutate(value=sums._kg / sums._cost, low=ibis.literal(0.0), high=cap)
    beyond = rated.filter(rated.value > rated.high)
    return _columns(beyond.mutate(check=ibis.literal("kg_per_money"), rule_id=ibis.null("string")))


def _columns(rows: ir.Table) -> ir.Table:
    return rows.select("check", "provider", "service", "rule_id", "subject", "value", "low", "high", "rows")


def _or_zero(value: ir.Value) -> ir.Value:
    return value.cast("float64").fill_null(0.0)
