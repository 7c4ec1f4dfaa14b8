"""An engine, core or twin, set up for a World, and its balance checked at every step."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from scapy.packet import Packet as Scapy

from dataplane.binding.core import Dataplane, Frame
from dataplane.binding.stats import Counters
from dataplane.twin.reference import FakeDataplane
from tests.oracle.world import World

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND


class Rig:
    """now: ns; every step is a millisecond after the last."""

    def __init__(self, engine: type[Dataplane] | type[FakeDataplane], world: World, workers: int = 1) -> None:
        self.world = world
        self.engine = engine(world.config(workers))
        self.now = SECOND
        self.ports = world.ports()
        self.attached: set[int] = set()
        for port in self.ports:
            self.toggle(port)
        self.engine.apply(world.change_set())
        if world.resolved:
            for address, mac in world.next_hops().items():
                self.engine.set_neighbour(address, mac)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.engine.close()

    def toggle(self, port: int) -> None:
        """Takes the port's device away, or gives it back."""
        if port in self.attached:
            self.engine.detach(port)
        else:
            self.engine.attach(port, self.ports[port])
        self.attached ^= {port}

    def send(self, port: int, *frames: Scapy | bytes | Frame) -> dict[int, list[Frame]]:
        """Hands frames to a port, runs the engine once; what left, by port."""
        for frame in frames:
            self.inject(port, frame)
        return self.step()

    def inject(self, port: int, frame: Scapy | bytes | Frame) -> None:
        if not isinstance(frame, Frame):
            frame = Frame(bytes(frame))
        self.engine.inject(port, frame)

    def step(self, ns: int = MILLISECOND) -> dict[int, list[Frame]]:
        self.now += ns
        self.engine.poll(self.now)
        left = {port: self.engine.collect(port) for port in sorted(self.attached)}
        assert self.engine.counters().balance() == 0, self.engine.counters()
        return {port: frames for port, frames in left.items() if frames}

    def counters(self) -> Counters:
        return self.engine.counters()


Make = Callable[..., Rig]


@contextmanager
def rigs(engine: type[Dataplane] | type[FakeDataplane]) -> Iterator[Make]:
    """What makes engines for worlds, make(rewrite=..., ...), and closes them all at the end."""
    with ExitStack() as made:
        yield lambda **choices: made.enter_context(Rig(engine, World(**choices)))


def data(frames: Iterable[Frame]) -> list[bytes]:
    return [frame.data for frame in frames]
