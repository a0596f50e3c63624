"""E-mail: an outbox written with the change it tells of, and a sender that empties it. See docs/mail.md.

Knows no HTTP and no Dagster. SQL is in `database/outbox.py`.
"""
