"""What can go wrong with policy: every exception of it, sorted by who must act.

PolicyError                   the text is for people
├── ProblemsError
│   ├── ManifestError         the author of the manifests: every problem with file, line and field path
│   │   └── StaleError        whoever edited what has changed since: look again
│   └── UnreadableError       the operator: a newer isolane wrote to the store, or something else did
├── RequestError              whoever asked
│   ├── UnknownHostError      for a host that is not there, or that isolane does not run on
│   ├── UnknownFieldError     for an explanation of a kind or field that is none
│   ├── NotFoundError         for an object that is not there
│   ├── SeveralError          for an object by a name that several have
│   ├── SelectorError         for objects by labels, in words that are no selector
│   ├── ForgottenError        for a revision that the store does not know, or knows no longer
│   ├── ForbiddenError        for what others have to do
│   ├── NotDeletedError       and waited for objects that are still there
│   └── ReferencedError       for a deletion of what something else needs
├── NotAppliedError           the operator of the hosts that are named
├── StoreError                whoever runs the store, or
│   ├── ConflictError         the caller: read again, try again
│   ├── CompactedError        the caller: take a snapshot, go on from there
│   ├── TooLargeError         the caller: change less at once
│   ├── LeaseError            the caller: it was too slow to keep its lease
│   └── UnavailableError      whoever runs the store
│       └── NoStoreError      whoever named its location
├── AgentError                whoever started the agent
└── PushError                 the agent: the data plane has what it had before
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class ObjectId(NamedTuple):
    """(kind, tenant, name); tenant "" for objects of the fabric. Prints as `Port blue/web`, `Host h1`."""

    kind: str
    tenant: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.qualified_name}"

    @property
    def qualified_name(self) -> str:
        return f"{self.tenant}/{self.name}" if self.tenant else self.name

    @classmethod
    def named(cls, kind: str, qualified_name: str) -> "ObjectId":
        """The inverse of qualified_name."""
        tenant, _, name = qualified_name.rpartition("/")
        return cls(kind, tenant, name)

    @classmethod
    def parse(cls, text: str) -> "ObjectId":
        """The inverse of str()."""
        kind, _, name = text.partition(" ")
        return cls.named(kind, name)


class Location(NamedTuple):
    """A line of a manifest, counted from 1; 0: the file as a whole."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


STORED = Location("store", 0)
"""Of an object that a store has and no file states."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. Prints as `net.yaml:12: Port blue/web: spec.addresses[0]: not an address`."""

    subject: str
    path: str
    text: str
    location: Location | None = None

    def __str__(self) -> str:
        where = str(self.location) if self.location else ""
        return ": ".join(part for part in (where, self.subject, self.path, self.text) if part)


class PolicyError(Exception):
    """Base of all; its text is for people. hint: what may help, where something is known."""

    hint = ""


class ProblemsError(PolicyError):
    """Something has problems, each to be mended in its place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems), key=lambda problem: (problem.location or ("", 0), str(problem)))
        super().__init__("\n".join(_lines(self.problems)))


class ManifestError(ProblemsError):
    """The manifests can't be used; nothing was applied."""


class UnreadableError(ProblemsError):
    """The store has documents of objects that can't be read here: others are not concerned."""


_SAME = 3
"""As many objects with one problem have a line each; of more there is one for all."""


def _lines(problems: Iterable[Problem]) -> Iterator[str]:
    """What is wrong with many objects in the same way is said once: a field that all misspell, say."""
    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        kind = problem.subject.partition(" ")[0] if problem.path.startswith("spec") else ""
        groups.setdefault((kind, problem.path, problem.text), []).append(problem)
    for first, *others in groups.values():
        if len(others) < _SAME or not first.path:
            yield from map(str, (first, *others))
        else:
            yield f"{first} (and {len(others)} more, the last at {others[-1].location})"


class StaleError(ManifestError):
    """An object has changed since it was read."""


class RequestError(PolicyError):
    """What is asked for can't be done, whatever the state of the system."""


class UnknownHostError(RequestError):
    """The policy has no such host, or isolane does not run on it."""

    def __init__(self, name: str, managed: Iterable[str], reason: str, near: str | None) -> None:
        super().__init__(f"{reason}: {name}; hosts isolane runs on: {', '.join(managed) or 'none'}")
        if near is not None:
            self.hint = f"did you mean {near}?"


class UnknownFieldError(RequestError):
    """There is no such kind or field."""


class NotFoundError(RequestError):
    """The store has no such object."""


class SeveralError(RequestError):
    """Several tenants have one of that name."""


class SelectorError(RequestError):
    """It is no label selector."""


class ForgottenError(RequestError):
    """The store does not know that revision, or knows it no longer."""


class ForbiddenError(RequestError):
    """Whoever asks may not do that."""


class NotDeletedError(RequestError):
    """The objects are still there."""


class ReferencedError(RequestError):
    """Something else still needs what is to be deleted."""


class NotAppliedError(PolicyError):
    """Hosts have not taken over a change; the text names them."""


class StoreError(PolicyError):
    """Base of all errors of a store."""


class ConflictError(StoreError):
    """Somebody else has changed what the commit relies on."""


class CompactedError(StoreError):
    """The store no longer knows that revision."""


class TooLargeError(StoreError):
    """The store does not take so much in one commit."""


class LeaseError(StoreError):
    """The lease has ended, and what was under it is gone."""


class UnavailableError(StoreError):
    """The store can't be used now. What is forwarded is not affected."""


class NoStoreError(UnavailableError):
    """Nothing is there."""


class AgentError(PolicyError):
    """The agent can't begin its work."""


class PushError(PolicyError):
    """The core does not take the policy, or does not hold what it took. It holds what it held before."""
