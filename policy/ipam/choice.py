"""Which free value somebody gets who has none yet. Pure.

It follows from a name: not the lowest free one, but one that a hash of the name chooses. So a manifest gets
the same values wherever and in whatever order it is planned, with a store or without, a change of one object
needs to look at few values and not at the pool, and two who plan at once seldom want the same one.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain

Claims = Mapping[str, Sequence[range]]
"""Name -> from where it wants a value."""

Taken = Mapping[int, float | None]
"""Values that nobody can be given, the keys."""

_ROUNDS = 16


def spread(claims: Claims, taken: Iterable[int]) -> Generator[Iterable[int] | None, Taken, dict[str, int]]:
    """A value of its own for every claim, from its ranges and not in `taken`; none where nothing is free.

    It yields the values that it would give, None for all there are, and is sent those that are taken, too.

    Names that hash to the same value are sorted out in rounds: in round n everyone without a value asks for
    the nth choice of its name; of several that ask for one value, the first by name gets it. So an object
    that got its first choice keeps it, unless a newcomer with a name before its own has the same first
    choice.
    """
    used = set(taken)
    granted: dict[str, int] = {}
    pending = sorted(claims)
    for attempt in range(_ROUNDS if pending else 0):
        choices = {name: _choice(name, attempt, claims[name]) for name in pending}
        used |= (yield {value for value in choices.values() if value is not None} - used).keys()
        wishes: dict[int, str] = {}
        for name, value in choices.items():
            if value is not None and value not in used:
                wishes.setdefault(value, name)
        used.update(wishes)
        granted.update((name, value) for value, name in wishes.items())
        pending = [name for name in pending if name not in granted]
        if not pending:
            return granted
    if pending:
        used |= (yield None).keys()
    rest: dict[tuple[range, ...], Iterator[int]] = {}
    for name in pending:  # ranges that are nearly full, or small
        ranges = tuple(claims[name])
        values = rest.setdefault(ranges, chain(*ranges))
        free = next((value for value in values if value not in used), None)
        if free is not None:
            used.add(free)
            granted[name] = free
    return granted


def _choice(name: str, attempt: int, ranges: Sequence[range]) -> int | None:
    size = sum(values.stop - values.start for values in ranges)
    if not size:
        return None
    index = int.from_bytes(blake2b(f"{name}#{attempt}".encode(), digest_size=16).digest()) % size
    for values in ranges:
        if index < values.stop - values.start:
            return values.start + index
        index -= values.stop - values.start
    return None
