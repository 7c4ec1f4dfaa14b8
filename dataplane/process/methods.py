"""What clients may call: functions whose parameters say what a request may have."""

import inspect
from collections.abc import Callable, Mapping, Set
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec

from dataplane.process.protocol import Kind

Method = Callable[..., Any]
"""Takes the request's params by keyword, and `payload` (bytes) and `fds` if the request has any: descriptors
are the method's own once it returns. Returns what JSON can say, or a server.Reply. Its RequestError becomes
the reply's error; any other is a mistake of ours.
"""

_Call = TypeVar("_Call", bound=Method)
_CARRIED = ("payload", "fds")
"""Parameters that are no params of a request."""


class RequestError(Exception):
    """Whoever sent the request must act, or who `kind` says."""

    def __init__(self, text: str, kind: Kind = Kind.REQUEST) -> None:
        super().__init__(text)
        self.kind = kind


def read_only(method: _Call) -> _Call:
    """Marks a method that changes nothing and gives no descriptor away."""
    vars(method)["read_only"] = True
    return method


def takes_payload(method: _Call) -> _Call:
    """Marks one whose requests have a payload."""
    vars(method)["takes_payload"] = True
    return method


def convert_params(method: Method, params: Mapping[str, Any], carried: Set[str]) -> dict[str, Any]:
    """The arguments that a method is called with; carried: those that it gets besides. RequestError: they are
    not what it takes.
    """
    if params.keys() & set(_CARRIED):
        raise RequestError("payload and fds are no params")
    parameters = inspect.signature(method).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return dict(params)
    for name in _CARRIED:
        if name in carried and name not in parameters:
            raise RequestError(f"takes no {name}")
        if name not in carried and name in parameters and parameters[name].default is inspect.Parameter.empty:
            raise RequestError(f"{name} is missing")
    try:
        return msgspec.structs.asdict(msgspec.convert(params, _struct(method)))
    except (msgspec.ValidationError, RecursionError) as error:
        raise RequestError(str(error)) from None


@cache
def _struct(method: Method) -> type[msgspec.Struct]:
    hints = get_type_hints(method, include_extras=True)
    fields: list[Any] = []
    for name, parameter in inspect.signature(method).parameters.items():
        if name not in _CARRIED:
            default = () if parameter.default is inspect.Parameter.empty else (parameter.default,)
            fields.append((name, hints.get(name, Any), *default))
    return msgspec.defstruct("Params", fields, forbid_unknown_fields=True, kw_only=True)
