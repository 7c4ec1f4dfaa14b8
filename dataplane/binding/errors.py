"""Exceptions of the packet core, sorted by who must act, and the one map from return codes to them."""

import os

from dataplane.binding._ffi import ffi, lib


class DataplaneError(Exception):
    """Base of all; `code` is the negative enum dp_error value."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class CallError(DataplaneError):
    """The calling code must change: a wrong argument, or a call at the wrong moment."""


class ChangeSetError(DataplaneError):
    """Whoever made the change set must act; nothing of it was applied. `section` and `row` are indices."""

    def __init__(self, text: str, code: int, section: int, row: int) -> None:
        super().__init__(f"section {section}, row {row}: {text}", code)
        self.section = section
        self.row = row


class HostError(DataplaneError):
    """The host's operator must act: memory, CPU, a limit, or a failed system call (then `errno` is set)."""

    def __init__(self, text: str, code: int, errno: int = 0) -> None:
        super().__init__(f"{text}: {os.strerror(errno)}" if errno else text, code)
        self.errno = errno


_ROW_CODES = frozenset((lib.DP_EINVAL, lib.DP_ENOENT, lib.DP_EEXIST, lib.DP_EFORMAT, lib.DP_EFULL))
_HOST_CODES = frozenset((lib.DP_ENOMEM, lib.DP_ESYS, lib.DP_ECPU, lib.DP_EFULL))


def check(code: int, what: str, *, errno: int = 0, row: tuple[int, int] | None = None) -> int:
    """The code itself when it is 0 or a count, else its exception.

    what: what was tried, or the core's own text. errno: of the system call, for DP_ESYS.
    row: (section, row) of a change set that was refused.
    """
    if code >= 0:
        return code
    name = ffi.string(lib.dp_error_name(code)).decode()
    text = f"{what} ({name})"
    if row is not None and code in _ROW_CODES:
        raise ChangeSetError(text, code, *row)
    if code in _HOST_CODES:
        raise HostError(text, code, errno if code == lib.DP_ESYS else 0)
    raise CallError(text, code)
