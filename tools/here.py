"""What of isolane is on this machine: data planes that run, labs, stores."""

from collections.abc import Iterator
from pathlib import Path


def instances() -> list[str]:
    """Of the data planes that have a socket here."""
    from dataplane.process import instances

    pattern = instances.socket_path("*").relative_to(instances.RUN_DIRECTORY).as_posix()
    sockets = instances.RUN_DIRECTORY.glob(pattern)
    return sorted(path.parent.name for path in sockets)


def labs() -> list[str]:
    """The prefixes of the labs that are here."""
    from tools.lab import state

    return sorted(path.name.removesuffix(".json") for path in state.STATE_DIRECTORY.glob("*.json"))


def stores() -> Iterator[Path]:
    """Of the labs and of the machine."""
    from policy.store.locations import DEFAULT_LOCATION
    from tools.lab.state import State

    candidates = [*(State(prefix).store for prefix in labs()), Path(DEFAULT_LOCATION)]
    for path in candidates:
        try:
            if path.exists():
                yield path
        except PermissionError:
            continue


def stores_hint() -> str:
    """How to name one of the stores that are here."""
    from policy.store.locations import LOCATION_VARIABLE

    found = [str(path) for path in stores()]
    if not found:
        return "isolane apply FILE makes one; --store PATH or ISOLANE_STORE names another"
    first, *others = found
    also = f"; also: {', '.join(others)}" if others else ""
    return f"export {LOCATION_VARIABLE}={first}{also}"


def instances_hint() -> str:
    """How to name one of the data planes that run here."""
    found = instances()
    if not found:
        return "none runs here; isolane up, isolane lab up or systemctl start isolane-dataplane@NAME"
    return f"--instance {found[0]}" + (f"; also: {', '.join(found[1:])}" if found[1:] else "")


def labs_hint() -> str:
    """How to name one of the labs that are here."""
    found = labs()
    if not found:
        return "none is here; isolane lab up FILE makes one"
    return f"--prefix {found[0]}" + (f"; also: {', '.join(found[1:])}" if found[1:] else "")
