"""One billing object as extract rows: its header, its format (CSV, Parquet, JSON), its dates, what is wrong in it.

Which objects are read is decided in `connectors.deliveries`, what a row means in `usage`.
"""
