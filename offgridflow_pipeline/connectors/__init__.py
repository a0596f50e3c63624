"""Where bills come from: connections, deliveries, and the reading of billing objects into extract rows.

What a row means is decided in `usage`; here columns are found by name and text stays text.
"""
