"""What the data plane may still ask of the kernel once its workers run: this list and nothing else.

It opens no file, makes no socket and no process, and reaches no other process; it works with the descriptors
that it has and is given. Any other call fails with EPERM, so that a mistake in the list stops no packet.
"""

import contextlib
import ctypes
import errno
import os
import struct
from typing import NamedTuple


class Check(NamedTuple):
    """One 32-bit word of an argument, with the mask, is one of the values."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    is_high: bool = False


class Call(NamedTuple):
    """number: on x86-64. Allowed if all checks hold."""

    number: int
    checks: tuple[Check, ...] = ()


_FIONBIO, _FIOCLEX, _TCGETS = 0x5421, 0x5451, 0x5401
_F_DUPFD_CLOEXEC = 1030
_F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL = 1, 2, 3, 4
_PROT_EXEC = 4
_PR_SET_NAME = 15
_CLONE_THREAD = 0x10000
_CLONE_NEW = 0x7E020080
"""CLONE_NEWNS and its like."""
_OWN_PID = -1
"""Stands for the process's id."""

_NO_ADDRESS = (Check(4, (0,)), Check(4, (0,), is_high=True))
_NO_CODE = (Check(2, (0,), _PROT_EXEC),)

CALLS = {
    # packets and waiting for them
    "readv": Call(19),
    "writev": Call(20),
    "recvmsg": Call(47),
    "recvmmsg": Call(299),
    "sendmmsg": Call(307),
    "epoll_create1": Call(291),
    "epoll_ctl": Call(233),
    "epoll_wait": Call(232),
    "epoll_pwait": Call(281),
    "poll": Call(7),
    "ppoll": Call(271),
    "eventfd2": Call(290),
    "getsockopt": Call(55),
    # its socket, its clients, systemd: all open before, or accepted
    "accept4": Call(288),
    "getsockname": Call(51),
    "getpeername": Call(52),
    "sendto": Call(44, _NO_ADDRESS),
    "sendmsg": Call(46),
    "recvfrom": Call(45),
    "shutdown": Call(48),
    "pipe2": Call(293),
    "memfd_create": Call(319),
    "unlink": Call(87),  # of its socket: privileges.bound()
    # descriptors that are there
    "read": Call(0),
    "write": Call(1),
    "close": Call(3),
    "lseek": Call(8),
    "fstat": Call(5),
    "newfstatat": Call(262),
    "ftruncate": Call(77),
    "fcntl": Call(72, (Check(1, (_F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL, _F_DUPFD_CLOEXEC)),)),
    "ioctl": Call(16, (Check(1, (_FIONBIO, _FIOCLEX, _TCGETS)),)),
    # memory, never to execute
    "mmap": Call(9, _NO_CODE),
    "mprotect": Call(10, _NO_CODE),
    "munmap": Call(11),
    "mremap": Call(25),
    "madvise": Call(28),
    "brk": Call(12),
    # threads of this process
    "clone": Call(56, (Check(0, (_CLONE_THREAD,), _CLONE_THREAD | _CLONE_NEW),)),
    "set_robust_list": Call(273),
    "rseq": Call(334),
    "prctl": Call(157, (Check(0, (_PR_SET_NAME,)),)),
    "futex": Call(202),
    "sched_yield": Call(24),
    "sched_getaffinity": Call(204),
    "getcpu": Call(309),
    "gettid": Call(186),
    "tgkill": Call(234, (Check(0, (_OWN_PID,)),)),
    "exit": Call(60),
    "exit_group": Call(231),
    # signals to it, time, who it is
    "rt_sigaction": Call(13),
    "rt_sigprocmask": Call(14),
    "rt_sigreturn": Call(15),
    "rt_sigtimedwait": Call(128),
    "sigaltstack": Call(131),
    "restart_syscall": Call(219),
    "nanosleep": Call(35),
    "clock_nanosleep": Call(230),
    "clock_gettime": Call(228),
    "clock_getres": Call(229),
    "gettimeofday": Call(96),
    "getrandom": Call(318),
    "getpid": Call(39),
    "getppid": Call(110),
    "getuid": Call(102),
    "geteuid": Call(107),
    "getgid": Call(104),
    "getegid": Call(108),
    "sysinfo": Call(99),
}
"""sendmsg and sendmmsg name their addressee in memory, out of a filter's sight: a packet socket's may be
another device of its namespace.
"""

_CLONE3 = 435
"""Its flags can't be seen: as if the kernel had none, so that threads are made by clone."""

_ARCH_X86_64 = 0xC000003E
_X32 = 0x40000000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # in struct seccomp_data
_LOAD, _AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_SECCOMP, _SET_MODE_FILTER, _TSYNC = 317, 1, 1

_Instruction = tuple[int, int, int, int]
"""Operation, instructions to skip if true, if false, operand."""

_libc = ctypes.CDLL(None, use_errno=True)


def restrict() -> None:
    """All threads of this process, and those to come, may do CALLS only. OSError.

    What is not imported by now never will be. Needs no new privileges (prctl(2)).
    """
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1")  # what ends a thread loads it
    code = program(os.getpid())
    instructions = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("=H6xQ", len(code) // 8, ctypes.addressof(instructions))
    result = _libc.syscall(_SECCOMP, _SET_MODE_FILTER, _TSYNC, filter_)
    if result != 0:  # of a thread that has other bounds: its id
        code_ = ctypes.get_errno() if result < 0 else errno.EBUSY
        raise OSError(code_, f"system calls: {os.strerror(code_)}")


def program(pid: int) -> bytes:
    """The classic BPF program of that process."""
    instructions: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, _ARCH_X86_64),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
        (_JUMP_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for call in CALLS.values():
        body = [each for check in call.checks for each in _checked(check, pid)]
        body.append((_RETURN, 0, 0, _ALLOW))
        instructions += [(_JUMP_EQUAL, 0, len(body), call.number), *body]
    instructions.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


def _checked(check: Check, pid: int) -> list[_Instruction]:
    """Goes on if it holds, else returns."""
    values = [pid if value == _OWN_PID else value for value in check.values]
    return [
        (_LOAD, 0, 0, _ARGUMENTS + 8 * check.argument + 4 * check.is_high),
        (_AND, 0, 0, check.mask),
        *((_JUMP_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]
