"""What the data plane has to say to its operator: an event a line on stderr, as the agent's."""

import json
import sys


def log(event: str, **told: object) -> None:
    print(json.dumps({"event": event, **told}), file=sys.stderr, flush=True)
