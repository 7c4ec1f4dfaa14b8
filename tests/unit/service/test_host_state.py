"""What agents say of their hosts: written and read in one place, whatever it is."""

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policy.service import host_state
from policy.service.host_state import APPLIED, FAILED, LINKS_BYTES, OF_THE_HOST, HostState

FIELDS = list(HostState.__slots__)
texts = st.lists(st.text(max_size=5), max_size=3).map(tuple)
states = st.builds(
    HostState,
    st.integers(),
    st.text(max_size=8),
    texts,
    texts,
    st.integers(),
    st.text(max_size=8),
    st.floats(0),
    st.none() | st.dictionaries(st.text(max_size=5), st.sampled_from(["down", "no carrier", "absent"])),
)


@given(states)
def test_what_is_said_is_read(state: HostState) -> None:
    links = {} if (said := state.encode_links()) is None else {"links/h1": said}
    assert host_state.read({"host/h1": state.encode(), **links, "hosts": b""}) == {"h1": state}
    assert replace(state, links=None).encode() == state.encode(), "links do not write it anew"


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.sampled_from(list(HostState.__slots__)), inner)
    ),
    max_leaves=12,
)


@example(b'{"revision": Infinity, "state": "applied"}')
@given(st.one_of(st.binary(max_size=30), json_values.map(lambda value: json.dumps(value).encode())))
def test_whatever_is_said_is_a_state(value: bytes) -> None:
    """What is none has applied nothing."""
    assert host_state.read({"links/h1": value}) == {}, "without an agent"
    state = host_state.with_links(host_state.decode(value), value)
    assert isinstance(state.problems, tuple) and isinstance(state.revision, int)
    if state.problems == ("what its agent said can't be read",):
        assert not state.has_applied(1, None)


@pytest.mark.parametrize(
    ("ports", "concerned"), [(None, True), (["blue/web"], True), (["blue/db"], False), ([], False)]
)
def test_problems_of_ports_concern_those_who_have_them(ports: list[str] | None, concerned: bool) -> None:
    state = HostState(7, FAILED, ("port blue/web: gone", "port red/web: gone"), ("blue/web", "red/web"))
    assert state.has_failed(7, ports) == concerned and state.has_applied(7, ports) != concerned
    assert not state.has_failed(8, ports) and not state.has_applied(8, ports)
    of_host = HostState(7, FAILED, (*state.problems, "u1: is down"), state.ports)
    assert of_host.has_failed(7, ports)
    assert "u1: is down" in of_host.problems_of(ports)
    assert ("port blue/web: gone" in of_host.problems_of(ports)) == concerned
    assert HostState(7, APPLIED).has_applied(7, ports)


def test_who_knows_of_some_ports_alone_hears_of_these() -> None:
    state = HostState(7, FAILED, ("port blue/web: gone", "port red/web: gone"), ("blue/web", "red/web"))
    assert state.problems_of_ports(["blue/web"]) == ("port blue/web: gone",)
    more = HostState(7, FAILED, (*state.problems, "red is down"), state.ports)
    assert more.problems_of_ports(["blue/web"]) == ("port blue/web: gone", OF_THE_HOST)
    assert more.problems_of_ports([]) == (OF_THE_HOST,)


def test_links_are_up_where_nothing_else_is_said() -> None:
    state = HostState(7, APPLIED, links={"blue/web": "no carrier"})
    assert state.link_of("blue/web", 7) == "no carrier"
    assert state.link_of("blue/db", 7) == "up"
    assert state.link_of("blue/db", 8) is None, "its host has not got there yet"
    assert HostState(7, APPLIED).link_of("blue/web", 7) is None, "an agent that says nothing of links"


@pytest.mark.parametrize("odd", ["\x1b[2J", ["down"], {"down": "down"}, 1, None])
def test_a_link_that_is_no_word_of_ours_is_not_known(odd: object) -> None:
    said = json.dumps({"links": {"blue/web": odd, "blue/db": "down"}, "unlisted": 0}).encode()
    state = host_state.read({"host/h1": HostState(7, APPLIED).encode(), "links/h1": said})["h1"]
    assert state.state == APPLIED and state.link_of("blue/web", 7) == "unknown"
    assert state.link_of("blue/db", 7) == "down"


def test_as_many_links_are_said_as_there_is_room_for() -> None:
    links = {f"{'t' * 63}/{number:063}": "no carrier" for number in range(7_300)}
    state = HostState(7, APPLIED, links=links)
    said = state.encode_links()
    assert said is not None and LINKS_BYTES - 200 < len(said) <= LINKS_BYTES
    read = host_state.read({"host/h1": state.encode(), "links/h1": said})["h1"]
    assert read.links is not None and len(read.links) + read.unlisted == len(links)
    assert len(read.links) > 1_700
    first, *_, last = sorted(links)
    assert read.link_of(first, 7) == "no carrier" and read.link_of(last, 7) == "unknown"
