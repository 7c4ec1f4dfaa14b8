"""Tables for people."""

import pytest

from tools.text import age, columns, listed, number, words


def test_columns_line_up_under_words() -> None:
    rows = [
        {"name": "a", "providerAddresses": ["10.0.0.1", "fd00::1"], "mtu": 1500, "managed": True},
        {"name": "longer", "providerAddresses": [], "mtu": "", "managed": False},
    ]
    assert list(columns(rows)) == [
        "NAME    PAS                MTU   MANAGED",
        "a       10.0.0.1, fd00::1  1500  yes",
        "longer  -                  -     no",
    ]
    assert list(columns([{"underlay": {"device": "u1", "mtu": 1600}}]))[1] == "device u1, mtu 1600"


def test_no_rows_no_lines() -> None:
    assert list(columns([])) == []


def test_keys_become_words() -> None:
    assert [words(key) for key in ("virtualSubnetId", "rx_gso", "host")] == [
        "virtual subnet id",
        "rx gso",
        "host",
    ]


def test_lists_are_short_where_room_is() -> None:
    rows = [
        {"addresses": ["10.0.0.1", "fd00::1", "fd00::2"], "mtu": 1500, "subnets": [{"prefix": "10.0.0.0/8"}]}
    ]
    assert list(columns(rows, ("addresses", "subnets")))[1] == "10.0.0.1 +2  10.0.0.0/8"
    assert list(columns(rows, headings=False)) == ["10.0.0.1, fd00::1, fd00::2  1500  prefix 10.0.0.0/8"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_800, "2d"),
        (8.7e6, "100d"),
        (-3, "0s"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_numbers_of_things() -> None:
    assert [number(count, "host") for count in (0, 1, 2)] == ["0 hosts", "1 host", "2 hosts"]
    assert listed([("created", 2), ("changed", 0), ("deleted", 1)]) == "2 created, 1 deleted"
