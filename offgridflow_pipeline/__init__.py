"""OffGridFlow: cloud bills in, greenhouse-gas reports an auditor can trace out."""

import os

__version__ = "0.1.0"

# NumPy's linear algebra starts a thread per core, which spins for a tenth of a second and is never used here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
