"""Makes the process that meets hostile packets nobody: a user of its own that owns nothing, without any
capability.
"""

import ctypes
import grp
import os
import pwd
import resource
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

USER = "isolane-dataplane"
_SPARE_IDS = range(61184, 65520)
"""Ids that systemd gives to services without a user (DynamicUser=), by a hash of their names, and no one else
does: https://systemd.io/UIDS-GIDS.
"""

_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH, _SCOPE_SIGNAL = 1, 1, 2
_EXECUTE, _REMOVE_FILE = 1 << 0, 1 << 5
_CHANGES = 1 << 1 | 0x1FF << 4
"""To write a file, and to remove and make whatever a directory has."""
_SINCE = {2: 1 << 13, 3: 1 << 14}
"""By version of Landlock: to move between directories, to truncate."""

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64
"""More than there are."""

_libc = ctypes.CDLL(None, use_errno=True)


class Account(NamedTuple):
    uid: int
    gid: int


def account() -> Account:
    """Whose the data plane is: the user's, or where there is none, ids that nobody has."""
    with suppress(KeyError):
        user = pwd.getpwnam(USER)
        return Account(user.pw_uid, user.pw_gid)
    taken = {user.pw_uid for user in pwd.getpwall()} | {group.gr_gid for group in grp.getgrall()}
    start = zlib.crc32(USER.encode()) % len(_SPARE_IDS)
    spare = next(each for each in (*_SPARE_IDS[start:], *_SPARE_IDS[:start]) if each not in taken)
    return Account(spare, spare)


def bound(directory: Path) -> None:
    """From now on this thread and those it starts execute nothing, signal nobody else, change no file but
    remove those of the directory, and gain no privilege. A kernel without Landlock knows only the last.
    OSError.

    Call it before any library that starts threads is imported: bounds are a thread's own.
    """
    for capability in range(_CAPABILITIES):  # without CAP_SETPCAP they stay, of no use with no new privileges
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    version = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _VERSION)
    if version >= 1:
        _bound_files(directory, version)


def _bound_files(directory: Path, version: int) -> None:
    """landlock(7)."""
    attributes = _ruleset(version)
    ruleset = _libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    _check(min(ruleset, 0), "a ruleset")
    beneath = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", _REMOVE_FILE, beneath)
        _check(_libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), str(directory))
        _check(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0), "bounds on files")
    finally:
        os.close(beneath)
        os.close(ruleset)


def _ruleset(version: int) -> bytes:
    """struct landlock_ruleset_attr: what is denied, of what this version knows."""
    handled = _EXECUTE | _CHANGES | sum(bit for since, bit in _SINCE.items() if version >= since)
    attributes = struct.pack("=Q", handled)
    if version >= 6:
        attributes += struct.pack("=QQ", 0, _SCOPE_SIGNAL)
    return attributes


def drop() -> None:
    """The whole process becomes account()'s, if it is root's, and has no capability. OSError.

    The data plane needs none: its devices were opened by somebody else, and memory isn't locked. What is
    imported later may not be readable any more. That it dies with its parent is forgotten (prctl(2)).
    """
    if os.geteuid() == 0:
        uid, gid = account()
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)  # of all threads, and with it their capabilities
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, none), "giving up capabilities")
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "no dump")  # nor trace, by others of this user


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may ever have: a port takes up to 32 of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
