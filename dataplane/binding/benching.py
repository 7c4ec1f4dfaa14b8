"""What is asked of the core's own clocks, and what they say."""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from dataplane.binding._ffi import lib

if TYPE_CHECKING:
    from dataplane.binding._ffi import Handle


class BenchOp(IntEnum):
    PUSH = lib.DP_BENCH_PUSH
    POP = lib.DP_BENCH_POP
    REWRITE_OUT = lib.DP_BENCH_REWRITE_OUT
    REWRITE_IN = lib.DP_BENCH_REWRITE_IN
    LOOKUP = lib.DP_BENCH_LOOKUP


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """op over a pool of frames of frame_len bytes that come in at port.

    packets: to time, over all rounds. first: index of the frame to begin with. workers: at once, each in a
    thread on a CPU of its own; 0 is one in this thread.
    """

    op: BenchOp
    port: int
    frame_len: int
    rounds: int
    packets: int
    first: int = 0
    workers: int = 0


@dataclass(frozen=True, slots=True)
class BenchRound:
    """clocks: timed, for packets. elapsed_clocks and nanoseconds: the whole round by both clocks.

    preempted: times the kernel gave the CPU to somebody else meanwhile.
    """

    packets: int
    clocks: int
    elapsed_clocks: int
    nanoseconds: int
    preempted: int


@dataclass(frozen=True, slots=True)
class BenchResult:
    """digest folds the output headers; dropped counts packets that did not come out. rounds: the first of
    each worker, then the second of each.
    """

    rounds: tuple[BenchRound, ...]
    digest: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Roof:
    """The least work there is for the frames of an operation; see bench/roof.h."""

    handle: "Handle"
