"""The twin, and the core: what one does the other does."""

from collections.abc import Iterator

import pytest

from dataplane.binding.core import Dataplane
from dataplane.twin.reference import FakeDataplane
from tests.oracle.rig import Make, rigs


@pytest.fixture(params=(FakeDataplane, Dataplane), ids=("twin", "core"))
def rig(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes engines for worlds: rig(rewrite=..., ...)."""
    with rigs(request.param) as make:
        yield make
