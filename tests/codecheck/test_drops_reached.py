"""Runs last: every reason of drop.def has been reached by some test of this session."""

import pytest

from dataplane.stats import drop_reasons
from tests.reached import REASONS


def test_every_drop_reason_is_reached(pytestconfig: pytest.Config) -> None:
    option = pytestconfig.option
    if pytestconfig.args_source.name != "TESTPATHS" or option.keyword or option.markexpr or option.deselect:
        pytest.skip("only a run of all tests reaches all reasons")
    unreached = [reason.name for reason in drop_reasons()[1:] if reason.name not in REASONS]
    assert not unreached
