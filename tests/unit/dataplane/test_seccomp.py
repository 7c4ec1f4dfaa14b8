"""The system calls that the data plane keeps: their numbers, and the program that tells them from others."""

import errno
import struct
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from dataplane.process import seccomp

PID = 4711
ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSE, UNKNOWN = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
ARCH = 0xC000003E


def test_numbers_are_the_kernels() -> None:
    command = ["cc", "-E", "-dM", "-x", "c", "-"]
    text = "#include <asm/unistd_64.h>\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    words = [line.split() for line in done.stdout.splitlines() if line.startswith("#define __NR_")]
    known = {name.removeprefix("__NR_"): int(number) for _, name, number in words}
    assert {name: call.number for name, call in seccomp.CALLS.items()} == {
        name: known[name] for name in seccomp.CALLS
    }
    assert known["clone3"] == seccomp._CLONE3


def verdict(code: bytes, number: int, arguments: tuple[int, ...], arch: int = ARCH) -> int:
    """What the kernel makes of a call (bpf(4), seccomp(2))."""
    data = struct.pack("=iIQ6Q", number, arch, 0, *arguments)
    instructions = list(struct.iter_unpack("=HBBI", code))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, operand = instructions[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                accumulator &= operand
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x35:
                at += if_true if accumulator >= operand else if_false
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(f"operation {operation:#x}")


def expected(number: int, arguments: tuple[int, ...]) -> int:
    if number >= 0x40000000:
        return KILL
    if number == 435:
        return UNKNOWN
    low = [argument & 0xFFFFFFFF for argument in arguments]
    match number:
        case 44:
            return ALLOW if arguments[4] == 0 else REFUSE
        case 9 | 10:
            return REFUSE if low[2] & 4 else ALLOW
        case 56:
            return ALLOW if low[0] & 0x7E030080 == 0x10000 else REFUSE
        case 157:
            return ALLOW if low[0] == 15 else REFUSE
        case 234:
            return ALLOW if low[0] == PID else REFUSE
        case 72:
            return ALLOW if low[1] in (1, 2, 3, 4, 1030) else REFUSE
        case 16:
            return ALLOW if low[1] in (0x5421, 0x5451, 0x5401) else REFUSE
    return ALLOW if number in {call.number for call in seccomp.CALLS.values()} else REFUSE


numbers = st.one_of(
    st.sampled_from([call.number for call in seccomp.CALLS.values()]), st.integers(0, 500), st.just(1 << 30)
)
telling = st.sampled_from([0, 1, 4, 15, 1030, PID, 0x5421, 0x10000, 0x3D0F00, 0x10010000, 1 << 32])


@given(numbers, st.tuples(*[st.one_of(telling, st.integers(0, (1 << 64) - 1))] * 6))
def test_the_program_is_the_list(number: int, arguments: tuple[int, ...]) -> None:
    assert verdict(seccomp.program(PID), number, arguments) == expected(number, arguments)


def test_calls_of_another_architecture_end_the_process() -> None:
    assert verdict(seccomp.program(PID), 0, (0,) * 6, arch=0x40000003) == KILL


def test_it_is_short_enough() -> None:
    assert len(seccomp.program(PID)) // 8 < 4096, "BPF_MAXINSNS"
