"""The agent of one host: what the store says becomes so in the host's data plane, and stays so.

One thread does all the work, from one queue of what has happened: changes of the store, the end of the data
plane, a signal to stop. Others only wait for those. The store may be out of reach and the data plane may come
and go: what packets are forwarded by stays until there is something newer.
"""

import gc
import json
import os
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog

from dataplane.client import Client, ClientError, GoneError
from dataplane.notify import notify, watchdog_seconds
from dataplane.server import Kind
from dataplane.tables import RowKind
from policy import documents, events, intent
from policy.attachments import UNDERLAY_ID, Attachments, Wanted, wanted_of
from policy.compiler import own_pas
from policy.errors import PolicyError
from policy.events import Event
from policy.host_view import HostView, Step, uncollected
from policy.pusher import Pushed, Pusher, PushError, known_ids
from policy.store import Batch, CompactedError, Store, UnavailableError
from policy.tables import Ids

RESYNC_SECONDS = 60.0
"""How often what is there is compared with what should be, unasked."""

FIRST_RETRY, LAST_RETRY = 0.5, 30.0
"""Seconds: each retry waits twice as long as the one before."""

FAST_SECONDS = 0.005
QUIET_SECONDS, LATEST_SECONDS = 0.1, 1.0
"""A change is verified and told of at once where that was fast the last time. Of larger tables, which are
looked at row by row, when no other change has come for so long, or the first has waited so long.
"""

STORE_RETRY = 2.0
"""Seconds: as long does a store that can be had again wait at the most."""

_CONNECT_SECONDS = 0.02
_HOPS_SECONDS = 0.5
"""Within them the neighbours of a data plane are read once, of which there may be many."""
_FAREWELL_SECONDS = 1.0
_LOOK_SECONDS = 1.0
_BACKLOG = 256

log = structlog.get_logger()


class AgentError(PolicyError):
    """Whoever started the agent must act."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The documents that the store has at a revision."""

    revision: int
    items: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Stop:
    """A signal asks for it."""


@dataclass(frozen=True, slots=True)
class DataplaneGone:
    """The connection of that number has ended."""

    connection: int


@dataclass(frozen=True, slots=True)
class StoreState:
    """problem: why the store can't be used; "" once it can again."""

    problem: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A thread that waits has ended by an error that nobody expected: nothing more is heard from it."""

    error: BaseException


Happening = Stored | Batch | StoreState | DataplaneGone | Stop | Broken
Happenings = queue.Queue[Happening]


@dataclass(frozen=True)
class Options:
    """netns_prefix: goes before every attach.netns. remove: on Stop take all devices away, else leave them to
    the data plane. strict: AgentError when not everything could be done at the start.
    """

    host: str
    instance: str
    netns_prefix: str = ""
    remove: bool = False
    strict: bool = False
    resync: float = RESYNC_SECONDS


@dataclass
class _Unsettled:
    """Steps that are in the tables, not verified and told of yet. begun: the first; due: to settle them."""

    pushed: Pushed
    begun: float
    due: float


@dataclass
class _Backoff:
    seconds: float = FIRST_RETRY
    due: float = field(default_factory=time.monotonic)

    def again(self) -> None:
        self.due = time.monotonic() + self.seconds
        self.seconds = min(2 * self.seconds, LAST_RETRY)


def run(
    open_store: Callable[[], Store], options: Options, stop: Set[signal.Signals], ready: Callable[[], None]
) -> None:
    """Follow the store until one of the signals, which are blocked, comes. ready: is called once, when the
    data plane first has what the store says, but for what can't be done and is tried again.

    open_store makes none where there is none. AgentError: another agent runs for this instance, or as
    options.strict says.
    """
    with _alone(options.instance):
        happenings: Happenings = queue.Queue(_BACKLOG)
        for body, name in (
            (lambda: _await_stop(stop, happenings), "stop"),
            (lambda: follow(open_store, happenings), "store"),
        ):
            arguments = (body, happenings)
            threading.Thread(target=_guarded, args=arguments, name=name, daemon=True).start()
        Agent(open_store, options, happenings, ready).run()


@contextmanager
def _alone(instance: str) -> Iterator[None]:
    """An abstract socket's name goes with its process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as lock:
        try:
            lock.bind(f"\0isolane-agent-{instance}")
        except OSError:
            raise AgentError(f"an agent of instance {instance} is running already") from None
        yield


# ---- what happens ------------------------------------------------------------------------------------------


