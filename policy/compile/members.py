"""Which hosts have ports in which VM subnets, and how many: of a million ports, and kept up to date. Pure."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from policy.errors import ObjectId

Pair = tuple[ObjectId, str]
"""A VM subnet and a host."""


class Members:
    """Counts as they were when all ports were looked at, packed, and what has changed since."""

    def __init__(
        self, subnets: Sequence[ObjectId] = (), hosts: Sequence[str] = (), ports: npt.ArrayLike = ()
    ) -> None:
        """ports: of each the index of its subnet times the number of hosts, and that of its host."""
        pairs, counts = np.unique(np.asarray(ports, np.int64), return_counts=True)
        self._pairs: npt.NDArray[np.int64] = pairs
        self._counts: npt.NDArray[np.int64] = counts
        self._subnets = {subnet: index for index, subnet in enumerate(subnets)}
        self._hosts = {host: index for index, host in enumerate(hosts)}
        self._names = list(hosts)
        self._since: Counter[Pair] = Counter()
        homes = np.bincount(pairs % max(1, len(hosts)), counts, len(hosts)).astype(np.int64)
        self.homes = Counter(dict(zip(hosts, homes.tolist(), strict=False)))
        """How many ports each host has."""

    def count(self, subnet: ObjectId, host: str, more: int) -> None:
        self.homes[host] += more
        self._since[subnet, host] += more

    def has(self, subnet: ObjectId, host: str) -> bool:
        """Whether the host has a port in it."""
        count = self._since[subnet, host]
        at, of = self._subnets.get(subnet), self._hosts.get(host)
        if at is not None and of is not None:
            pair = at * len(self._names) + of
            index = bisect_left(self._pairs, pair)
            if index < len(self._pairs) and self._pairs[index] == pair:
                count += int(self._counts[index])
        return count > 0

    def hosts(self, subnet: ObjectId) -> set[str]:
        """That have a port in it."""
        known = {host for of, host in self._since if of == subnet}
        index, width = self._subnets.get(subnet), len(self._names)
        if index is not None:
            first, end = (bisect_left(self._pairs, at * width) for at in (index, index + 1))
            known |= {self._names[pair - index * width] for pair in self._pairs[first:end].tolist()}
        return {host for host in known if self.has(subnet, host)}

    def together(self, pairs: Iterable[Pair], subnets: Collection[ObjectId]) -> frozenset[Pair]:
        """Of these pairs those that hold now, and whose subnet is one of these."""
        return frozenset(pair for pair in pairs if pair[0] in subnets and self.has(*pair))

    def all_of(self, subnets: Iterable[ObjectId]) -> frozenset[Pair]:
        return frozenset((subnet, host) for subnet in subnets for host in self.hosts(subnet))
