"""Repositories of people: accounts, credentials, sessions, memberships, keys and the audit log."""