def _guarded(body: Callable[[], None], happenings: Happenings) -> None:
    try:
        body()
    except BaseException as error:
        happenings.put(Broken(error))


def _await_stop(stop: Set[signal.Signals], happenings: Happenings) -> None:
    signal.sigwait(stop)
    happenings.put(Stop())


def follow(open_store: Callable[[], Store], happenings: Happenings) -> None:
    """A snapshot of the intent, then every commit to it; another one when what came since is forgotten."""
    since: int | None = None
    retry = _Backoff()
    while True:
        try:
            store = open_store()
            try:
                if since is None:
                    stored = _read(store, happenings)
                    since = stored.revision
                    happenings.put(stored)
                    del stored  # as large as the intent
                with store.watch(since, documents.PREFIX) as watch:
                    happenings.put(StoreState(""))
                    retry = _Backoff()
                    while True:
                        batch = watch.next(_LOOK_SECONDS)
                        if batch is not None:
                            since = batch.revision
                            if batch.changes:
                                happenings.put(batch)
            finally:
                store.close()
        except CompactedError as error:
            log.info("loading all again", why=str(error))
            since = None
        except UnavailableError as error:
            since = None  # what comes back may be another store, one restored from a copy
            happenings.put(StoreState(str(error)))
            time.sleep(min(retry.seconds, STORE_RETRY))  # on a thread of its own: nobody waits
            retry.again()


def _read(store: Store, happenings: Happenings) -> Stored:
    """Of a store that nothing was ever written to, such as one that was made anew by mistake, not before
    something is: it says nothing, not that everything should go.
    """
    if not store.snapshot(keys=()).revision:
        happenings.put(StoreState("nothing was ever written to it"))
        with store.watch(0) as watch:
            while watch.next(_LOOK_SECONDS) is None:
                pass
    log.info("reading")
    with uncollected():
        return Stored(*store.items(documents.PREFIX))


def _await_end(client: Client, connection: int, happenings: Happenings) -> None:
    """client: a connection on which nothing is asked."""
    poller = select.poll()
    poller.register(client, select.POLLIN)
    poller.poll()  # it ends by itself, or is hung up
    client.close()
    happenings.put(DataplaneGone(connection))


# ---- what is done ------------------------------------------------------------------------------------------


