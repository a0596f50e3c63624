"""OffGridFlow: cloud bills in, greenhouse-gas reports an auditor can trace out."""

__version__ = "0.1.0"
