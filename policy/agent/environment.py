"""What an agent is given: what it was asked for, what it meets, and what it works with."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dataplane.process.systemd import notify
from policy.agent.clock import Clock, SystemClock
from policy.agent.devices import DeviceManager
from policy.agent.reconciler import Watch
from policy.agent.session import Connect, Dataplane
from policy.agent.sources import Inbox, await_end
from policy.agent.status import Reporter

ANSWER_SECONDS = 60.0
"""A million rows take a data plane some seconds, a port that systemd is to keep up to one a descriptor."""
RESYNC_SECONDS = 60.0
"""How often what is there is compared with what should be, unasked."""


@dataclass(frozen=True)
class Options:
    """netns_prefix: goes before every attach.netns. remove: on Stop take all devices away, else leave them to
    the data plane. strict: AgentError when not everything could be done at the start. patience: seconds for a
    data plane's answer to begin. location: of the store, for others of this host.
    """

    host: str
    instance: str
    netns_prefix: str = ""
    remove: bool = False
    strict: bool = False
    resync: float = RESYNC_SECONDS
    patience: float = ANSWER_SECONDS
    location: str = ""


def spawn_thread(name: str, body: Callable[[], None]) -> None:
    threading.Thread(target=body, name=name, daemon=True).start()


def _keep_alive() -> None:
    notify("WATCHDOG=1")


@dataclass(frozen=True)
class Environment:
    """What an agent meets: a test gives it another.

    spawn: runs something beside. await_end: of a connection, by its number. watchdog: seconds within which
    keep_alive is to be called again; None: never.
    """

    connect: Connect
    inbox: Inbox
    clock: Clock = field(default_factory=SystemClock)
    spawn: Callable[[str, Callable[[], None]], None] = spawn_thread
    await_end: Callable[[Dataplane, int, Inbox], None] = await_end
    watchdog: float | None = None
    keep_alive: Callable[[], None] = _keep_alive


@dataclass(frozen=True)
class Parts:
    """What an agent works with, and closes at its end."""

    devices: DeviceManager
    watch: Watch
    status: Reporter
