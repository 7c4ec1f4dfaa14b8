"""Who has which value of which pool. Pure; times are Unix seconds.

A value (a VSID, a MAC, a customer or a provider address) belongs to an owner, an object with its full
identity, for a purpose, such as the prefix that an address is from. It stays with them for as long as they
want it, then it is in quarantine. Whoever states a value outright may have it at once.
"""

import json
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from policy.ipam import quarantine
from policy.ipam.choice import Claims, Taken, spread
from policy.kinds import keys

Ranges = Sequence[range]


class Value(NamedTuple):
    """A value of a pool, as text: `pa/rack1`, `192.168.77.100`."""

    pool: str
    text: str

    @property
    def key(self) -> str:
        return keys.grant_key(self.pool, self.text)


@dataclass(frozen=True, slots=True)
class Grant:
    """held_until: when others may have it; None while the owner has it."""

    owner: str
    purpose: str
    held_until: float | None = None


Grants = Mapping[Value, Grant]


def vsid_value(vsid: int) -> Value:
    return Value(keys.VSID_POOL, str(vsid))


def encode(grants: Grants) -> dict[str, bytes]:
    """As items of the store."""
    return {
        value.key: json.dumps(
            {"owner": grant.owner, "purpose": grant.purpose, "heldUntil": grant.held_until},
            separators=(",", ":"),
        ).encode()
        for value, grant in grants.items()
    }


def decode(items: Mapping[str, bytes]) -> dict[Value, Grant]:
    """The inverse of encode; items with other keys are passed over."""
    grants = {}
    for key, content in items.items():
        if key.startswith(keys.GRANTS):
            document = json.loads(content)
            value = Value(*keys.grant_value(key))
            grants[value] = Grant(document["owner"], document["purpose"], document["heldUntil"])
    return grants


# ---- what others have --------------------------------------------------------------------------------------


class Question(NamedTuple):
    """What do those have of a pool whose grants are not in the ledger? texts: of these values; None: of all.

    stated: only what somebody states without a grant.
    """

    pool: str
    texts: Collection[str] | None
    stated: bool = False


Answer = Mapping[str, float | None]
"""The values that somebody has; until when they are held down, None where they are in use."""

T = TypeVar("T")
Steps = Generator[Question, Answer, T]
"""Of an allocation among a part of all objects: it asks what others have, and goes on when it is told."""


def answered(steps: Steps[T], answer: Callable[[Question], Answer]) -> T:
    """The result of an allocation whose questions are answered."""
    try:
        question = next(steps)
        while True:
            question = steps.send(answer(question))
    except StopIteration as stop:
        result: T = stop.value
        return result


# ---- the ledger --------------------------------------------------------------------------------------------


class Notation(NamedTuple):
    """How the values of a pool are written, and read back to integers."""

    text: Callable[[int], str]
    value: Callable[[str], int]


class Request(NamedTuple):
    """A value wanted from `ranges`, as integers. Whoever asks for the first time gets what follows from
    `name`, if that is free: the same every time and for everybody.
    """

    owner: str
    purpose: str
    name: str
    ranges: Ranges


class Conflict(NamedTuple):
    """A value that one object has been given and wants to keep, and that another one states."""

    value: Value
    owner: str
    stated_by: str


