"""What kinds and fields mean, in words: `isolane explain` and docs/manifests.md."""

from collections.abc import Iterator

from policy.errors import UnknownFieldError
from policy.kinds.declare import Field, Kind, Section
from policy.kinds.manifest import MOST_BYTES
from policy.kinds.model import KINDS
from policy.kinds.words import cut, did_you_mean, quoted


def find(path: str) -> tuple[Kind, Field | None]:
    """`Port.attach.tap`: its kind and field; the kind in any case. UnknownFieldError: no such thing."""
    name, *rest = path.split(".")
    kind = next((kind for kind in KINDS.values() if kind.name.lower() == name.lower()), None)
    if kind is None:
        hint = did_you_mean(name, KINDS, f"; kinds: {', '.join(KINDS)}")
        raise UnknownFieldError(f"{quoted(name)} is not a kind{hint}")
    rest = rest[rest[:1] == ["spec"] :]
    field: Field | None = None
    fields = kind.fields
    for part in rest:
        field = next((field for field in fields if field.name == part), None)
        if field is None:
            known = [field.name for field in fields]
            hint = did_you_mean(part, known, f"; fields there: {', '.join(known) or 'none'}")
            raise UnknownFieldError(f"{cut(path)}: no field {quoted(part)}{hint}")
        fields = field.type.fields if isinstance(field.type, Section) else ()
    return kind, field


def fields_of(path: str) -> tuple[Field, ...]:
    """The fields in a kind or section; none in a scalar. UnknownFieldError: no such thing."""
    kind, field = find(path)
    if field is None:
        return kind.fields
    return field.type.fields if isinstance(field.type, Section) else ()


_TENANT_WORDS = {True: "tenant, ", False: "", None: "tenant (of a tenant's), "}


def explanation(path: str) -> Iterator[str]:
    """What a kind or a field means, line by line, and what fields are in it. UnknownFieldError: none such."""
    kind, field = find(path)
    if field is None:
        yield f"{kind.name}: {kind.meaning}"
        yield f"metadata: name, {_TENANT_WORDS[kind.of_tenant]}labels"
    else:
        yield f"{path} ({field.type_name}{', required' if field.required else ''}): {field.meaning}"
        if field.left_out:
            yield f"left out: {field.left_out}"
        if field.example:
            yield f"example: {field.name}: {field.example}"
    for each in fields_of(path):
        yield ""
        yield f"  {each.name} ({each.type_name}{', required' if each.required else ''})"
        yield f"    {each.meaning}"
        if each.left_out:
            yield f"    left out: {each.left_out}"


def reference() -> Iterator[str]:
    """All kinds and fields in Markdown, line by line: docs/manifests.md."""
    yield "# Manifests"
    yield ""
    yield "Made by `isolane explain -o markdown`. Every document has `apiVersion: isolane/v1` (may be left"
    yield "out), `kind`, `metadata: {name, tenant, labels}` and `spec`. (kind, tenant, name) is unique,"
    yield "nothing more. *Left out* says what holds when a field is not stated. What `isolane get`"
    yield "adds, `given`, `status` and `metadata.created`, is passed over. With its `metadata.revision`"
    yield "a document is an edit of that revision, refused where the object has changed since. A file"
    yield f"has at most {MOST_BYTES >> 20} MiB."
    for kind in KINDS.values():
        yield from ("", f"## {kind.name}", "", kind.meaning)
        owner = {True: "Of a tenant.", False: "Of the fabric.", None: "Of the fabric, or of a tenant."}
        yield from ("", owner[kind.of_tenant])
        if kind.fields:
            yield from (
                "",
                "| field | type | meaning | left out | example |",
                "| --- | --- | --- | --- | --- |",
            )
            yield from _reference_rows("", kind.fields)


def _reference_rows(path: str, fields: tuple[Field, ...]) -> Iterator[str]:
    for field in fields:
        name = f"{path}{field.name}"
        left_out = field.left_out or "an error"
        if field.required and field.left_out:
            left_out = f"an error; {field.left_out}"
        cells = [
            f"`{name}`",
            field.type_name,
            field.meaning,
            left_out,
            f"`{field.example}`" if field.example else "",
        ]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        if isinstance(field.type, Section):
            yield from _reference_rows(f"{name}{'[]' if field.many else ''}.", field.type.fields)
