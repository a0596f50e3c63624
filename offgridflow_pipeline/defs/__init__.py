"""The only package that imports Dagster: partitions, assets, checks, jobs, sensors, resources, IO managers.

Assets here are thin: they read lazily, call a domain package, and return a table. Formulas, formats and
SQL live in the domain packages.
"""
