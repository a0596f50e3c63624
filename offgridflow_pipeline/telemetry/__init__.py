"""Telemetry: traces, metrics and logs of the sidecar and of runs. Off without settings, and never a reason to fail.

`names` is the one list of metrics. OpenTelemetry is imported by `setup` alone, so that a process which exports nothing
pays nothing. What people and auditors need to know stands in tables, not here.
"""
