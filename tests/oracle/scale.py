"""How much the oracle tries. ISOLANE_ORACLE_EXAMPLES=N: N random policies and packet trains instead of the
same 600 each time; with fewer than these the sweeps take every so many-th of their frames only (sanitized
builds are slow).
"""

import os

from hypothesis import HealthCheck, settings

WHOLE = 600
EXAMPLES = int(os.environ.get("ISOLANE_ORACLE_EXAMPLES", WHOLE))
RANDOM = "ISOLANE_ORACLE_EXAMPLES" in os.environ
STRIDE = max(1, WHOLE // EXAMPLES)


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        derandomize=not RANDOM,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
