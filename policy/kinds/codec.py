"""Between objects and what is written of them: specs of manifests and of stored documents. All by what the
classes declare.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from policy.errors import ObjectId
from policy.kinds.declare import Field, Kind, Section, Values
from policy.kinds.model import KINDS, Labels, Object
from policy.kinds.scalars import Scalar
from policy.kinds.yaml_reader import Fields

Plain = Any
"""What JSON can say."""


def references(item: Object) -> Iterator[tuple[str, ObjectId]]:
    """The fields of an object that name others, and whom. An empty name: left out, or could not be read."""
    for path, kind, owner, attribute in _references(type(item).__name__):
        yield path, ObjectId(kind, getattr(item, owner) if owner else "", getattr(item, attribute))


@cache
def _references(kind: str) -> tuple[tuple[str, str, str, str], ...]:
    """Path and kind of what is named, the attribute that has its tenant, that which has its name."""
    return tuple(
        (
            f"spec.{field.name}",
            field.refers_to,
            "" if KINDS[field.refers_to].of_tenant is False else "tenant",
            field.attribute,
        )
        for field in KINDS[kind].references
    )


def referring(kind: str) -> Iterator[tuple[Kind, Field]]:
    """What may name an object of a kind: kinds, and the fields by which."""
    for each in KINDS.values():
        for field in each.references:
            if field.refers_to == kind:
                yield each, field


def read(kind: Kind, tenant: str, name: str, labels: Labels, spec: Fields) -> Object | None:
    """The object that a YAML spec states; what is wrong is reported there. None: nothing is known of it."""
    values = _read_fields(kind.fields, spec, True)
    if any(field.decisive and spec.wrong(field.name) for field in kind.fields):
        return None
    return _make(kind, tenant, name, labels, values)


def parse(kind: Kind, tenant: str, name: str, labels: Labels, spec: Mapping[str, Plain]) -> Object:
    """The inverse of `write`; fields that are not known are passed over. ValueError with the field's path:
    not what `write` makes.
    """
    for field in kind.fields:
        if field.required and not field.condition and field.name not in spec:
            raise ValueError(f"spec.{field.name}: missing")
    return _make(kind, tenant, name, labels, _parse_fields(kind.spec, spec, "spec"))


def write(item: Object) -> dict[str, Plain]:
    """The spec of an object, without what says the same when left out."""
    return _write_fields(KINDS[item.id.kind].fields, item)


def write_all(item: Object) -> dict[str, Plain]:
    """The spec of an object with every field: what holds when it is left out, None where that is nothing."""
    fields = KINDS[item.id.kind].fields
    return {field.name: None for field in fields} | _write_fields(fields, item, whole=True)


def _make(kind: Kind, tenant: str, name: str, labels: Labels, values: Values) -> Object:
    whose: Values = {} if kind.of_tenant is False else {"tenant": tenant}
    made: Object = kind.model(name=name, labels=labels, **whose, **values)
    return made


# ---- reading ----------------------------------------------------------------------------------------------


def _read_fields(declared: tuple[Field, ...], fields: Fields, in_force: bool) -> Values:
    """in_force: whether what is required has to be there."""
    values: Values = {}
    by_name = {field.name: field for field in declared}
    for field in sorted(declared, key=lambda field: bool(field.condition)):
        required = in_force and field.required
        if required and field.condition:
            required = values[by_name[field.condition].attribute] and not fields.wrong(field.condition)
        values[field.attribute] = _read_field(field, fields, required)
    return values


def _read_field(field: Field, fields: Fields, required: bool) -> Any:
    if isinstance(field.type, Scalar):
        if field.many:
            return fields.items(field.name, field.type.read, required=required)
        return fields.one(field.name, field.type.read, field.default, required=required)
    if field.many:
        built = [_read_section(field.type, part, True) for part in fields.sections(field.name)]
        return () if None in built else tuple(built)
    if required or fields.has(field.name):
        return _read_section(field.type, fields.section(field.name, required=required), required)
    return field.default


def _read_section(section: Section, fields: Fields, in_force: bool) -> Any:
    return section.build(_read_fields(section.fields, fields, in_force), fields)


# ---- stored documents -------------------------------------------------------------------------------------


def _parse_fields(section: Section, spec: Mapping[str, Plain], path: str) -> Values:
    values = section.defaults.copy()
    known = section.by_name
    for name, plain in spec.items():
        field = known.get(name)
        if field is not None:
            values[field.attribute] = _parse_field(field, plain, path)
    return values


def _parse_field(field: Field, plain: Plain, path: str) -> Any:
    """path: of the section."""
    if isinstance(field.type, Section):
        if not field.many:
            return _parse_section(field.type, plain, f"{path}.{field.name}")
        parts = enumerate(_list(plain, f"{path}.{field.name}"))
        return tuple(_parse_section(field.type, each, f"{path}.{field.name}[{at}]") for at, each in parts)
    if not field.many:
        return _parse_scalar(field.type, plain, f"{path}.{field.name}")
    try:
        return tuple(map(field.type.parse, _list(plain, f"{path}.{field.name}")))
    except (ValueError, TypeError):  # again, for which of them
        parts = enumerate(_list(plain, f"{path}.{field.name}"))
        return tuple(_parse_scalar(field.type, each, f"{path}.{field.name}[{at}]") for at, each in parts)


def _list(plain: Plain, path: str) -> list[Plain]:
    if not isinstance(plain, list):
        raise ValueError(f"{path}: no list")
    return plain


def _parse_section(section: Section, plain: Plain, path: str) -> Any:
    if not isinstance(plain, dict):
        raise ValueError(f"{path}: no object")
    return section.build(_parse_fields(section, plain, path), None)


def _parse_scalar(scalar: Scalar, plain: Plain, path: str) -> Any:
    try:
        return scalar.parse(plain)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def with_unknown(section: Section, before: Mapping[str, Plain], after: Plain) -> dict[str, Plain]:
    """A spec, and what of the one before it is not known here: fields, and sections that are nothing without
    such fields. Of a section that is gone, or of an element of a list whose first field no other has, it
    goes.
    """
    merged = dict(after)
    for name, plain in before.items():
        field = section.by_name.get(name)
        if field is None:
            merged[name] = plain
        elif isinstance(field.type, Section) and name in merged:
            merged[name] = _section_with_unknown(field, plain, merged[name])
        elif isinstance(field.type, Section) and _parse_field(field, plain, "") in (None, field.default):
            merged[name] = plain
    return merged


def _section_with_unknown(field: Field, before: Plain, after: Plain) -> Plain:
    assert isinstance(field.type, Section)
    if not field.many:
        return with_unknown(field.type, before, after)
    first = field.type.fields[0].name
    left = list(before)
    found = []
    for each in after:
        same = next((old for old in left if old.get(first) == each.get(first)), None)
        if same is not None:
            left.remove(same)
        found.append(with_unknown(field.type, same or {}, each))
    return found


# ---- writing ----------------------------------------------------------------------------------------------


def _write_fields(declared: tuple[Field, ...], item: Any, whole: bool = False) -> dict[str, Plain]:
    spec: dict[str, Plain] = {}
    for field in declared:
        value = getattr(item, field.attribute)
        if value is None or (value == field.default and (not whole or _stands_for_nothing(field))):
            continue
        spec[field.name] = (
            [_write_one(field.type, each) for each in value] if field.many else _write_one(field.type, value)
        )
    return spec


def _stands_for_nothing(field: Field) -> bool:
    """Whether nobody could state the default, such as VSID 0."""
    if field.many or isinstance(field.type, Section):
        return False
    try:
        field.type.parse(field.default)
    except (ValueError, TypeError):
        return True
    return False


def _write_one(type_: Scalar | Section, value: Any) -> Plain:
    if isinstance(type_, Scalar):
        return type_.write(value)
    return type_.write(value) if type_.write else _write_fields(type_.fields, value)
