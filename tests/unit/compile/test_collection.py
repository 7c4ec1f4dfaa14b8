"""What stays is set aside from garbage collection, and what does not is still found."""

import gc
import weakref

import pytest

from policy.compile.collection import set_aside, uncollected


class Node:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_set_aside_and_is_garbage_by_then_is_collected() -> None:
    """An agent that reads its store again and again keeps no cycle of an earlier time."""
    node = Node()
    found = weakref.ref(node)
    set_aside()
    del node
    assert found() is not None, "it is set aside"
    set_aside()
    assert found() is None
    gc.unfreeze()


def test_nothing_is_collected_meanwhile() -> None:
    with pytest.raises(ValueError), uncollected():
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()
