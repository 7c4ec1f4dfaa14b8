"""Starts the agent of a host with all that it needs: one agent an instance."""

import os
import signal
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from functools import partial

from dataplane.host import locks
from dataplane.host.device_watch import DeviceWatch
from dataplane.process.client import Client
from dataplane.process.systemd import watchdog_seconds
from policy.agent.clock import SystemClock
from policy.agent.devices import DeviceManager
from policy.agent.environment import Environment, Options, Parts, spawn_thread
from policy.agent.loop import Agent
from policy.agent.sources import QueuedInbox, await_devices, await_stop, guarded, inform
from policy.agent.status import StatusReporter
from policy.agent.undo_log import UndoLog
from policy.errors import AgentError
from policy.store.contract import Store
from policy.store.locations import followed_path


def run(
    open_store: Callable[[], Store], options: Options, stop: Set[signal.Signals], ready: Callable[[], None]
) -> None:
    """Follow the store until one of the signals, which are blocked, comes. ready: is called once, when the
    data plane first has what the store says, but for what can't be done and is tried again.

    open_store makes none where there is none. AgentError: another agent runs for this instance, or as
    options.strict says.
    """
    with _alone(options.instance), _telling(options):
        inbox, watch, clock = QueuedInbox(), DeviceWatch(), SystemClock()
        sources = {
            "stop": partial(await_stop, stop, inbox),
            "informer": partial(inform, open_store, inbox),
            "devices": partial(await_devices, watch, inbox),
        }
        for name, body in sources.items():
            spawn_thread(name, partial(guarded, body, inbox))
        environment = Environment(
            partial(Client, options.instance, options.patience), inbox, clock, watchdog=watchdog_seconds()
        )
        devices = DeviceManager(UndoLog(options.instance))
        status = StatusReporter(open_store, options.host, clock)
        Agent(options, environment, Parts(devices, watch, status), ready).run()


@contextmanager
def _alone(instance: str) -> Iterator[None]:
    directory = locks.agent_directory(instance)
    try:
        lock = locks.of_directory(directory)
    except OSError as error:
        raise AgentError(f"{directory}: {error.strerror or error}") from None
    if lock is None:
        raise AgentError(f"an agent of instance {instance} is running already")
    try:
        yield
    finally:
        with suppress(OSError):  # what has to be undone stays
            directory.rmdir()
        os.close(lock)


@contextmanager
def _telling(options: Options) -> Iterator[None]:
    """Where the store is, to who asks what its names for the data plane's rows are."""
    path = followed_path(options.instance)
    with suppress(OSError):  # no room: it does without
        path.write_bytes(os.fsencode(options.location))
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