class Ledger:
    """The grants of before, and those that hold now.

    Every value that is wanted is told to the ledger by `state` or `reserve`; `close` puts into quarantine
    what nobody has wanted again. is_part: others may have more than the grants of before say.
    """

    def __init__(self, grants: Grants | None = None, now: float = 0.0, is_part: bool = False) -> None:
        self._before = grants or {}
        self._now = now
        self._is_part = is_part
        self._granted: dict[Value, Grant] = {}
        self._values: dict[tuple[str, str, str], Value] = {}
        self._of_pool: dict[str, list[Value]] = {}
        self._held: dict[str, dict[int, float]] = {}
        for value, grant in sorted(self._before.items(), key=lambda item: item[1].held_until is None):
            self._values[value.pool, grant.owner, grant.purpose] = value  # what is not held down comes last
            self._of_pool.setdefault(value.pool, []).append(value)
        self.conflicts: list[Conflict] = []

    def state(self, value: Value, owner: str, purpose: str) -> None:
        """The owner says that it has this value. It has, also when it was given to somebody else: who wants
        to keep it makes a conflict with `reserve`.
        """
        self._granted[value] = Grant(owner, purpose)

    def reserve(
        self, pool: str, notation: Notation, requests: Iterable[Request], taken: Iterable[int]
    ) -> Steps[dict[str, int]]:
        """By the requests' names: what each has already, else a free value of its ranges, else one that gives
        way; none where there is none. taken: values that are not to be given to anybody.
        """
        wanted = {request.name: request for request in requests}
        if not wanted:
            return {}
        used = set(taken)
        texts = [value.text for value in self._of_pool.get(pool, ())]
        stated = (yield Question(pool, texts, stated=True)) if self._is_part and texts else {}
        used |= set(map(notation.value, stated))
        granted = dict(self._keep(pool, notation, wanted.values(), used))
        used |= set(granted.values())
        held = {
            notation.value(value.text): self._before[value].held_until
            for value in self._of_pool.get(pool, ())
            if not quarantine.is_over(self._before[value].held_until, self._now)
        }
        claims: Claims = {name: each.ranges for name, each in wanted.items() if name not in granted}
        granted |= yield from self._choose(pool, notation, claims, used, held)
        for name, number in granted.items():
            request = wanted[name]
            self._granted[Value(pool, notation.text(number))] = Grant(request.owner, request.purpose)
        return granted

    def _keep(
        self, pool: str, notation: Notation, requests: Iterable[Request], used: set[int]
    ) -> Iterator[tuple[str, int]]:
        for request in requests:
            value = self._values.get((pool, request.owner, request.purpose))
            if value is None:
                continue
            number = notation.value(value.text)
            now = self._granted.get(value)
            if now is not None:
                if self._before[value].held_until is None:
                    self.conflicts.append(Conflict(value, request.owner, now.owner))
            elif number not in used and any(number in values for values in request.ranges):
                yield request.name, number

    def _choose(
        self,
        pool: str,
        notation: Notation,
        claims: Claims,
        used: set[int],
        held: dict[int, float | None],
    ) -> Steps[dict[str, int]]:
        """used: not to be had at all; held: by nobody else, as far as the ledger knows."""
        choosing = spread(claims, {*used, *held})
        found: dict[str, int] = {}
        try:
            asked = next(choosing)
            while True:
                taken: Taken = {}
                if self._is_part:
                    texts = None if asked is None else list(map(notation.text, asked))
                    told = yield Question(pool, texts)
                    taken = {
                        notation.value(text): until
                        for text, until in told.items()
                        if not quarantine.is_over(until, self._now)
                    }
                    held |= {number: until for number, until in taken.items() if until is not None}
                asked = choosing.send(taken)
        except StopIteration as stop:
            found = stop.value
        ends = {n: quarantine.end(until, self._now) for n, until in held.items() if n not in used}
        giving = {n: at for n, at in ends.items() if quarantine.gives_way(pool, held[n], self._now)}
        for name in sorted(claims.keys() - found.keys()):
            number = min(_within(giving, claims[name]), key=lambda n: (giving[n], n), default=None)
            if number is not None:
                found[name] = number
                del giving[number]
        left = {n: at for n, at in ends.items() if held[n] is not None and n not in found.values()}
        self._held[pool] = left
        return found

    def held(self, pool: str, ranges: Ranges) -> list[float]:
        """When the holds end of the values of a pool that nobody has; asked after a request of the last
        `reserve` for the pool was not met.
        """
        ends = self._held.get(pool, {})
        return sorted(ends[number] for number in _within(ends, ranges))

    def close(self) -> dict[Value, Grant]:
        """All grants that are to be remembered, those in quarantine among them."""
        gone = {value: grant for value, grant in self._before.items() if value not in self._granted}
        held = {
            value: replace(grant, held_until=quarantine.end(grant.held_until, self._now))
            for value, grant in gone.items()
            if not quarantine.is_over(grant.held_until, self._now)
        }
        return self._granted | held


def _within(numbers: Iterable[int], ranges: Ranges) -> Iterator[int]:
    return (number for number in numbers if any(number in values for values in ranges))
