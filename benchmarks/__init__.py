"""Reproducible measurements of speed and memory; run by `make bench`. Nothing here is imported by the package."""
