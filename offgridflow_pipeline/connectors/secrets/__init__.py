"""Secrets of connections: found where they are named, sealed in PostgreSQL, and kept out of what is stored or shown.

What a secret holds and which access it gives is read in `connectors.credentials`.
"""
