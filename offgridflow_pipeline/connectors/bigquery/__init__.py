"""Tables of BigQuery: a client with bounded cost and time, and billing exports as a source of usage days.

Asking a table for totals or carbon figures is left to `connectors.control_totals` and `connectors.statements`.
"""
