"""Manifests: multi-document YAML -> `Intent`, and every problem of the file set at once.

A field that can't be read is reported and taken as left out, so that the rules still see the
rest of its object.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import yaml

from policy.errors import Location, ManifestError, ObjectId, Problem
from policy.kinds import codec, scalars
from policy.kinds.model import KINDS, Intent, Labels, Object, intent_of
from policy.kinds.scalars import NAME, REVISION
from policy.kinds.steps import counted
from policy.kinds.words import did_you_mean, quoted
from policy.kinds.yaml_reader import Document, Fields, compose, from_text, syntax_problem

API_VERSION = "isolane/v1"
ADDED = ("given", "status")
"""What documents have beside the manifest where they are printed, and may have where they are read."""
ADDED_METADATA = ("created",)
"""The same within `metadata`, besides `revision`, which says what the document was an edit of."""

MOST_BYTES = 256 << 20
"""Of a file: a million ports and more."""

STDIN = Path("-")
"""Stands for standard input among files."""


class Stated(NamedTuple):
    """What manifests state, and what is wrong with their form.

    expected: by object, the revision that its document was got at: whoever has changed the object since did
    not know of this document, nor this one of that change.
    """

    intent: Intent
    problems: Sequence[Problem] = ()
    expected: Mapping[ObjectId, int] = MappingProxyType({})


def read(files: Iterable[Path]) -> Stated:
    """What the files state; ManifestError: a file can't be read, or is no YAML."""
    contents: list[tuple[str, bytes]] = []
    unreadable: list[Problem] = []
    for path in files:
        try:
            content = _content(path)
        except OSError as error:
            unreadable.append(Problem("", "", error.strerror or str(error), Location(str(path), 0)))
        except _TooLargeError as error:
            unreadable.append(Problem("", "", str(error), Location(str(path), 0)))
        else:
            contents.append((str(path), content))
    return decode(contents, unreadable)


class _TooLargeError(Exception):
    pass


def _content(path: Path) -> bytes:
    """OSError, _TooLargeError: it may be a device, which never ends."""
    with nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise _TooLargeError(f"larger than {MOST_BYTES >> 20} MiB, the most that a manifest may be")
    return content


def decode(contents: Iterable[tuple[str, bytes]], unreadable: Iterable[Problem] = ()) -> Stated:
    """What these state, each with the name that problems in it are told by. ManifestError: one is no YAML.

    unreadable: of others that belong to them.
    """
    documents: list[Document] = []
    unreadable = list(unreadable)
    for name, content in contents:
        try:
            documents += compose(name, content)
        except yaml.YAMLError as error:
            unreadable.append(syntax_problem(name, content, error))
    objects = [(document, *_decode(document)) for document in counted(documents, "reading objects")]
    problems = [problem for document in documents for problem in document.problems]
    if unreadable:  # references into what could not be read would look dangling
        raise ManifestError(problems + unreadable)
    first: dict[ObjectId, Document] = {}
    for document, identity, _ in objects:
        if identity and first.setdefault(identity, document) is not document:
            text = f"already stated at {first[identity].locate('metadata.name')}"
            problems.append(Problem(str(identity), "metadata.name", text, document.locate("metadata.name")))
    items = [
        item for document, identity, item in objects if item and identity and first[identity] is document
    ]
    intent = intent_of(items, {identity: document.lines for identity, document in first.items()})
    expected = {key: document.revision for key, document in first.items() if document.revision is not None}
    return Stated(intent, problems, expected)


def _decode(document: Document) -> tuple[ObjectId | None, Object | None]:
    """What a document is called and what it states, as far as both can be read."""
    document.mark("", document.root)
    root = Fields(document, document.root, "")
    root.pass_over(*ADDED)
    kind = root.one("kind", from_text(_kind), "", required=True)
    if not kind:
        root.pass_over("apiVersion", "metadata", "spec")
        root.close()
        return None, None
    identity, labels = _identity(document, root, kind)
    spec = root.section("spec", required=any(field.required for field in KINDS[kind].fields))
    item = codec.read(KINDS[kind], identity.tenant, identity.name, labels, spec)
    for section in document.sections:
        section.close()
    named = identity.name and (identity.tenant or not KINDS[kind].of_tenant)
    return (identity, item) if named else (None, None)


def _identity(document: Document, root: Fields, kind: str) -> tuple[ObjectId, Labels]:
    """Kind, tenant and name, "" where they are wrong, and labels; from here on the document's problems begin
    with the first.
    """
    document.subject = kind
    root.one("apiVersion", from_text(_api_version), API_VERSION)
    metadata = root.section("metadata", required=True)
    name = metadata.one("name", NAME.read, "", required=True)
    of_tenant = KINDS[kind].of_tenant
    tenant = metadata.one("tenant", NAME.read, "", required=of_tenant is True)
    if of_tenant is False and metadata.has("tenant"):
        metadata.report("tenant", f"a {kind} belongs to no tenant")
    labels = metadata.pairs("labels", from_text(scalars.parse_label), scalars.parse_label_key)
    metadata.pass_over(*ADDED_METADATA)
    document.revision = metadata.one("revision", REVISION.read, None)
    identity = ObjectId(kind, "" if of_tenant is False else tenant, name)
    document.subject = str(identity) if name else kind
    return identity, labels


def _kind(text: str) -> str:
    if text in KINDS:
        return text
    hint = did_you_mean(text, KINDS, f"; supported: {', '.join(KINDS)}")
    raise ValueError(f"{quoted(text)} is not a kind{hint}")


def _api_version(text: str) -> str:
    if text != API_VERSION:
        raise ValueError(f"{quoted(text)} is not {API_VERSION}")
    return text
