"""What one who asks may do with a store of intent: for the command line and whatever else takes requests.

Everything here is by objects and identities; documents are read by `manifest.decode`, and printed by
`View.document`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

from policy.compile.compiler import tenant_mtu
from policy.errors import NotFoundError, ObjectId, Problem, UnreadableError
from policy.kinds import documents, keys
from policy.kinds.manifest import Stated
from policy.kinds.model import Labels, Object, intent_of
from policy.kinds.steps import counted
from policy.service import changes, events, history, host_state, interrupted, lookup, rollout, views
from policy.service.events import Event
from policy.service.history import Entry
from policy.service.host_state import HostState
from policy.service.planning import Change, Edit, Outcome, Plan
from policy.service.principal import Principal
from policy.service.selectors import EVERYTHING, Selector
from policy.service.views import Status, View
from policy.store.contract import Store
from policy.store.reading import Reading, snapshot_of

NOTHING: Mapping[ObjectId, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Done:
    """What a change has done, or in a dry run would do.

    revision: of the store that has it; in a dry run the one that it was planned on. before, after: by object
    of `outcomes`, as stated; None: not there. hosts: that isolane runs on and that it concerns.
    """

    revision: int
    outcomes: tuple[tuple[ObjectId, Outcome], ...]
    before: Mapping[ObjectId, Object | None]
    after: Mapping[ObjectId, Object | None]
    hosts: frozenset[str]

    @property
    def ports(self) -> set[str]:
        return {identity.qualified_name for identity, _ in self.outcomes if identity.kind == "Port"}


class Service:
    """A store, for one who asks. Safe for several threads, as the store is."""

    def __init__(self, store: Store, who: Principal) -> None:
        self._store = store
        self._who = who

    def vm_mtu(self) -> int | None:
        """The largest IP packet of a VM, in bytes; None: there is nobody who can say."""
        kinds = map(keys.objects_of, ("Host", "ProviderAddress"))
        with suppress(UnreadableError):
            policy = documents.policy_from(snapshot_of(self._store, *kinds).items)
            return tenant_mtu(policy) if policy.hosts else None
        return None

    # ---- changes

    def apply(
        self,
        stated: Stated,
        expected: Mapping[ObjectId, int] = NOTHING,
        *,
        prune: Labels = (),
        dry_run: bool = False,
    ) -> Done:
        """What is stated becomes so. expected: by object, the revision that it is an edit of; it goes before
        what documents say. ManifestError, StaleError: see changes.plan.
        """
        known = {**stated.expected, **expected}
        mine = self._who.may_change
        change = changes.apply(stated.intent, stated.problems, known, prune=prune, may_prune=mine)
        return self._change(change, "apply", dry_run)

    def delete(
        self,
        identities: Collection[ObjectId],
        expected: Mapping[ObjectId, int] = NOTHING,
        *,
        cascade: bool = False,
        ignore_missing: bool = False,
        force: bool = False,
        dry_run: bool = False,
    ) -> Done:
        """NotFoundError, ReferencedError, StaleError; without force UnreadableError."""
        seen = self._seen(identities, ignore_missing)
        change = changes.delete(
            seen, cascade, ignore_missing, expected, force=force, were_there=self.deleted_before
        )
        return self._change(change, "delete", dry_run)

    def deleted_before(self, identities: Collection[ObjectId]) -> set[ObjectId]:
        """Of what is not there, what a delete of one's own has deleted that was interrupted."""
        return interrupted.deleted_by(self._store, self._who.name, list(filter(self._who.sees, identities)))

    def label(
        self,
        identities: Collection[ObjectId],
        put: Mapping[str, str],
        remove: Collection[str] = (),
        *,
        dry_run: bool = False,
    ) -> Done:
        """NotFoundError."""
        return self._change(changes.label(self._seen(identities), put, remove), "label", dry_run)

    def rollback(self, to_revision: int, *, dry_run: bool = False) -> Done:
        """ForgottenError; ManifestError: what was stated then does not fit any more."""
        change = history.rollback(self._store, to_revision, self._who)
        return self._change(change, f"rollback to revision {to_revision}", dry_run)

    def _change(self, change: Change, source: str, dry_run: bool) -> Done:
        def permitted(reading: Reading) -> Edit:
            edit = change(reading)
            self._who.check_changes([*edit.stated.by_id, *edit.gone])
            return edit

        with self._who.redacting():
            if dry_run:
                plan = changes.plan(self._store, permitted)
                return self._done(plan.revision, plan)
            return self._done(*changes.commit(self._store, permitted, source, self._who.name))

    def _done(self, revision: int, plan: Plan) -> Done:
        identities = [identity for identity, _ in plan.outcomes]
        return Done(
            revision,
            plan.outcomes,
            {identity: plan.before.by_id.get(identity) for identity in identities},
            {identity: plan.after.by_id.get(identity) for identity in identities},
            frozenset(rollout.concerned(Reading(self._store), plan.concerned)),
        )

    def _seen(self, identities: Iterable[ObjectId], ignore_missing: bool = False) -> list[ObjectId]:
        """Those that `who` may know of. NotFoundError: others, as if they were not there."""
        found = list(identities)
        missing = [identity for identity in found if not self._who.sees(identity)]
        if missing and not ignore_missing:
            raise _not_found(missing)
        return [identity for identity in found if self._who.sees(identity)]

    # ---- looking

    def find(self, kind: str, name: str, tenant: str | None = None) -> ObjectId:
        """The object called `name`, or `tenant/name`. NotFoundError, SeveralError: not one."""
        qualified = f"{tenant}/{name}" if tenant and "/" not in name else name
        return lookup.find(Reading(self._store), kind, qualified, self._who.sees)

    def names(self, kind: str, beginning: str) -> list[str]:
        """Of a kind, those that begin so, with and without their tenants."""
        return lookup.names(Reading(self._store), kind, beginning, self._who.sees)

    def tenants(self) -> list[str]:
        """Of all objects that the asker may see."""
        found = lookup.tenants(Reading(self._store))
        return [name for name in found if self._who.tenants is None or name in self._who.tenants]

    def unreadable(self, kind: str, tenant: str | None = None) -> list[Problem]:
        """Of the objects of a kind those that this version can't read: `views` leaves them out."""
        there = Reading(self._store).under(keys.objects_of(kind, tenant))
        mine = {key: value for key, value in there.items() if self._who.sees(keys.object_id(key))}
        return list(documents.read(mine).unreadable.values())

    def views(self, kind: str, tenant: str | None = None, selector: Selector = EVERYTHING) -> list[View]:
        """The objects of a kind, of one tenant if it is given, whose labels match; by name; without those
        that can't be read. NotFoundError: there is no such tenant.
        """
        reading = Reading(self._store)
        if tenant is not None:
            self._seen([ObjectId("Tenant", "", tenant)])
            lookup.check_tenant(reading, tenant)
        there = reading.under(keys.objects_of(kind, tenant))
        states = _states(reading)
        found: dict[ObjectId, View] = {}
        for key in counted(there, f"reading {kind}s"):
            if self._who.sees(keys.object_id(key)):
                with suppress(UnreadableError):
                    view = self._view(reading, key, states)
                    found[view.identity] = view
        in_order = intent_of(view.complete for view in found.values()).by_id
        return [found[each] for each in in_order if selector.matches(found[each].labels)]

    def view(self, identities: Collection[ObjectId]) -> list[View]:
        """These objects, in their order. NotFoundError: one is not there; UnreadableError."""
        reading = Reading(self._store)
        wanted = list(map(keys.object_key, self._seen(identities)))
        reading.load(wanted)
        missing = [each for each, key in zip(identities, wanted, strict=True) if reading.get(key) is None]
        if missing:
            raise _not_found(missing)
        states = _states(reading)
        return [self._view(reading, key, states) for key in wanted]

    def _view(self, reading: Reading, key: str, states: Mapping[str, HostState]) -> View:
        value = reading.get(key)
        assert value is not None, "whoever asks has looked"
        return views.view(key, value, reading.revision_of(key), states, self._who.sees_hosts)

    def referrers(self, identity: ObjectId) -> set[ObjectId]:
        """What refers to an object, what refers to that, and so on."""
        seen = self._seen([identity])
        with self._who.redacting():
            found = lookup.with_referrers(Reading(self._store), seen) - {identity}
        return set(filter(self._who.sees, found))

    def events(self, about: ObjectId | None = None) -> list[Event]:
        """What is remembered, oldest first; about: an object."""
        found = events.read(snapshot_of(self._store, keys.EVENTS).items)
        seen = [mine for event in found if (mine := self._who.seen(event)) is not None]
        return [event for event in seen if about is None or event.is_about(str(about))]

    def history(self) -> list[Entry]:
        """The changes of intent that are remembered, oldest first."""
        return [
            replace(entry, event=mine)
            for entry in history.history(self._store)
            if (mine := self._who.seen(entry.event)) is not None
        ]

    # ---- hosts

    def hosts_of(self, identities: Collection[ObjectId]) -> set[str]:
        """The hosts that isolane runs on and that these objects concern. NotFoundError."""
        objects = [view.complete for view in self.view(identities)]
        return rollout.concerned(Reading(self._store), objects)

    def rollout(self, identity: ObjectId) -> list[Status]:
        """What has become of an object on every host that it concerns. NotFoundError."""
        [found] = self.view([identity])
        states = host_state.read(snapshot_of(self._store, keys.HOSTS).items)
        ports = [identity.qualified_name] if identity.kind == "Port" else None
        hosts = sorted(self.hosts_of([identity]))
        sees_hosts = self._who.sees_hosts
        return [views.host_status(host, found.revision, states, ports, sees_hosts) for host in hosts]

    def without_agent(self, hosts: Iterable[str]) -> list[str]:
        """Those of which no agent says anything: there is none, or none any more."""
        return rollout.without_agent(Reading(self._store), hosts)

    def wait_done(self, done: Done, seconds: float, progress: Callable[[list[str]], None]) -> None:
        """Until the hosts that a change concerns have applied it. NotAppliedError."""
        self._wait(done.hosts, done.revision, seconds, progress, done.ports)

    def wait_applied(
        self, identities: Collection[ObjectId], seconds: float, progress: Callable[[list[str]], None]
    ) -> None:
        """Until the hosts that these objects concern have applied them. NotAppliedError, NotFoundError."""
        revision = max((view.revision for view in self.view(identities)), default=0)
        ports = {identity.qualified_name for identity in identities if identity.kind == "Port"}
        self._wait(self.hosts_of(identities), revision, seconds, progress, ports)

    def _wait(
        self,
        hosts: Iterable[str],
        revision: int,
        seconds: float,
        progress: Callable[[list[str]], None],
        ports: Collection[str],
    ) -> None:
        say = HostState.problems_of if self._who.sees_hosts else _problems_of_ports
        rollout.wait_applied(self._store, hosts, revision, seconds, progress, ports, say)

    def wait_deleted(self, identities: Collection[ObjectId], seconds: float) -> None:
        """Until none of these objects is there. NotDeletedError."""
        rollout.wait_deleted(self._store, self._seen(identities, ignore_missing=True), seconds)


def _states(reading: Reading) -> dict[str, HostState]:
    reading.load(prefixes=[keys.HOSTS, keys.LINKS])
    return host_state.read({**reading.under(keys.HOSTS), **reading.under(keys.LINKS)})


def _problems_of_ports(state: HostState, ports: Collection[str] | None) -> tuple[str, ...]:
    return state.problems_of_ports(ports or ())


def _not_found(identities: Iterable[ObjectId]) -> NotFoundError:
    return NotFoundError("\n".join(f"there is no {identity}" for identity in sorted(identities)))
