"""Tables for people."""

from tools.text import columns, words


def test_columns_line_up_under_words() -> None:
    rows = [
        {"name": "a", "providerAddresses": ["10.0.0.1", "fd00::1"], "mtu": 1500, "managed": True},
        {"name": "longer", "providerAddresses": [], "mtu": "", "managed": False},
    ]
    assert list(columns(rows)) == [
        "NAME    PROVIDER ADDRESSES  MTU   MANAGED",
        "a       10.0.0.1, fd00::1   1500  yes",
        "longer  -                   -     no",
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