class Agent:
    def __init__(
        self,
        open_store: Callable[[], Store],
        options: Options,
        happenings: Happenings,
        ready: Callable[[], None],
    ) -> None:
        self._options = options
        self._happenings = happenings
        self._ready: Callable[[], None] | None = ready
        self._telling = _Telling(open_store, options.host)
        self._store_problem = ""
        self._view: HostView | None = None
        self._unread: dict[str, bytes] = {}  # documents of which one can't be read
        self._revision = 0
        self._client: Client | None = None
        self._idle: Client | None = None  # its end is the data plane's
        self._connection = 0
        self._refusal = _Backoff()  # by a data plane that is there
        self._pusher: Pusher | None = None
        self._ids: Ids | None = None  # of the rows and ports that the data plane had
        self._attachments = Attachments()
        self._attached: object = None  # the policy that devices were last made by
        self._is_pushed = False  # the rows are those of the view
        self._applied = 0  # the revision that the data plane has
        self._unsettled: _Unsettled | None = None
        self._verification = 0.0  # seconds that the last one took
        self._problems: list[str] = []
        self._retry = _Backoff()
        self._resync = time.monotonic() + options.resync
        self._hops_due: float | None = None  # when next hops, which may be new, are listened to

    def run(self) -> None:
        try:
            while not self._take_all(self._next()):
                self._work()
        finally:
            if self._options.remove:
                if self._client is None:
                    self._connect()  # what an agent before this one opened
                self._attachments.close()
            else:
                self._attachments.release()
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
            if self._is_pushed and self._unsettled is not None:
                due = min(due, self._unsettled.due)
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

    def _work(self) -> None:
        """What is due, if it can be done."""
        if (self._client is None and not self._connect()) or self._view is None:
            return
        if time.monotonic() >= self._resync:
            self._check()
        if self._hops_due is not None and time.monotonic() >= self._hops_due:
            self._listen_to_hops()
        if self._is_pushed and self._unsettled is not None:
            self._settle(self._unsettled)
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
        self._retry = _Backoff()
        self._telling.forget()
        try:
            self._view, self._unread = HostView(self._options.host, stored.items, ids), {}
        except PolicyError as error:  # of a newer isolane, say: what is forwarded by stays
            self._view, self._unread, self._ids = None, dict(stored.items), ids
            self._fail([str(error)], None)
            return
        gc.collect()
        gc.freeze()  # a million objects that stay are nothing for a collection to look at again
        seconds = round(time.monotonic() - begun, 6)
        log.info("loaded", revision=stored.revision, objects=len(stored.items), seconds=seconds)
        if not self._view.is_managed:
            log.warning("no such host, or not one that isolane runs on", host=self._options.host)

    def _change(self, changes: Mapping[str, bytes | None]) -> None:
        """A few rows at once where that is possible, else all of them next."""
        if self._view is None:
            for key, value in changes.items():
                self._unread.pop(key, None)
                if value is not None:
                    self._unread[key] = value
            self._load(Stored(self._revision, self._unread))
            return
        begun = time.monotonic()
        step = self._view.change(changes)
        self._retry = _Backoff()
        if step is None or not self._is_pushed or self._pusher is None:
            self._is_pushed = False
            return
        try:
            self._push_step(self._view, self._pusher, step, begun)
        except PushError as error:
            self._push_all_because(error)
        except ClientError as error:
            self._lose_dataplane(str(error), error)

    # ---- the data plane

    def _connect(self) -> bool:
        if time.monotonic() < self._refusal.due:
            return False
        with ExitStack() as unless_connected:
            try:
                client = Client(self._options.instance)
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
        self._problems, self._retry = [], _Backoff()
        connection, happenings = self._connection, self._happenings
        arguments = (lambda: _await_end(idle, connection, happenings), happenings)
        threading.Thread(target=_guarded, args=arguments, name="dataplane", daemon=True).start()
        log.info("connected", instance=self._options.instance, ports=len(self._attachments.names))
        return True

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

    # ---- pushing

    def _push_step(self, view: HostView, pusher: Pusher, step: Step, begun: float) -> None:
        concerns_devices = view.policy is not self._attached
        if concerns_devices:
            self._attachments.part(self._wanted(view))
            self._attachments.serve(view.policy, view.host, held=True)
        pushed = pusher.push_step(step, view.used_ids)
        if self._unsettled is not None:
            pushed, begun = self._unsettled.pushed.then(pushed), self._unsettled.begun
        due = begun
        if self._verification > FAST_SECONDS:
            due = min(time.monotonic() + QUIET_SECONDS, begun + LATEST_SECONDS)
        self._unsettled = _Unsettled(pushed, begun, due)
        if concerns_devices:
            self._attach()
        elif step.before[RowKind.PA] != step.after[RowKind.PA] and self._hops_due is None:
            self._hops_due = time.monotonic() + _HOPS_SECONDS
        view.prune()

    def _settle(self, unsettled: _Unsettled) -> None:
        """Verify and tell, if it is due or devices wait for it."""
        assert self._view is not None and self._pusher is not None
        if time.monotonic() < unsettled.due and self._attached is self._view.policy:
            return
        try:
            if unsettled.pushed.way:
                begun = time.monotonic()
                self._pusher.verify()
                self._verification = time.monotonic() - begun
        except PushError as error:
            self._push_all_because(error)
        except ClientError as error:
            self._lose_dataplane(str(error), error)
        else:
            self._tell(unsettled.pushed, unsettled.begun)

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
        except PushError as error:
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

    def _attach(self) -> None:
        """Devices as the view says; those that can't be are problems, to be tried again."""
        view = self._view
        assert view is not None and self._client is not None
        self._attached = None
        pas = own_pas(view.policy, view.host) if view.is_managed else []
        is_new = self._attachments.sync(self._wanted(view), pas)
        if self._attachments.serve(view.policy, view.host, held=False) or is_new:
            self._client.announce()
        if not self._attachments.problems:
            self._attached = view.policy

    def _check(self) -> None:
        """Repair what others have done."""
        assert self._pusher is not None
        self._resync = time.monotonic() + self._options.resync
        try:
            if self._is_pushed and not self._pusher.is_in_place():
                log.warning("the data plane has not the rows it was given: pushing them again")
                self._is_pushed = False
            if not self._attachments.check():
                log.warning("devices are not as they were left: opening them again")
                self._attached = None
        except ClientError as error:
            self._lose_dataplane(str(error), error)

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
        self._applied = self._revision
        if pushed is not None and pushed.way:
            seconds = round(time.monotonic() - begun, 6)
            log.info("applied", revision=self._revision, **asdict(pushed), seconds=seconds)
        if problems := list(self._attachments.problems.values()):
            self._fail(problems, pushed)
            return
        self._problems, self._refusal = [], _Backoff()
        self._publish(intent.APPLIED, pushed)

    def _fail(self, problems: list[str], pushed: Pushed | None) -> None:
        if self._options.strict and self._ready is not None:
            raise AgentError("\n".join(problems))
        if problems != self._problems:
            log.error("failed", revision=self._revision, problems=problems)
            self._retry = _Backoff()
        self._problems = problems
        self._retry.again()
        self._publish(intent.FAILED, pushed)

    def _publish(self, state: str, pushed: Pushed | None) -> None:
        self._report()
        digest = self._pusher.digest if self._pusher is not None else ""
        self._telling.tell(self._revision, state, self._problems, pushed, digest)
        self._say_ready()

    def _say_ready(self) -> None:
        if self._ready is not None:
            self._ready()
            self._ready = None

    def _report(self) -> None:
        """To the data plane, for `isolane node status`."""
        report = {
            "pid": os.getpid(),
            "revision": self._applied,
            "state": intent.FAILED if self._problems else intent.APPLIED if self._applied else "starting",
            "problems": self._problems,
            "store": self._store_problem or "available",
        }
        try:
            if self._client is not None:
                self._client.report(report)
        except ClientError as error:
            self._lose_dataplane(str(error), error)


