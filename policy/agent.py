"""The agent of one host: what the store says becomes so in the host's data plane, and stays so.

One thread does all the work, from one queue of what has happened: changes of the store, the end of the data
plane, devices that come or go, a signal to stop. Others only wait for those. The store may be out of reach
and the data plane may come and go: what packets are forwarded by stays until there is something newer.
"""

import gc
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass

import structlog

from dataplane import locks
from dataplane.client import Client, ClientError, GoneError
from dataplane.device_watch import DeviceWatch, Seen
from dataplane.notify import notify, watchdog_seconds
from dataplane.server import Kind
from dataplane.tables import RowKind
from policy import intent
from policy.attachments import AT_ONCE, UNDERLAY_ID, Attachments, Wanted, attaches_of, doubtful, wanted_of
from policy.compiler import own_pas
from policy.errors import PolicyError
from policy.happenings import (
    BACKLOG,
    Backoff,
    Broken,
    DataplaneGone,
    Doubtful,
    Happening,
    Happenings,
    Stop,
    Stored,
    StoreState,
    await_devices,
    await_end,
    await_stop,
    follow,
    guarded,
)
from policy.host_view import HostView, Step
from policy.journal import Journal
from policy.model import AttachKind
from policy.pusher import Pushed, Pusher, PushError, known_ids
from policy.store import Batch, Store
from policy.tables import Ids
from policy.telling import Telling

ANSWER_SECONDS = 60.0
"""A million rows take a data plane some seconds, a port that systemd is to keep up to one a descriptor."""
RESYNC_SECONDS = 60.0
"""How often what is there is compared with what should be, unasked."""

_CONNECT_SECONDS = 0.02
_HOPS_SECONDS = 0.5
"""Within them the neighbours of a data plane are read once, of which there may be many."""

_HOPE_SECONDS = 1.0
_AWAY_SECONDS = 3.0
"""A data plane that is started again is back before; of one that is not the store is told."""

log = structlog.get_logger()


class AgentError(PolicyError):
    """Whoever started the agent must act."""


@dataclass(frozen=True)
class Options:
    """netns_prefix: goes before every attach.netns. remove: on Stop take all devices away, else leave them to
    the data plane. strict: AgentError when not everything could be done at the start. patience: seconds for a
    data plane's answer to begin.
    """

    host: str
    instance: str
    netns_prefix: str = ""
    remove: bool = False
    strict: bool = False
    resync: float = RESYNC_SECONDS
    patience: float = ANSWER_SECONDS


@dataclass
class _Unsettled:
    """Steps that are in the tables, not told of yet. begun: the first."""

    pushed: Pushed
    begun: float


def run(
    open_store: Callable[[], Store], options: Options, stop: Set[signal.Signals], ready: Callable[[], None]
) -> None:
    """Follow the store until one of the signals, which are blocked, comes. ready: is called once, when the
    data plane first has what the store says, but for what can't be done and is tried again.

    open_store makes none where there is none. AgentError: another agent runs for this instance, or as
    options.strict says.
    """
    with _alone(options.instance):
        queued, watch = Happenings(BACKLOG), DeviceWatch()
        for body, name in (
            (lambda: await_stop(stop, queued), "stop"),
            (lambda: follow(open_store, queued), "store"),
            (lambda: await_devices(watch, queued), "devices"),
        ):
            threading.Thread(target=guarded, args=(body, queued), name=name, daemon=True).start()
        Agent(open_store, options, queued, watch, ready).run()


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


