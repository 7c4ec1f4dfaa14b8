"""Where stores are: `SCHEME:REST` or a path, and who opens which scheme."""

import os
from collections.abc import Callable
from pathlib import Path

from dataplane.host import locks
from policy.errors import UnavailableError
from policy.store.contract import Store

DEFAULT_LOCATION = "/var/lib/isolane/store.db"
LOCATION_VARIABLE = "ISOLANE_STORE"


def _open_sqlite(path: str, create: bool) -> Store:
    from policy.store.sqlite import SqliteStore

    return SqliteStore(path, create)


OPENERS: dict[str, Callable[[str, bool], Store]] = {"sqlite": _open_sqlite}
"""By scheme: what opens the rest of a location, and makes a store there if it is asked to."""


def open_store(location: str | None = None, create: bool = True) -> Store:
    """The store at `sqlite:PATH` or PATH; by default $ISOLANE_STORE, else /var/lib/isolane/store.db.

    create: make it if there is none, else that is a NoStoreError. UnavailableError: it can't be opened.
    """
    location = location or os.environ.get(LOCATION_VARIABLE) or DEFAULT_LOCATION
    scheme, rest = _parts(location)
    opener = OPENERS.get(scheme)
    if opener is None:
        known = ", ".join(f"{each}:…" for each in sorted(OPENERS))
        raise UnavailableError(f"{location}: no such kind of store; known: {known}")
    return opener(rest, create)


def absolute(location: str) -> str:
    """The same for processes of other working directories."""
    scheme, rest = _parts(location)
    return f"{scheme}:{Path(rest).absolute()}" if scheme == "sqlite" else location


def followed_path(instance: str) -> Path:
    """The file in which an agent says which store it follows; root's alone."""
    return locks.agent_directory(instance) / "store"


def _parts(location: str) -> tuple[str, str]:
    """Scheme and rest."""
    scheme, colon, rest = location.partition(":")
    return (scheme, rest) if colon and "/" not in scheme else ("sqlite", location)
