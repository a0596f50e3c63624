"""The providers' own carbon statements, as they state them: one module per source, one table of rows.

Nothing is calibrated, converted between bases or added up across scopes here; versions and comparison belong to
`inventory.statements`. Formats: billing-feeds.md 4.8, 5.7 and 6.5.
"""

from offgridflow_pipeline.connectors.statements.figures import Incomplete, StatementRead
from offgridflow_pipeline.connectors.statements.reading import read_statements

__all__ = ["Incomplete", "StatementRead", "read_statements"]
