"""What an agent says of failures, with nothing real around it."""

from typing import Any
from unittest.mock import Mock

import pytest

from policy import agent, intent
from policy.errors import PolicyError
from policy.happenings import Happenings
from policy.pusher import PushError


@pytest.mark.parametrize("error", [PushError("the core refuses: table full"), PolicyError("can't be read")])
def test_a_push_that_fails_is_everybodys_problem(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ports had problems of their own before."""
    monkeypatch.setattr(agent, "Telling", Mock())
    monkeypatch.setattr(agent, "Attachments", Mock())
    options = agent.Options("h1", "h1")
    made: Any = agent.Agent(Mock(), options, Happenings(), Mock(), Mock())
    made._attachments.problems = {"p1": "TAP eth0 in namespace gone: no network namespace"}
    made._view = Mock(host="h1", is_managed=True, ids=Mock(ports={"p1": 1, "p2": 2}))
    made._pusher, made._revision = Mock(digest="", push=Mock(side_effect=error)), 7
    monkeypatch.setattr(made, "_wanted", lambda _: {})
    made._push_all()
    revision, state, problems, _, _, ports = made._telling.tell.call_args.args
    said = {"revision": revision, "state": state, "problems": problems, "ports": list(ports)}
    assert said == {"revision": 7, "state": "failed", "problems": [str(error)], "ports": []}
    assert intent._has_failed(said, 7, {"p2"}) and not intent._has_applied(said, 7, {"p2"})
