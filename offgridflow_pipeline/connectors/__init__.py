"""Where bills come from: connections, deliveries, and the reading of billing objects into extract rows.

A connection (`connections`) becomes access (`credentials`, `secrets`, `providers`) to a source (`sources`: `stores` and
`bigquery`), whose `deliveries` are read (`reading`) by the `ingest`; `changes` tells what is new. `control_totals` and
`statements` ask what providers say themselves. What a row means is decided in `usage`; here text stays text.
"""
