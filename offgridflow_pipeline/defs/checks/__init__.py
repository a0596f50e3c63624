"""Checks of the assets: blocking ones stop everything downstream, the others inform."""

from offgridflow_pipeline.defs.checks.bills import USAGE_CHECKS
from offgridflow_pipeline.defs.checks.facts import facts_equal
from offgridflow_pipeline.defs.checks.ledger import LEDGER_CHECKS
from offgridflow_pipeline.defs.checks.months import whole_month
from offgridflow_pipeline.defs.checks.sources import SOURCE_CHECKS
from offgridflow_pipeline.defs.checks.statements import statements_add_up

LAKE_CHECKS = [*SOURCE_CHECKS, statements_add_up, *USAGE_CHECKS, *LEDGER_CHECKS, whole_month, facts_equal]
