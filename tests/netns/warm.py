"""A process that has imported what `isolane agent` and `isolane apply` need, and forks one when asked: to
start one from nothing takes longer than all it does.

Reads a line of JSON on standard input: {"argv", "log", "die"}, the command's arguments, the file for what it
prints, and null or {"at": "call" | "attach" | "step" | "raise", "number"}: it kills itself at that call of
the data plane or step on a device, or fails when it pushes a step. Prints {"pid"}; {"wait": pid} is answered
by {"status"} when that has ended.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import policy.agent.start
import policy.kinds.manifest  # noqa: F401
from dataplane.host import netns
from dataplane.host.undo import Undo
from dataplane.process.client import Client
from policy.agent.programmer import Programmer
from tools.cli import main
from tools.verbs import apply  # noqa: F401


def _serve() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            answer = {"pid": _fork(**asked)}
        print(json.dumps(answer), flush=True)


def _fork(argv: list[str], log: str, die: dict[str, Any] | None) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        with Path("/dev/null").open() as nothing, Path(log).open("a") as file:
            os.dup2(nothing.fileno(), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if die:
            _die(**die)
        main(argv)
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    os._exit(1)


def _raise(*_: object) -> None:
    raise RuntimeError("nobody expects this")


def _die(at: str, number: int) -> None:
    """Before or after the call or step, by turns."""
    numbers = count()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            before = next(numbers)
            if before == number:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if next(numbers) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    if at == "call":
        Client._call = counted(Client._call)  # type: ignore[method-assign]
    elif at == "raise":
        Programmer.push_step = _raise  # type: ignore[method-assign]
    elif at == "attach":
        Client.attach = counted(Client.attach)  # type: ignore[method-assign]
    else:
        Undo.add = counted(Undo.add)  # type: ignore[method-assign]
        Undo.own = counted(Undo.own)  # type: ignore[method-assign]
        netns.call = counted(netns.call)


if __name__ == "__main__":
    _serve()
