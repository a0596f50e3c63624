"""Assets in the order of the data: ingest, normalise, emissions, inventory, reports."""
