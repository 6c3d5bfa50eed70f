"""The worker: loads base models, tunes contexts and classifies with them.

Importing it tells libgomp how long torch's threads may spin while they wait for one another, unless the environment
does.
"""

import os
from typing import Final

#: Rounds of spinning, read when torch is loaded. libgomp's own 300,000 outlast a time slice: on cores that other
#: processes use too, threads then spend their slices waiting for one that has none.
_SPIN_COUNT: Final = "3000"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
