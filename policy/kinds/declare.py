"""How a kind is declared: beside each attribute of its class stands what the field of manifests means, how it
is written and what holds without it. All else follows: reading, storing, `explain`, JSON Schema, references.

    @kind("A provider network that sites and VM networks are part of.")
    @dataclass(frozen=True, slots=True)
    class NetworkSite:
        name: str
        logical_network: Annotated[str, Field(NAME, "…", "fabric", required=True, refers_to="LogicalNetwork")]

The field of `vm_subnet` is `vmSubnet`. Its default is the attribute's. Attributes without a Field are `name`,
`tenant` and `labels`, which are metadata.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from policy.kinds.scalars import Scalar
from policy.kinds.yaml_reader import Fields

T = TypeVar("T")

Values = dict[str, Any]
"""Attribute -> value."""


@dataclass(frozen=True)
class Field:
    """meaning: a sentence; example: as in YAML; left_out: what holds then.

    required: it must be stated. condition: a boolean field beside it, without which it need not be.
    decisive: other rules hold for other values, so that of an object in which it is wrong nothing is known.
    refers_to: the kind of the object that it names, of the same tenant if that kind has tenants.
    """

    type: "Scalar | Section"
    meaning: str
    example: str = ""
    left_out: str = ""
    required: bool = False
    condition: str = ""
    decisive: bool = False
    refers_to: str = ""
    attribute: str = ""
    default: Any = None
    many: bool = False

    @cached_property
    def name(self) -> str:
        first, *others = self.attribute.split("_")
        return first + "".join(map(str.capitalize, others))

    @property
    def type_name(self) -> str:
        name = self.type.name if isinstance(self.type, Scalar) else "section"
        return f"list of {name}" if self.many else name


@dataclass(frozen=True)
class Section:
    """A mapping with fields of its own. build: its object from what was read, None if it can't be used, with
    where to report what is wrong, or None if it is known to be right; write: the inverse, where that is not
    one attribute a field.
    """

    fields: tuple[Field, ...]
    build: Callable[[Values, Fields | None], Any]
    write: Callable[[Any], dict[str, Any]] | None = None

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        return {field.name: field for field in self.fields}

    @cached_property
    def defaults(self) -> Values:
        return {field.attribute: field.default for field in self.fields}


def section(model: type, build: Callable[[Values, Fields | None], Any] | None = None) -> Section:
    """Of a class with declared fields; build: where it takes more than to make one of what was read."""
    return Section(declared(model), build or (lambda values, _fields: model(**values)))


def declared(model: type) -> tuple[Field, ...]:
    """The fields that a class declares, with their attributes and defaults."""
    hints = get_type_hints(model, include_extras=True)
    defaults = {each.name: each.default for each in fields(model)}
    return tuple(
        _completed(next(each for each in hint.__metadata__ if isinstance(each, Field)), name, hint, defaults)
        for name, hint in hints.items()
        if name in defaults and hasattr(hint, "__metadata__")
    )


def _completed(field: Field, attribute: str, hint: Any, defaults: Mapping[str, Any]) -> Field:
    stated = get_args(hint)[0]
    many = get_origin(stated) is tuple
    default = defaults[attribute]
    if default is MISSING:  # what stands for it in an object that is reported
        default = () if many else "" if stated is str else None
    return replace(field, attribute=attribute, default=default, many=many)


@dataclass(frozen=True)
class Kind:
    """of_tenant: whether its objects are of a tenant; None: they may be, and have `tenant` all the same."""

    model: type
    meaning: str
    of_tenant: bool | None

    @property
    def name(self) -> str:
        return self.model.__name__

    @cached_property
    def spec(self) -> Section:
        return section(self.model)

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.spec.fields

    @cached_property
    def references(self) -> tuple[Field, ...]:
        """Fields that name other objects."""
        return tuple(field for field in self.fields if field.refers_to)


_KINDS: dict[type, Kind] = {}


def kind(meaning: str, of_tenant: bool | None = False) -> Callable[[type[T]], type[T]]:
    """Declares a class to be a kind."""

    def declare(model: type[T]) -> type[T]:
        _KINDS[model] = Kind(model, meaning, of_tenant)
        return model

    return declare


def kind_of(model: type) -> Kind:
    return _KINDS[model]
