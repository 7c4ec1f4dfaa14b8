"""What runs may leave behind."""

from dataplane.host import netns
from dataplane.process import instances


def traces(pid: int) -> list[str]:
    """What a bench of that process has left behind."""
    return sorted(
        path.name
        for place in (netns.DIRECTORY, instances.RUN_DIRECTORY)
        if place.exists()
        for path in place.glob(f"bench-{pid}*")
    )
