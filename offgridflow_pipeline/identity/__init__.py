"""Who may do what: users, roles, sessions, API keys, single-use tokens, rate limits, the audit chain.

Knows no HTTP and no Dagster. SQL is in `database`, the roof that people meet is `sidecar`.
"""
