import errno

import pytest

from dataplane.binding._ffi import ffi, lib
from dataplane.binding.errors import CallError, ChangeSetError, DataplaneError, HostError, check

CODES = {name: getattr(lib, name) for name in dir(lib) if name.startswith("DP_E")}
ROW = (2, 5)


@pytest.mark.parametrize("count", [0, 1, 64])
def test_counts_pass(count: int) -> None:
    assert check(count, "reading") == count


@pytest.mark.parametrize(
    ("name", "alone", "in_a_change_set"),
    [
        ("DP_EINVAL", CallError, ChangeSetError),
        ("DP_ENOMEM", HostError, HostError),
        ("DP_ENOENT", CallError, ChangeSetError),
        ("DP_EEXIST", CallError, ChangeSetError),
        ("DP_EFORMAT", CallError, ChangeSetError),
        ("DP_ESYS", HostError, HostError),
        ("DP_ECPU", HostError, HostError),
        ("DP_EBUSY", CallError, CallError),
        ("DP_EFULL", HostError, ChangeSetError),
    ],
)
def test_each_code_has_its_exception(
    name: str, alone: type[DataplaneError], in_a_change_set: type[DataplaneError]
) -> None:
    code = CODES[name]
    with pytest.raises(alone, match="doing it") as caught:
        check(code, "doing it")
    assert caught.value.code == code
    with pytest.raises(in_a_change_set) as caught:
        check(code, "no such subnet", row=ROW)
    assert caught.value.code == code


def test_no_code_is_forgotten() -> None:
    cases = test_each_code_has_its_exception.pytestmark[0].args[1]
    assert {case[0] for case in cases} == set(CODES)


def test_every_code_has_a_name_of_its_own() -> None:
    names = {ffi.string(lib.dp_error_name(code)) for code in CODES.values()}
    assert len(names) == len(CODES)
    assert ffi.string(lib.dp_error_name(lib.DP_OK)) not in names


def test_change_set_error_names_section_and_row() -> None:
    with pytest.raises(ChangeSetError, match="section 2, row 5: no such subnet") as caught:
        check(lib.DP_ENOENT, "no such subnet", row=ROW)
    assert (caught.value.section, caught.value.row) == ROW


def test_system_call_error_keeps_errno() -> None:
    with pytest.raises(HostError, match="Operation not permitted") as caught:
        check(lib.DP_ESYS, "attaching port 1", errno=errno.EPERM)
    assert caught.value.errno == errno.EPERM
