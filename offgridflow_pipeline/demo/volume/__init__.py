"""Large bills of every feed for benchmarks: a million rows in seconds, with the key count and shape of real ones.

Hourly or daily rows over hundreds of usage keys (peers.md, "Measured performance"), drawn by a seeded PCG64
generator; equal arguments give equal rows. The cost of a row is a whole number of tiny units, so the total is exact.
"""

from offgridflow_pipeline.demo.volume.bills import VolumeBill, generate_bill

__all__ = ["VolumeBill", "generate_bill"]