@dataclass(frozen=True, slots=True)
class _News:
    """document: of the host; event: None where nothing is to be remembered."""

    document: dict[str, Any]
    event: Event | None


class _Telling:
    """Says in the store what has become of the intent on this host. On a thread of its own: a store that is
    locked or can't be had holds up nothing, and is told once it can be.
    """

    def __init__(self, open_store: Callable[[], Store], host: str) -> None:
        self._open_store = open_store
        self._host = host
        self._store: Store | None = None
        self._said: dict[str, Any] = {}
        self._news: queue.SimpleQueue[_News | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)
        self._thread.start()

    def tell(
        self, revision: int, state: str, problems: list[str], pushed: Pushed | None, digest: str
    ) -> None:
        document = {
            "revision": revision,
            "state": state,
            "problems": problems,
            "digest": digest,
            "generation": pushed.generation if pushed else self._said.get("generation", 0),
        }
        if document != self._said:
            self._said = document
            self._news.put(_News(document, self._event(document, pushed)))

    def forget(self) -> None:
        """The store may be another: say all again."""
        self._said = {}

    def close(self) -> None:
        """What was said last is told if the store takes it now."""
        self._news.put(None)
        self._thread.join(_FAREWELL_SECONDS)

    def _event(self, document: dict[str, Any], pushed: Pushed | None) -> Event | None:
        failed = document["state"] == intent.FAILED
        if not failed and (pushed is None or not pushed.way):
            return None
        what = "; ".join(document["problems"]) if failed else ""
        counts = {}
        if pushed is not None and not failed:
            what = f"{pushed.put} put, {pushed.deleted} deleted, {pushed.way}"
            counts = {"put": pushed.put, "deleted": pushed.deleted}
        text = f"{document['state']} revision {document['revision']}: {what}"
        return Event(time.time(), f"{events.HOST_SOURCE}{self._host}", text, counts, (f"Host {self._host}",))

    # ---- the thread

    def _run(self) -> None:
        waiting: list[_News] = []
        retry = _Backoff()
        while True:
            with suppress(queue.Empty):
                news = self._news.get(timeout=max(retry.due - time.monotonic(), 0.001) if waiting else None)
                while news is not None:
                    waiting.append(news)
                    news = self._news.get_nowait()
                self._try(waiting)
                return
            if self._try(waiting):
                waiting, retry = [], _Backoff()
            else:
                waiting = waiting[-_BACKLOG:]
                retry.again()

    def _try(self, waiting: list[_News]) -> bool:
        try:
            if waiting:
                self._store = self._store or self._open_store()
                self._store.commit(*self._changes(self._store, waiting))
        except Exception as error:  # whatever it is, the thread goes on: the next news may fare better
            log.warning("can't tell the store", problem=str(error) or repr(error))
            if self._store is not None:
                self._store.close()
                self._store = None
            return False
        return True

    def _changes(self, store: Store, waiting: list[_News]) -> tuple[dict[str, bytes], list[str]]:
        document = {**waiting[-1].document, "time": time.time()}
        puts = {intent.HOST_PREFIX + self._host: json.dumps(document).encode()}
        found = dict(events.item(each.event) for each in waiting if each.event is not None)
        if not found:
            return puts, []
        return puts | found, events.outdated([*store.snapshot(events.PREFIX).items, *list(found)[1:]])
