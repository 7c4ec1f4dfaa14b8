"""The agent of one host: what the store says becomes so in the host's data plane, and stays so.

One thread does all the work, from one inbox: changes of the store, the end of the data plane, devices that
come or go, a signal to stop. The loop waits and decides what is due; how the data plane gets to the desired
state is the reconciler's. The store may be out of reach and the data plane may come and go: what packets are
forwarded by stays until there is something newer.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial

import structlog

from dataplane.host.device import Device
from dataplane.host.device_watch import Seen
from dataplane.process.client import ClientError, GoneError
from dataplane.process.protocol import Kind
from policy.agent.attached import suspects
from policy.agent.clock import Backoff
from policy.agent.environment import RESYNC_SECONDS, Environment, Options, Parts
from policy.agent.port_links import Looked, PortLinks, look
from policy.agent.programmer import PushResult
from policy.agent.progress import Due, Inspection, Progress, Unreported
from policy.agent.reconciler import Outcome, Reconciler
from policy.agent.session import CONNECT_SECONDS, Dataplane, Session
from policy.agent.side_by_side import AT_ONCE
from policy.agent.sources import (
    AgentEvent,
    Broken,
    DataplaneGone,
    Inspected,
    Resync,
    Stop,
    StoreState,
    guarded,
)
from policy.agent.status import HostStatus
from policy.agent.strangers import Strangers
from policy.compile.host_view import Step
from policy.errors import AgentError, PolicyError, PushError
from policy.service.host_state import APPLIED, FAILED
from policy.store.contract import Batch

HOPS_SECONDS = 0.5
"""Within them the neighbours of a data plane are read once, of which there may be many."""
HOPE_SECONDS = 1.0
"""News of devices make what failed be tried at once, but no more often than this."""

log = structlog.get_logger()


class Agent:
    def __init__(
        self, options: Options, environment: Environment, parts: Parts, ready: Callable[[], None]
    ) -> None:
        self._options = options
        self._environment = environment
        self._clock = environment.clock
        self._parts = parts
        self._ready: Callable[[], None] | None = ready
        self._strangers = Strangers(parts.devices, environment.clock)
        self._reconciler = Reconciler(
            options.host, options.netns_prefix, parts.devices, parts.watch, self._strangers
        )
        self._session = Session(environment.connect, environment.clock, self._await_end)
        self._progress = Progress()
        self._unreported: Unreported | None = None
        self._retry = Backoff(environment.clock)  # of what has problems
        self._due = Due(environment.clock.monotonic() + options.resync)
        self._is_comparing = False  # all rows, a few at a time
        self._inspection = Inspection()
        self._links = PortLinks(parts.devices, environment.clock, self._look_beside)
        self._published: HostStatus | None = None  # what holds of the data plane that there is
        self._told_waits: list[str] = []

    def run(self) -> None:
        has_ended = False  # else a successor goes on with the devices
        try:
            while not self.turn():
                pass
            has_ended = True
        except AgentError:
            has_ended = self._ready is not None
            raise
        finally:
            self._end(has_ended and self._options.remove)

    def turn(self) -> bool:
        """Wait for what happens or is due, and do it. Whether to stop."""
        if self._take(self._wait()):
            return True
        self._work()
        return False

    def _end(self, remove: bool) -> None:
        if remove:
            if self._session.client is None:
                self._connect()  # what an agent before this one opened
            self._parts.devices.close()
        else:
            self._parts.devices.release()
        self._parts.watch.close()
        self._parts.status.close()

    # ---- waiting

    def _wait(self) -> list[AgentEvent]:
        """What has happened, at once or after a wait until something is due."""
        limit = self._environment.watchdog
        patience = self._next_due() - self._clock.monotonic()
        found = self._environment.inbox.wait(max(0.0, min(patience, limit / 3 if limit else patience)))
        self._parts.status.turned()
        if limit:
            self._environment.keep_alive()
        return found

    def _next_due(self) -> float:
        now = self._clock.monotonic()
        if self._session.client is None:
            return max(now + CONNECT_SECONDS, self._session.due)
        due = now + RESYNC_SECONDS
        if self._reconciler.view is None:
            return due
        due = min(due, self._due.resync, self._due.hops or due, self._links.due or due)
        if self._progress.problems and not self._reconciler.is_done:
            due = min(due, self._retry.due)
        if self._ready is None:
            due = min(due, self._strangers.due)
        if self._reconciler.has_rows and (self._unreported is not None or self._is_comparing):
            due = now
        return due

    # ---- what has happened

    def _take(self, events: list[AgentEvent]) -> bool:
        """Whether to stop. Commits that have come together are one change."""
        changes: dict[str, bytes | None] = {}
        for event in events:
            match event:
                case Resync():
                    changes.clear()
                    self._load(event)
                case Batch():
                    changes |= {change.key: change.value for change in event.changes}
                    self._progress.revision = event.revision
                case StoreState():
                    self._take_store_state(event.problem)
                case DataplaneGone():
                    if event.connection == self._session.number:
                        self._lose_dataplane("it ended")
                case Seen():
                    self._take_news_of_devices(event)
                case Inspected():
                    self._inspection.is_running = False
                    self._recheck(event.suspects)
                    self._inspect(())
                case Looked():
                    if self._links.take(event):
                        self._publish_links()
                case Broken():
                    raise event.error
                case Stop():
                    return True
        if changes:
            self._change(changes)
        return False

    def _take_store_state(self, problem: str) -> None:
        if problem == self._progress.store_problem:
            return
        if problem:
            log.warning("store unavailable", problem=problem)
        else:
            log.info("store available again")
        self._progress.store_problem = problem
        self._report_to_dataplane()
        if problem and not self._options.strict:
            self._say_ready()  # as ready as it can be; whoever waits for it need not wait for the store

    def _take_news_of_devices(self, seen: Seen) -> None:
        devices = self._parts.devices
        self._links.hear(seen)
        affected = devices.affected_by(seen)
        if len(affected) > AT_ONCE:
            self._inspect(affected)
        else:
            self._recheck(affected)
        if None in seen.came | seen.unsure and devices.waiting:
            self._reconciler.retry_devices()
        if seen and devices.problems:  # what was missing may be there, and what was in the way not
            self._try_soon()

    def _try_soon(self) -> None:
        """At once, but for what may be news of a try of ours."""
        now = self._clock.monotonic()
        due = min(self._retry.due, max(now, self._due.hope))
        if now >= self._due.hope:
            self._due.hope = now + HOPE_SECONDS
        self._retry.reset()
        self._retry.due = due

    def _recheck(self, names: Collection[str]) -> None:
        if self._reconciler.recheck(names):
            self._retry.reset()

    def _inspect(self, names: Collection[str]) -> None:
        """Beside; what is found comes as an event."""
        inspection, inbox = self._inspection, self._environment.inbox
        inspection.waiting.update(names)
        if inspection.is_running or not inspection.waiting:
            return
        devices = self._parts.devices.devices_of(inspection.waiting)
        inspection.is_running, inspection.waiting = True, set()
        self._environment.spawn(
            "inspect", partial(guarded, lambda: inbox.put(Inspected(suspects(devices))), inbox)
        )

    def _look_beside(self, devices: Mapping[str, Device]) -> None:
        inbox = self._environment.inbox
        self._environment.spawn("links", partial(guarded, lambda: inbox.put(look(devices)), inbox))

    def _load(self, resync: Resync) -> None:
        begun = self._clock.monotonic()
        self._progress.revision = resync.revision
        self._retry.reset()
        self._parts.status.forget()
        self._published = None
        self._reconciler.load(resync.items)
        seconds = round(self._clock.monotonic() - begun, 6)
        log.info("loaded", revision=resync.revision, objects=len(resync.items), seconds=seconds)

    def _change(self, changes: Mapping[str, bytes | None]) -> None:
        """A few rows at once where that is possible, else all of them next."""
        begun = self._clock.monotonic()
        self._retry.reset()
        step = self._reconciler.change(changes)
        if step is not None:
            self._reconcile_step(step, begun)

    # ---- what is due

    def _work(self) -> None:
        reconciler = self._reconciler
        reconciler.watch_devices()
        if self._session.client is None and not self._connect():
            if self._session.is_away_for_long:
                self._tell_away()
            return
        if reconciler.view is None:
            return
        if self._clock.monotonic() >= self._due.resync:
            self._compare()
        if self._due.hops is not None and self._clock.monotonic() >= self._due.hops:
            self._listen_to_hops()
        if (
            self._links.due is not None
            and self._clock.monotonic() >= self._links.due
            and self._links.refresh()
        ):
            self._publish_links()
        if reconciler.has_rows and self._unreported is not None:
            self._report(self._unreported.result, self._unreported.begun)
        elif reconciler.has_rows and self._is_comparing:
            self._compare_rows()
        if self._session.client is None:
            return
        if self._ready is None and self._clock.monotonic() >= self._strangers.due:
            self._look_for_strangers()
        if self._session.client is None or (self._progress.problems and not self._retry.is_due):
            return
        if reconciler.view.is_blocked:
            self._fail(reconciler.problems, None)
        elif not reconciler.has_rows:
            self._reconcile_all()
        elif not reconciler.has_devices:
            self._reconcile_devices()

    def _connect(self) -> bool:
        if self._clock.monotonic() < self._session.due:
            return False
        try:
            self._session.open(self._reconciler.connect)
        except GoneError:
            return False
        except ClientError as error:
            if error.kind == Kind.NOT_ALLOWED:
                raise AgentError(str(error)) from None
            self._lose_dataplane(str(error), error)
            return False
        self._progress.problems = []
        self._retry.reset()
        log.info("connected", instance=self._options.instance, ports=len(self._parts.devices.names))
        self._report_to_dataplane()
        return self._session.client is not None

    def _await_end(self, idle: Dataplane, connection: int) -> None:
        environment = self._environment
        body = partial(environment.await_end, idle, connection, environment.inbox)
        environment.spawn("data plane", partial(guarded, body, environment.inbox))

    def _lose_dataplane(self, why: str, error: ClientError | None = None) -> None:
        """error: of a call."""
        had_session = self._session.client is not None
        self._session.lose(why, error)
        if had_session:
            self._reconciler.disconnect()
            self._unreported = self._published = None
            self._progress.applied = 0

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The data plane; where that fails, the session is lost."""
        try:
            yield
        except ClientError as error:
            self._lose_dataplane(str(error), error)

    def _reconcile_step(self, step: Step, begun: float) -> None:
        with self._asking():
            try:
                outcome = self._reconciler.reconcile(step)
            except PushError as error:
                log.info("all rows are pushed", why=str(error))
                self._reconciler.has_rows = False
                return
            self._note_unreported(outcome, begun)

    def _note_unreported(self, outcome: Outcome, begun: float) -> None:
        """It is reported once nothing newer waits."""
        assert outcome.result is not None, "rows were pushed"
        result = outcome.result
        if self._unreported is not None:
            result, begun = self._unreported.result.then(result), self._unreported.begun
        self._unreported = Unreported(result, begun)
        if outcome.has_new_hops and self._due.hops is None:
            self._due.hops = self._clock.monotonic() + HOPS_SECONDS

    def _reconcile_all(self) -> None:
        begun = self._clock.monotonic()
        self._unreported = None
        with self._asking():
            try:
                outcome = self._reconciler.reconcile()
            except PolicyError as error:
                self._fail([str(error)], None, is_hosts=True)
                return
            self._report(outcome.result, begun)

    def _reconcile_devices(self) -> None:
        begun = self._clock.monotonic()
        with self._asking():
            self._report(self._reconciler.ensure_devices().result, begun)

    def _listen_to_hops(self) -> None:
        self._due.hops = None
        with self._asking():
            self._reconciler.listen_to_hops()

    def _look_for_strangers(self) -> None:
        with self._asking():
            assert self._session.client is not None, "called when there is one"
            is_new = self._strangers.look(self._session.client)
            if is_new and self._reconciler.is_done:  # else it is told when it is
                self._report(None, self._clock.monotonic())

    def _compare(self) -> None:
        """What others have done is repaired."""
        self._due.resync = self._clock.monotonic() + self._options.resync
        self._compare_rows(anew=True)
        if self._session.client is None:
            return
        with self._asking():
            self._reconciler.compare_ports()
            self._inspect(self._parts.devices.names)

    def _compare_rows(self, anew: bool = False) -> None:
        with self._asking():
            self._is_comparing = self._reconciler.compare_rows(anew) is None

    # ---- reporting

    def _report(self, result: PushResult | None, begun: float) -> None:
        """What has been done."""
        self._unreported = None
        progress = self._progress
        progress.applied = progress.revision
        if result is not None and result.strategy:
            seconds = round(self._clock.monotonic() - begun, 6)
            log.info("applied", revision=progress.revision, **asdict(result), seconds=seconds)
        if problems := self._reconciler.problems:
            self._fail(problems, result)
            return
        if progress.problems:
            log.info("no problems any more", revision=progress.revision)
        progress.problems = []
        self._session.succeed()
        self._publish(APPLIED, result)

    def _fail(self, problems: list[str], result: PushResult | None, is_hosts: bool = False) -> None:
        """is_hosts: they are no port's and no object's."""
        if self._options.strict and self._ready is not None:
            raise AgentError("\n".join(problems))
        if problems != self._progress.problems:
            log.error("failed", revision=self._progress.revision, problems=problems)
            self._retry.reset()
        self._progress.problems = problems
        self._retry.again()
        self._publish(FAILED, result, is_hosts)

    def _tell_away(self) -> None:
        text = f"the data plane of instance {self._options.instance} is not there"
        self._parts.status.report(HostStatus(self._progress.revision, FAILED, (text,)))

    def _publish(self, state: str, result: PushResult | None, is_hosts: bool = True) -> None:
        links = self._links.not_up() if self._reconciler.knows_ports else None
        self._report_to_dataplane()
        status = HostStatus(
            self._progress.revision,
            state,
            tuple(self._progress.problems),
            () if is_hosts else tuple(sorted(self._reconciler.ports_with_problems)),
            () if is_hosts else tuple(map(str, self._reconciler.quarantined)),
            self._reconciler.digest,
            links,
        )
        self._published = status
        self._parts.status.report(status, result)
        self._say_ready()

    def _publish_links(self) -> None:
        """As far as that has been said of the host otherwise."""
        if self._published is not None and self._published.links is not None:
            self._published = replace(self._published, links=self._links.not_up())
            self._parts.status.report(self._published)
            if self._waits != self._told_waits:
                self._report_to_dataplane()

    @property
    def _waits(self) -> list[str]:
        """What ports wait for, in words."""
        return sorted([*self._parts.devices.waiting.values(), *self._links.waiting])

    def _say_ready(self) -> None:
        if self._ready is not None:
            self._ready()
            self._ready = None

    def _report_to_dataplane(self) -> None:
        """For `isolane node status`."""
        progress, view = self._progress, self._reconciler.view
        is_known = view is None or view.is_managed
        unknown = [] if is_known else [f"no host {self._options.host}, or not one that isolane runs on"]
        report = {
            "pid": os.getpid(),
            "revision": progress.applied,
            "state": FAILED if progress.problems else APPLIED if progress.applied else "starting",
            "problems": progress.problems + unknown,
            "waiting": self._waits,
            "link": self._parts.devices.underlay_link,
            "store": progress.store_problem or "available",
        }
        self._told_waits = self._waits
        with self._asking():
            if self._session.client is not None:
                self._session.client.report(report)
