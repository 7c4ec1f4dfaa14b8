"""Gives up what a process may do beyond the descriptors it is given."""

import ctypes
import os
import resource

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64
"""More than there are."""

_libc = ctypes.CDLL(None, use_errno=True)


def drop() -> None:
    """No capability is left to this thread, to those it starts and to what they execute. OSError.

    The data plane needs none: its devices were opened by somebody else, and memory isn't locked. Call it
    before any other thread runs: capabilities are a thread's own.
    """
    for capability in range(_CAPABILITIES):  # without CAP_SETPCAP they stay, of no use with no new privileges
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, none), "giving up capabilities")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may ever have: a port takes up to 32 of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
