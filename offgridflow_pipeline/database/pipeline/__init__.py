"""Repositories of the pipeline: connections, changes, jobs, what was published and reported."""
