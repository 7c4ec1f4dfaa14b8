"""What is shown of a process that may have been broken into."""

import os

import pytest

from tools.run.relay import BUDGET, LINE, Relay


def shown(capsys: pytest.CaptureFixture[str], *written: bytes) -> str:
    relay = Relay()
    for data in written:
        os.write(relay.write_end, data)
        relay.read()
    relay.writer_has_it()
    relay.close()
    return capsys.readouterr().err


def test_lines_are_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, b"one\ntw", b"o\n", b"\nthree") == "one\ntwo\nthree\n"


def test_no_cursor_is_moved(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\x1b[2Jb\x9b\u202ec\r".encode() + b"\xff\n"
    assert shown(capsys, text) == "a?[2Jb??c?\ufffd\n"


def test_it_is_not_more_than_somebody_reads(capsys: pytest.CaptureFixture[str]) -> None:
    line = b"x" * 1000 + b"\n"
    text = shown(capsys, *[line * 4] * 100)
    assert len(text) < BUDGET + 100 and text.count("... it says more than is shown\n") == 1
    assert len(shown(capsys, *[b"y" * LINE] * 3)) <= 3 * LINE + 3


def test_its_end_is_seen_once() -> None:
    """Whoever closes what it writes to and goes on must not have us look for more all the time."""
    relay = Relay()
    assert not relay.read() and not relay.has_ended
    relay.writer_has_it()
    assert not relay.read() and relay.has_ended
    relay.close()


def test_nothing_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    relay = Relay()
    assert not relay.read()
    relay.writer_has_it()
    relay.close()
    assert capsys.readouterr().err == ""
