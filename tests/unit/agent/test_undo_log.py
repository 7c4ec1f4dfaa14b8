"""What an agent writes down of devices is what its successor reads."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.host import locks
from dataplane.host.device import Opening
from policy.agent import undo_log
from policy.agent.undo_log import Entry, UndoLog

TAP = (Opening.TAP, "eth0", "web")
VETH = (Opening.VETH, "eth0", "web")
DEVICE = (Opening.EXISTING, "eth1", None)
KEYS = [TAP, VETH, DEVICE]
OPEN = Entry("02:00:00:00:00:01", 1500, False, 4, 7, [["remove", None, 4, 7]])

entries = st.builds(
    Entry,
    st.just(OPEN.mac),
    st.integers(68, 9000),
    st.booleans(),
    undo=st.lists(st.just(["drop", "eth1"]), max_size=2),
)


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path)
    (tmp_path / "h1").mkdir()
    return tmp_path / "h1" / "devices"


@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), entries | st.none()), max_size=20),
    st.sampled_from([0, 3, 256]),
)
def test_a_successor_reads_what_was_written(
    writes: list[dict[undo_log.DeviceKey, Entry | None]], limit: int
) -> None:
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks, "DIRECTORY", Path(directory))
        patch.setattr(undo_log, "MAX_LINES", limit)
        kept, twin = UndoLog("h1"), {}
        for changes in writes:
            kept.write(changes)
            twin = {key: entry for key, entry in {**twin, **changes}.items() if entry is not None}
            assert kept.entries == twin == UndoLog("h1").entries


def test_the_file_stays_small(path: Path) -> None:
    kept = UndoLog("h1")
    for _ in range(2 * undo_log.MAX_LINES):
        kept.write({TAP: OPEN})
        kept.write({TAP: None, VETH: OPEN})
    assert len(path.read_bytes().splitlines()) <= undo_log.MAX_LINES + 8
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_line_counts_as_not_written(path: Path) -> None:
    kept = UndoLog("h1")
    kept.write({TAP: OPEN})
    whole = path.read_bytes()
    kept.write({VETH: OPEN})
    for end in range(len(whole), len(path.read_bytes()) - 1):
        path.write_bytes(path.read_bytes()[:end])
        torn = UndoLog("h1")
        assert torn.entries == {TAP: OPEN}
        torn.write({DEVICE: OPEN})
        assert UndoLog("h1").entries == {TAP: OPEN, DEVICE: OPEN}
        path.write_bytes(whole)
        kept = UndoLog("h1")
        kept.write({VETH: OPEN})


def test_lines_of_another_make_are_passed_over(path: Path) -> None:
    later = {"key": ["vhost", "x", None], "mac": "", "mtu": 1, "opening": False}
    other = {"key": ["tap", "x", None], "more": 1}
    path.write_text("".join(json.dumps(each) + "\n" for each in (later, other, [], 1)) + "\n")
    kept = UndoLog("h1")
    assert kept.entries == {}
    kept.write({TAP: OPEN})
    assert UndoLog("h1").entries == {TAP: OPEN}


def test_nothing_is_left(path: Path) -> None:
    kept = UndoLog("h1")
    kept.remove()
    kept.write({TAP: OPEN})
    kept.remove()
    assert not path.exists()


def test_where_nothing_can_be_written(path: Path) -> None:
    kept = UndoLog("h1")
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        kept.write({TAP: OPEN})
