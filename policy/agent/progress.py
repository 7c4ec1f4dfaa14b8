"""How far an agent has come, and when it goes on."""

from dataclasses import dataclass, field

from policy.agent.programmer import PushResult


@dataclass
class Progress:
    """How far the agent has come. applied: the revision that the data plane has; 0: it has none of ours.
    store_problem: why the store can't be used.
    """

    revision: int = 0
    applied: int = 0
    problems: list[str] = field(default_factory=list)
    store_problem: str = ""


@dataclass
class Due:
    """When, on the agent's clock. hops: next hops, which may be new, are listened to. hope: what fails may
    again be tried because of news.
    """

    resync: float
    hops: float | None = None
    hope: float = 0.0


@dataclass
class Inspection:
    """Of devices, of which there may be a thousand, while changes are taken up."""

    is_running: bool = False
    waiting: set[str] = field(default_factory=set)


@dataclass
class Unreported:
    """Steps that are in the tables and not reported yet. begun: the first."""

    result: PushResult
    begun: float
