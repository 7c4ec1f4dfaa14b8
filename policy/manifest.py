"""Manifests: multi-document YAML -> `Intent` -> `Policy`, or every problem of the file set at once.

A field that can't be read is reported and taken as left out, so that the rules of `validate` still see the
rest of its object.
"""

import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from policy import allocator, notation, schema, validate
from policy.errors import Location, ManifestError, ObjectId, Problem
from policy.fields import Document, Fields, compose, from_text, syntax_problem
from policy.model import Intent, Labels, Object, Policy, intent_of
from policy.schema import API_VERSION, KINDS, NAME

STDIN = Path("-")
"""Stands for standard input among files."""


def load(files: Iterable[Path]) -> Policy:
    """The policy that the manifests state, complete. ManifestError: all that is wrong with them."""
    return resolve(*read(files))


def resolve(intent: Intent, problems: Sequence[Problem]) -> Policy:
    """What read() has returned, as a policy. ManifestError."""
    problems = [*problems, *validate.check_intent(intent)]
    if problems:
        raise ManifestError(problems)
    policy = allocator.allocate(intent)
    problems = validate.check_policy(policy)
    if problems:
        raise ManifestError(problems)
    return policy


def read(files: Iterable[Path]) -> tuple[Intent, list[Problem]]:
    """What the files state and what is wrong with their form; ManifestError: a file is no YAML."""
    documents: list[Document] = []
    unreadable: list[Problem] = []
    for path in files:
        try:
            content = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
        except OSError as error:
            unreadable.append(Problem("", "", error.strerror or str(error), Location(str(path), 0)))
            continue
        try:
            documents += compose(str(path), content)
        except yaml.YAMLError as error:
            unreadable.append(syntax_problem(str(path), content, error))
    objects = [(document, *_decode(document)) for document in documents]
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
    return intent_of(items, {identity: document.lines for identity, document in first.items()}), problems


def _decode(document: Document) -> tuple[ObjectId | None, Object | None]:
    """What a document is called and what it states, as far as both can be read."""
    document.mark("", document.root)
    root = Fields(document, document.root, "")
    root.pass_over(*schema.ADDED)
    kind = root.one("kind", from_text(_kind), "", required=True)
    if not kind:
        return None, None
    identity, labels = _identity(document, root, kind)
    spec = root.section("spec", required=any(field.required for field in KINDS[kind].fields))
    item = schema.read(KINDS[kind], identity.tenant, identity.name, labels, spec)
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
    labels = metadata.pairs("labels", from_text(notation.parse_label), notation.parse_label_key)
    identity = ObjectId(kind, "" if of_tenant is False else tenant, name)
    document.subject = str(identity) if name else kind
    return identity, labels


def _kind(text: str) -> str:
    if text in KINDS:
        return text
    by_lower = {kind.lower(): kind for kind in KINDS}
    near = difflib.get_close_matches(text.lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[near[0]]}?" if near else f"supported: {', '.join(KINDS)}"
    raise ValueError(f"{text!r} is not a kind; {hint}")


def _api_version(text: str) -> str:
    if text != API_VERSION:
        raise ValueError(f"{text!r} is not {API_VERSION}")
    return text