class Agent:
    def __init__(
        self,
        open_store: Callable[[], Store],
        options: Options,
        happenings: Happenings,
        watch: DeviceWatch,
        ready: Callable[[], None],
    ) -> None:
        self._options = options
        self._happenings = happenings
        self._watch = watch
        self._ready: Callable[[], None] | None = ready
        self._telling = Telling(open_store, options.host)
        self._store_problem = ""
        self._view: HostView | None = None
        self._unread: dict[str, bytes | None] = {}  # changes of which one can't be read; without a view all
        self._unreadable: list[str] = []  # why
        self._revision = 0
        self._client: Client | None = None
        self._idle: Client | None = None  # its end is the data plane's
        self._connection = 0
        self._away = time.monotonic()  # when the data plane went
        self._refusal = Backoff()  # by a data plane that is there
        self._pusher: Pusher | None = None
        self._ids: Ids | None = None  # of the rows and ports that the data plane had
        self._attachments = Attachments(Journal(options.instance))
        self._attached: object = None  # the policy that devices were last made by
        self._followed: object = None  # the policy whose devices are listened for
        self._is_pushed = False  # the rows are those of the view
        self._applied = 0  # the revision that the data plane has
        self._unsettled: _Unsettled | None = None
        self._problems: list[str] = []
        self._retry = Backoff()
        self._resync = time.monotonic() + options.resync
        self._is_reading = False  # back all rows, a few at a time
        self._is_looking = False
        self._unlooked: set[str] = set()
        self._hopeful = 0.0  # what fails is tried at once if something comes then or later
        self._hops_due: float | None = None  # when next hops, which may be new, are listened to

    def run(self) -> None:
        has_ended = False  # else a successor goes on with the devices
        try:
            while not self._take_all(self._next()):
                self._work()
            has_ended = True
        except AgentError:
            has_ended = self._ready is not None
            raise
        finally:
            if self._options.remove and has_ended:
                if self._client is None:
                    self._connect()  # what an agent before this one opened
                self._attachments.close()
            else:
                self._attachments.release()
            self._watch.close()
            self._telling.close()

    def _next(self) -> list[Happening]:
        """What has happened, at once or after a wait until something is due."""
        now = time.monotonic()
        due = now + RESYNC_SECONDS
        if self._client is None:
            due = max(now + _CONNECT_SECONDS, self._refusal.due)
        elif self._view is not None:
            due = min(due, self._resync, self._hops_due or due)
            if self._problems:
                due = min(due, self._retry.due)
            if self._is_pushed and (self._unsettled is not None or self._is_reading):
                due = now
        limit = watchdog_seconds()
        patience = min(due - now, limit / 3 if limit else due)
        found: list[Happening] = []
        with suppress(queue.Empty):
            found.append(self._happenings.get(timeout=max(patience, 0.001)))
            while True:
                found.append(self._happenings.get_nowait())
        if limit:
            notify("WATCHDOG=1")
        return found

    def _take_all(self, found: list[Happening]) -> bool:
        """Whether to stop."""
        changes: dict[str, bytes | None] = {}
        for each in found:
            match each:
                case Stored():
                    changes.clear()
                    self._load(each)
                case Batch():
                    changes |= {change.key: change.value for change in each.changes}
                    self._revision = each.revision
                case StoreState():
                    self._take_store_state(each.problem)
                case DataplaneGone():
                    if each.connection == self._connection:
                        self._lose_dataplane("it ended")
                case Seen():
                    self._notice(each)
                case Doubtful():
                    self._is_looking = False
                    self._doubt(each.names)
                    self._look(())
                case Broken():
                    raise each.error
                case Stop():
                    return True
        if changes:
            self._change(changes)
        return False

    def _take_store_state(self, problem: str) -> None:
        if problem == self._store_problem:
            return
        if problem:
            log.warning("store unavailable", problem=problem)
        else:
            log.info("store available again")
        self._store_problem = problem
        self._report()
        if problem and not self._options.strict:
            self._say_ready()  # as ready as it can be; whoever waits for it need not wait for the store

    def _notice(self, seen: Seen) -> None:
        concerned, now = self._attachments.concerned(seen), time.monotonic()
        if len(concerned) > AT_ONCE:
            self._look(concerned)
        else:
            self._doubt(concerned)
        if (seen.came or seen.unsure) and self._attachments.problems and now >= self._hopeful:
            self._retry = Backoff()  # what was missing may be there
            self._hopeful = now + _HOPE_SECONDS  # it may be a try of ours that was seen

    def _look(self, names: Collection[str]) -> None:
        """At devices, of which there may be a thousand, while changes are taken up."""
        self._unlooked.update(names)
        if self._is_looking or not self._unlooked:
            return
        self._is_looking, names, self._unlooked = True, self._unlooked, set()
        devices, happenings = self._attachments.devices_of(names), self._happenings
        arguments = (lambda: happenings.put(Doubtful(doubtful(devices))), happenings)
        threading.Thread(target=guarded, args=arguments, name="look", daemon=True).start()

    def _doubt(self, names: Collection[str]) -> None:
        if found := self._attachments.doubt(names):
            log.warning("devices are not as they were left: putting them right", ports=sorted(found))
            self._attached, self._retry = None, Backoff()

    def _work(self) -> None:
        """What is due, if it can be done."""
        if self._view is not None and self._view.policy is not self._followed:
            self._follow(self._view)
        if self._client is None and not self._connect():
            if time.monotonic() > self._away + _AWAY_SECONDS:
                text = f"the data plane of instance {self._options.instance} is not there"
                self._telling.tell(self._revision, intent.FAILED, [text], None, "")
            return
        if self._view is None:
            return
        if time.monotonic() >= self._resync:
            self._check()
        if self._hops_due is not None and time.monotonic() >= self._hops_due:
            self._listen_to_hops()
        if self._is_pushed and self._unsettled is not None:
            self._tell(self._unsettled.pushed, self._unsettled.begun)
        elif self._is_pushed and self._is_reading:
            self._read_back()
        if self._client is None:
            return
        if self._problems and time.monotonic() < self._retry.due:
            return
        if not self._is_pushed:
            self._push_all()
        elif self._attached is not self._view.policy:
            self._attach_again()

    # ---- the intent

    def _load(self, stored: Stored) -> None:
        begun = time.monotonic()
        ids = self._view.ids if self._view is not None else self._ids
        self._revision = stored.revision
        self._is_pushed = False
        self._retry = Backoff()
        self._telling.forget()
        try:
            self._view = HostView(self._options.host, stored.items, ids)
        except PolicyError as error:
            self._view, self._ids = None, ids
            self._leave_unread({**stored.items}, error)
            return
        self._unread, self._unreadable = {}, []
        gc.collect()
        gc.freeze()  # a million objects that stay are nothing for a collection to look at again
        seconds = round(time.monotonic() - begun, 6)
        log.info("loaded", revision=stored.revision, objects=len(stored.items), seconds=seconds)
        if not self._view.is_managed:
            log.warning("no such host, or not one that isolane runs on", host=self._options.host)

    def _change(self, changes: Mapping[str, bytes | None]) -> None:
        """A few rows at once where that is possible, else all of them next."""
        changes = {**self._unread, **changes}
        if self._view is None:
            items = {key: value for key, value in changes.items() if value is not None}
            self._load(Stored(self._revision, items))
            return
        begun = time.monotonic()
        try:
            step = self._view.change(changes)
        except PolicyError as error:
            self._leave_unread(changes, error)
            return
        self._unread, self._unreadable = {}, []
        self._retry = Backoff()
        if step is None or not self._is_pushed or self._pusher is None:
            self._is_pushed = False
            return
        try:
            self._push_step(self._view, self._pusher, step, begun)
        except PushError as error:
            self._push_all_because(error)
        except ClientError as error:
            self._lose_dataplane(str(error), error)

    def _leave_unread(self, unread: dict[str, bytes | None], error: PolicyError) -> None:
        """Until others come with which they can be read: a newer isolane wrote one, say. What is forwarded by
        stays.
        """
        self._unread, self._unreadable = unread, [str(error)]
        self._fail([*self._unreadable, *self._attachments.problems.values()], None, self._blamed())

    # ---- the data plane

    def _connect(self) -> bool:
        if time.monotonic() < self._refusal.due:
            return False
        with ExitStack() as unless_connected:
            try:
                client = Client(self._options.instance, self._options.patience)
                unless_connected.callback(client.close)
                idle = Client(self._options.instance)
                unless_connected.callback(idle.close)
                self._attachments.connect(client)
                self._know_ids(client)
            except GoneError:
                return False
            except ClientError as error:
                if error.kind == Kind.NOT_ALLOWED:
                    raise AgentError(str(error)) from None
                self._lose_dataplane(str(error), error)
                return False
            unless_connected.pop_all()
        self._client, self._idle = client, idle
        self._pusher = Pusher(client, self._options.host)
        self._is_pushed, self._attached = False, None
        self._problems, self._retry = [*self._unreadable], Backoff()
        connection, happenings = self._connection, self._happenings
        arguments = (lambda: await_end(idle, connection, happenings), happenings)
        threading.Thread(target=guarded, args=arguments, name="dataplane", daemon=True).start()
        log.info("connected", instance=self._options.instance, ports=len(self._attachments.names))
        self._report()
        return self._client is not None

    def _know_ids(self, client: Client) -> None:
        """A data plane that has rows says what is called what there; a new one goes by our ids, if we have
        some, or by those of ports that it was given back.
        """
        ids = known_ids(client, self._options.host)
        if self._view is not None and not ids.routing_domains:
            return
        for port in client.hello()["ports"]:
            if port["id"] != UNDERLAY_ID:
                ids.ports.setdefault(port["name"], port["id"])
        self._ids = ids
        if self._view is not None:
            self._view.go_by(ids)

    def _lose_dataplane(self, why: str, error: ClientError | None = None) -> None:
        """error: of a call. One that a data plane which goes on answers with is not asked again at once."""
        if error is not None and not isinstance(error, GoneError):
            log.error("the data plane refuses", why=why)
            self._refusal.again()
        if self._client is not None and self._idle is not None:
            log.warning("the data plane has gone", why=why)
            self._client.close()
            self._idle.hang_up()
            self._client = self._idle = self._pusher = self._unsettled = None
            self._applied = 0
            self._connection += 1
            self._away = time.monotonic()

    # ---- pushing

    def _push_step(self, view: HostView, pusher: Pusher, step: Step, begun: float) -> None:
        concerns_devices = view.policy is not self._attached
        if concerns_devices:
            self._attachments.part(self._wanted(view))
            self._attachments.serve(view.policy, view.host, held=True)
        pushed = pusher.push_step(step, view.used_ids)
        if self._unsettled is not None:
            pushed, begun = self._unsettled.pushed.then(pushed), self._unsettled.begun
        self._unsettled = _Unsettled(pushed, begun)
        if concerns_devices:
            self._attach()
        elif step.before[RowKind.PA] != step.after[RowKind.PA] and self._hops_due is None:
            self._hops_due = time.monotonic() + _HOPS_SECONDS
        view.prune()

    def _push_all_because(self, error: PushError) -> None:
        log.info("all rows are pushed", why=str(error))
        self._is_pushed = False

    def _push_all(self) -> None:
        view, pusher = self._view, self._pusher
        assert view is not None and pusher is not None
        begun = time.monotonic()
        self._unsettled = None
        try:
            whole = view.whole()
            self._attachments.part(self._wanted(view))
            self._attachments.serve(view.policy, view.host, held=True)
            pushed = pusher.push(whole)
            self._is_pushed = True
            self._attach()
            view.prune()
        except (PushError, PolicyError) as error:
            self._fail([str(error)], None)
        except ClientError as error:
            self._lose_dataplane(str(error), error)
        else:
            self._tell(pushed, begun)

    def _attach_again(self) -> None:
        begun = time.monotonic()
        try:
            self._attach()
        except ClientError as error:
            self._lose_dataplane(str(error), error)
        else:
            self._tell(None, begun)

    def _wanted(self, view: HostView) -> dict[str, Wanted]:
        return wanted_of(view.policy, view.host, view.ids.ports, self._options.netns_prefix)

    def _follow(self, view: HostView) -> None:
        """Also without a data plane: VMs' devices are kept from the host's stack all the same."""
        attached = attaches_of(view.policy, view.host)
        namespaces = {self._options.netns_prefix + each.netns for each in attached if each.netns}
        tenants = {each.device for each in attached if each.kind is AttachKind.DEVICE}
        self._watch.follow({None, *namespaces}, tenants)
        self._followed = view.policy

    def _attach(self) -> None:
        """Devices as the view says; those that can't be are problems, to be tried again."""
        view = self._view
        assert view is not None and self._client is not None
        self._attached = None
        pas = own_pas(view.policy, view.host) if view.is_managed else []
        wanted = self._wanted(view)
        self._follow(view)
        is_new = self._attachments.sync(wanted, pas)
        if self._attachments.serve(view.policy, view.host, held=False) or is_new:
            self._client.announce()
        if not self._attachments.problems:
            self._attached = view.policy

    def _check(self) -> None:
        """Repair what others have done."""
        assert self._pusher is not None
        self._resync = time.monotonic() + self._options.resync
        self._read_back(anew=True)
        if self._client is None:
            return
        try:
            if not self._attachments.check():
                log.warning("the data plane has not the ports it was given: attaching them again")
                self._attached = None
            self._look(self._attachments.names)
        except ClientError as error:
            self._lose_dataplane(str(error), error)

    def _read_back(self, anew: bool = False) -> None:
        """Some of the rows that the data plane has, so that nothing waits for them: changes go before."""
        assert self._pusher is not None
        try:
            is_right = self._pusher.look(anew) if self._is_pushed else True
        except ClientError as error:
            self._lose_dataplane(str(error), error)
            return
        self._is_reading = is_right is None
        if is_right is False:
            log.warning("the data plane has not the rows it was given: pushing them again")
            self._is_pushed = False

    def _listen_to_hops(self) -> None:
        """Other hosts' PAs came or went: take what those say of themselves that packets go to now."""
        assert self._view is not None
        self._hops_due = None
        try:
            self._attachments.serve(self._view.policy, self._view.host, held=True)
        except ClientError as error:
            self._lose_dataplane(str(error), error)
        if self._attachments.problems:
            self._attached = None

    # ---- telling

    def _tell(self, pushed: Pushed | None, begun: float) -> None:
        self._unsettled = None
        if not self._unread:
            self._applied = self._revision
        if pushed is not None and pushed.way:
            seconds = round(time.monotonic() - begun, 6)
            log.info("applied", revision=self._revision, **asdict(pushed), seconds=seconds)
        if problems := [*self._unreadable, *self._attachments.problems.values()]:
            self._fail(problems, pushed, self._blamed())
            return
        if self._problems:
            log.info("no problems any more", revision=self._revision)
        self._problems, self._refusal = [], Backoff()
        self._publish(intent.APPLIED, pushed)

    def _blamed(self) -> Collection[str]:
        """Ports that each has a problem of its own."""
        return self._attachments.problems.keys() & self._view.ids.ports if self._view is not None else ()

    def _fail(self, problems: list[str], pushed: Pushed | None, ports: Collection[str] = ()) -> None:
        """ports: those that each has one of the problems, others are the host's."""
        if self._options.strict and self._ready is not None:
            raise AgentError("\n".join(problems))
        if problems != self._problems:
            log.error("failed", revision=self._revision, problems=problems)
            self._retry = Backoff()
        self._problems = problems
        self._retry.again()
        self._publish(intent.FAILED, pushed, ports)

    def _publish(self, state: str, pushed: Pushed | None, ports: Collection[str] = ()) -> None:
        self._report()
        digest = self._pusher.digest if self._pusher is not None else ""
        self._telling.tell(self._revision, state, self._problems, pushed, digest, ports)
        self._say_ready()

    def _say_ready(self) -> None:
        if self._ready is not None:
            self._ready()
            self._ready = None

    def _report(self) -> None:
        """To the data plane, for `isolane node status`."""
        is_known = self._view is None or self._view.is_managed
        unknown = [] if is_known else [f"no host {self._options.host}, or not one that isolane runs on"]
        report = {
            "pid": os.getpid(),
            "revision": self._applied,
            "state": intent.FAILED if self._problems else intent.APPLIED if self._applied else "starting",
            "problems": self._problems + unknown,
            "store": self._store_problem or "available",
        }
        try:
            if self._client is not None:
                self._client.report(report)
        except ClientError as error:
            self._lose_dataplane(str(error), error)
