"""The HTTP roof: API, portal, downloads. Authenticates, reads what assets published, writes requests; computes nothing.

Imports every domain package and is imported by none; `defs` and `sidecar` never import each other.
"""
