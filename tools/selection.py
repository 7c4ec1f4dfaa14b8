"""Which objects a command line names: `KIND NAME...`, `KIND/NAME...`, `KIND,KIND` or `all`; a NAME is NAME or
TENANT/NAME.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from tools import kinds
from tools.errors import Misuse, did_you_mean
from tools.options import F, check_text, complete_objects

if TYPE_CHECKING:
    from policy.errors import ObjectId
    from policy.service.service import Service


@dataclass(frozen=True)
class Selection:
    """names: (kind, name), of which each is meant alone; kinds: of which all are meant."""

    kinds: tuple[str, ...]
    names: tuple[tuple[str, str], ...] = ()

    is_all: bool = False
    """Whether it was said of every kind."""

    @property
    def all_kinds(self) -> set[str]:
        return {*self.kinds, *(kind for kind, _ in self.names)}

    @property
    def is_one(self) -> bool:
        return len(self.names) == 1


def objects_argument(required: bool = True) -> Callable[[F], F]:
    return click.argument(
        "words",
        metavar="KIND[,KIND…] [NAME…] | KIND/NAME…" if required else "[KIND NAME… | KIND/NAME…]",
        nargs=-1,
        required=required,
        shell_complete=complete_objects,
    )


def parse(words: Sequence[str]) -> Selection:
    """Misuse: they name no objects."""
    words = list(map(check_text, words))
    if any("/" in word for word in words[:1]) or all("/" in word for word in words):
        return Selection((), tuple(dict.fromkeys(map(_full_name, words))))
    first, *names = words
    found = _kinds(first)
    is_all = first.lower() == kinds.ALL
    if not names:
        return Selection(found, is_all=is_all)
    if is_all:
        raise Misuse("all takes no names", "KIND NAME… or KIND/NAME…")
    if "" in names:
        raise Misuse("a name is empty", "KIND NAME… or KIND/NAME…")
    return Selection((), tuple(dict.fromkeys((kind, name) for kind in found for name in names)))


def parse_names(words: Sequence[str]) -> Selection:
    """Like parse, where all of a kind can't be meant."""
    found = parse(words)
    if not found.names:
        raise Misuse("no name is given", f"{words[0]} NAME… or {words[0]}/NAME…")
    return found


def _full_name(word: str) -> tuple[str, str]:
    kind, slash, name = word.partition("/")
    if not (slash and name):
        raise Misuse(f"{word!r} is not KIND/NAME", "after a KIND/NAME all are of that form")
    return kinds.find(kind), name


def _kinds(word: str) -> tuple[str, ...]:
    from policy.kinds.model import KINDS

    if word.lower() == kinds.ALL:
        return tuple(KINDS)
    found = tuple(dict.fromkeys(kinds.find(part) for part in word.split(",") if part))
    if not found:
        raise Misuse("no kind is named", "isolane api-resources lists the kinds")
    return found


def find(
    service: "Service",
    selection: Selection,
    tenant: str | None,
    ignore_not_found: bool = False,
    were_there: "Callable[[Collection[ObjectId]], Collection[ObjectId]]" = lambda _: (),
) -> "list[ObjectId]":
    """The objects that it names, each once. NotFoundError: one is not there, with names like it.

    were_there: of those that are not, which is no error; of none of them by a name without its tenant.
    """
    from policy.errors import NotFoundError, ObjectId

    found = []
    missing: dict[ObjectId, NotFoundError] = {}
    for kind, name in selection.names:
        whose = tenant if kinds.take_tenants(kind) else None
        try:
            if tenant and "/" in name and name.partition("/")[0] != tenant:
                raise NotFoundError(f"there is no {kind} {name} of tenant {tenant}")
            found.append(service.find(kind, name, whose))
        except NotFoundError as error:
            full = f"{whose}/{name}" if whose and "/" not in name else name
            missing[ObjectId.named(kind, full)] = error
    were = were_there(missing.keys()) if missing and not ignore_not_found else ()
    for identity, refusal in missing.items():
        if identity not in were and not ignore_not_found:
            refusal.hint = _near(service, identity.kind, identity.qualified_name, tenant)
            raise refusal
    return list(dict.fromkeys(found))


def _near(service: "Service", kind: str, name: str, tenant: str | None) -> str:
    """A hint: objects of the kind whose names are like it; of Ports only those that begin as it does."""
    owner, _, short = name.rpartition("/")
    owner = owner or (tenant or "" if kinds.take_tenants(kind) else "")
    whose = f"{owner}/" if owner else ""
    known = service.names(kind, whose + (short[:1] if kind == "Port" else ""))
    theirs = (each.removeprefix(whose) for each in known if each.startswith(whose))
    return did_you_mean(short, {each for each in theirs if "/" not in each})
