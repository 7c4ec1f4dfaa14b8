"""Who asks, what they may see and change, and what is said to them of all else: nothing. Pure."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from policy.errors import (
    ConflictError,
    ForbiddenError,
    ManifestError,
    NotFoundError,
    ObjectId,
    PolicyError,
    Problem,
    UnreadableError,
)
from policy.kinds.model import KINDS
from policy.service.events import HOST_SOURCE, Event

ANOTHER = "an object of another tenant"

_MENTION = re.compile(rf"\b({'|'.join(KINDS)}) (?:([A-Za-z0-9][\w.-]*)/)?([A-Za-z0-9][\w.-]*)", re.ASCII)
"""As an ObjectId prints."""


@dataclass(frozen=True, slots=True)
class Principal:
    """tenants: whose objects it sees, and may change as far as they are of these kinds. None: all, and what
    is of no tenant, too.
    """

    name: str
    tenants: frozenset[str] | None
    kinds: frozenset[str] | None = None

    def sees(self, identity: ObjectId) -> bool:
        if self.tenants is None:
            return True
        owner = identity.name if identity.kind == "Tenant" else identity.tenant
        return owner in self.tenants

    def may_change(self, identity: ObjectId) -> bool:
        mine = self.tenants is None or identity.tenant in self.tenants
        return mine and (self.kinds is None or identity.kind in self.kinds)

    def check_changes(self, identities: Iterable[ObjectId]) -> None:
        """ForbiddenError, NotFoundError for tenants whose objects it doesn't see: one may not be changed."""
        refused = [identity for identity in identities if not self.may_change(identity)]
        unseen = {each.tenant for each in refused if each.tenant and not self.sees(each)}
        if unseen:
            raise NotFoundError("\n".join(f"there is no Tenant {tenant}" for tenant in sorted(unseen)))
        if refused:
            names = ", ".join(map(str, sorted(refused)[:3]))
            rest = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
            raise ForbiddenError(f"{self.name} may not change {names}{rest}")

    @property
    def sees_hosts(self) -> bool:
        """What goes on there, besides its own."""
        return self.tenants is None

    # ---- what is said

    def seen(self, event: Event) -> Event | None:
        """What it may know of an event; None: nothing."""
        if self.tenants is None:
            return event
        mine = tuple(text for text in event.objects if self._is_mine(text))
        if not mine:
            return None
        if len(mine) == sum(event.counts.values()):
            return event
        of_host = event.source.startswith(HOST_SOURCE)
        return replace(event, text="failed" if of_host else "changed", counts={}, objects=mine)

    def _is_mine(self, text: str) -> bool:
        found = _MENTION.fullmatch(text)
        return found is not None and self.sees(ObjectId(found[1], found[2] or "", found[3]))

    @contextmanager
    def redacting(self) -> Iterator[None]:
        """PolicyErrors name no object that it may not know of."""
        try:
            yield
        except PolicyError as error:
            if self.tenants is None:
                raise
            raise self._redacted(error) from None

    def _redacted(self, error: PolicyError) -> PolicyError:
        match error:
            case ManifestError():
                others = f"what is stated does not go with {ANOTHER}"
                return type(error)(self._redacted_problem(each, others) for each in error.problems)
            case UnreadableError():
                others = f"{ANOTHER} can't be read"
                return UnreadableError(self._redacted_problem(each, others) for each in error.problems)
            case NotFoundError() | ForbiddenError():
                return error  # of what was asked for, whether it is there or not
            case ConflictError():  # it names keys
                return ConflictError("others were faster")
        return type(error)(self.redacted(str(error)))

    def _redacted_problem(self, problem: Problem, others: str) -> Problem:
        """others: what is said of a problem of an object that it may not know of."""
        if self.redacted(problem.subject) != problem.subject:
            return Problem("", "", others)
        return replace(problem, text=self.redacted(problem.text))

    def redacted(self, text: str) -> str:
        """Objects of the fabric may be named: who states a Port has to name a Host."""

        def mention(found: re.Match[str]) -> str:
            identity = ObjectId(found[1], found[2] or "", found[3])
            known = self.sees(identity) or (not identity.tenant and identity.kind != "Tenant")
            return found[0] if known else ANOTHER

        return text if self.tenants is None else _MENTION.sub(mention, text)


OPERATOR = Principal("operator", None)
