"""From daily scope totals and ledger lines to the month's greenhouse-gas inventory of one tenant.

Sums only: scope, category, disposition and basis were decided when the ledger row was written, and
rounding happens later, in `reporting.facts`.
"""
