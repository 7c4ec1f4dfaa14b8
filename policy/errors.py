"""What can go wrong with policy, sorted by who must act.

ManifestError     the author of the manifests: every problem of the file set with file, line, field path
UnknownHostError  whoever named the host, on a command line or in a call
"""

from collections.abc import Iterable
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
    """Base of all errors of this package; its text is for the operator."""


class ManifestError(PolicyError):
    """The manifests can't be used; nothing was applied."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems), key=lambda problem: (problem.location or ("", 0), str(problem)))
        super().__init__("\n".join(map(str, self.problems)))


class UnknownHostError(PolicyError):
    """The policy has no such host, or isolane does not run on it."""

    def __init__(self, name: str, managed: Iterable[str], reason: str = "unknown host") -> None:
        super().__init__(f"{reason}: {name}; hosts isolane runs on: {', '.join(managed) or 'none'}")
