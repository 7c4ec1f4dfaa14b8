"""`get -w`: what changes of the objects that were asked for."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from tools import kinds
from tools.listing import HOST_KINDS
from tools.selection import Selection

if TYPE_CHECKING:
    from policy.errors import ObjectId
    from policy.service.selectors import Selector
    from policy.service.service import Service
    from policy.service.views import View
    from policy.store.contract import Batch, Store

PATIENCE = 3600.0


class Watching:
    """changed: is told each object that is another, and whether it has gone."""

    def __init__(
        self,
        store: "Store",
        service: "Service",
        wanted: Selection,
        tenant: str | None,
        selector: "Selector",
        changed: "Callable[[View, bool], None]",
    ) -> None:
        self._store = store
        self._service = service
        self._wanted = wanted
        self._tenant = tenant
        self._selector = selector
        self._changed = changed
        self._shown: dict[ObjectId, View] = {}

    def run(self, revision: int, shown: "list[View]") -> None:
        """Until Ctrl-C, which is how this ends well. revision: at which `shown` was looked at, or before."""
        self._shown = {view.identity: view for view in shown}
        try:
            with self._store.watch(revision, self._prefixes()) as watch:
                while True:
                    if (batch := watch.next(PATIENCE)) is not None:
                        self._refresh(batch)
        except KeyboardInterrupt:
            return

    def _prefixes(self) -> list[str]:
        from policy.kinds import keys

        meant = self._wanted.all_kinds
        hosts = [keys.HOSTS, keys.LINKS] if meant & set(HOST_KINDS) else []
        return [
            keys.objects_of(kind, self._tenant if kinds.take_tenants(kind) else None) for kind in meant
        ] + hosts

    def _refresh(self, batch: "Batch") -> None:
        from policy.kinds import keys

        hosts = {keys.host_name(key) for key, _ in batch.changes if key.startswith(keys.HOSTS)}
        hosts |= {keys.links_host(key) for key, _ in batch.changes if key.startswith(keys.LINKS)}
        changed = {keys.object_id(key) for key, _ in batch.changes if key.startswith(keys.INTENT)}
        if self._wanted.names:
            changed &= self._shown.keys()
        changed |= {identity for identity, view in self._shown.items() if _host_of(view) in hosts}
        for identity in sorted(changed):
            self._look_at(identity)

    def _look_at(self, identity: "ObjectId") -> None:
        from policy.errors import NotFoundError

        now: View | None = None
        with suppress(NotFoundError):
            [now] = self._service.view([identity])
        if now is None or not self._selector.matches(now.labels):
            if gone := self._shown.pop(identity, None):
                self._changed(gone, True)
        elif self._shown.get(identity) != now:
            self._shown[identity] = now
            self._changed(now, False)


def _host_of(view: "View") -> str | None:
    from policy.kinds.model import Host, Port

    match view.complete:
        case Host():
            return view.complete.name
        case Port():
            return view.complete.host
    return None
