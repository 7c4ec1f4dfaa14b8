"""What agents say in a store, said by tests."""

from collections.abc import Sequence

from policy.kinds import keys
from policy.service.host_state import HostState
from policy.store.contract import Store


def say(
    store: Store, host: str, revision: int, state: str = "applied", *problems: str, ports: Sequence[str] = ()
) -> None:
    said = HostState(revision, state, problems, tuple(ports))
    store.commit({keys.host_key(host): said.encode()})
