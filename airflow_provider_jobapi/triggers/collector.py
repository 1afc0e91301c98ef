# SPDX-License-Identifier: Apache-2.0
"""Keep the garbage collector of a triggerer from walking Airflow's modules again and again.

A triggerer has some 200,000 functions, classes and tuples of imported modules. Each full collection looks at all of
them, for 120 to 450 ms in which no trigger runs, and finds nothing: they live as long as the process.
"""

from __future__ import annotations

import gc
from functools import lru_cache


@lru_cache(maxsize=1)
def leave_out_modules() -> None:
    """Leave what the process has so far out of all later collections; from the second call on nothing happens.

    Objects are still freed when their last reference goes. Only cycles that exist at this moment stay for ever: at
    most those of the triggers that run by now.
    """
    gc.freeze()
