"""Manifests: multi-document YAML -> `Intent` -> `Policy`, or every problem of the file set at once.

The YAML is composed, not constructed: nodes keep their lines, YAML 1.1 can't turn a MAC into a base-60
number, and a duplicate key is seen. A field that can't be read is reported and taken as left out, so that
the rules of `validate` still see the rest of its object.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import yaml

from policy import allocator, notation, validate
from policy.errors import Location, ManifestError, ObjectId, Problem
from policy.model import (
    DEFAULT_UNDERLAY_MTU,
    KINDS,
    NO_MAC,
    TENANT_KINDS,
    Attach,
    AttachKind,
    Driver,
    Host,
    Intent,
    LogicalNetwork,
    NetworkSite,
    Object,
    Policy,
    Port,
    SiteSubnet,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)

API_VERSION = "isolane/v1"
MAX_MTU = 65_535
PLANNED_KINDS = frozenset(
    {"Tenant", "IPPool", "MACPool", "CustomerRoute", "ProviderRoute", "LookupRecord", "ProviderAddress"}
)

T = TypeVar("T")
Choice = TypeVar("Choice", bound=StrEnum)
Read = Callable[[yaml.Node], T]
"""A scalar node to its value; ValueError says what is wrong with it."""

_TAG = "tag:yaml.org,2002:"
_TYPE_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "null": "nothing",
    "map": "a mapping",
    "seq": "a list",
    "timestamp": "a date",
    "merge": "a merge key",
}
_TRUE = frozenset({"true", "yes", "on"})


def load(files: Iterable[Path]) -> Policy:
    """The policy that the manifests state, complete. ManifestError: all that is wrong with them."""
    intent, problems = read(files)
    problems += validate.check_intent(intent)
    if problems:
        raise ManifestError(problems)
    policy = allocator.allocate(intent)
    problems = validate.check_policy(policy)
    if problems:
        raise ManifestError(problems)
    return policy


def read(files: Iterable[Path]) -> tuple[Intent, list[Problem]]:
    """What the files state and what is wrong with their form; ManifestError: a file is no YAML."""
    documents: list[_Document] = []
    unreadable: list[Problem] = []
    for path in files:
        try:
            documents += _compose(str(path), path.read_bytes())
        except OSError as error:
            unreadable.append(Problem("", "", error.strerror or str(error), Location(str(path), 0)))
        except (yaml.YAMLError, RecursionError) as error:
            unreadable.append(_syntax_problem(str(path), error))
    decoded = [(document, _decode(document)) for document in documents]
    problems = [problem for document in documents for problem in document.problems]
    if unreadable:  # references into what could not be read would look dangling
        raise ManifestError(problems + unreadable)
    return _collect(decoded, problems), problems


def _compose(file: str, content: bytes) -> list["_Document"]:
    nodes = yaml.compose_all(content, Loader=yaml.CSafeLoader)
    return [_Document(file, node) for node in nodes if node is not None and not _is_null(node)]


def _syntax_problem(file: str, error: Exception) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        text = ", ".join(part for part in (error.context, error.problem) if part)
        return Problem("", "", f"not YAML: {text}", Location(file, error.problem_mark.line + 1))
    text = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
    return Problem("", "", f"not YAML: {text}", Location(file, 0))


def _collect(decoded: list[tuple["_Document", Object | None]], problems: list[Problem]) -> Intent:
    """The objects as an intent; adds a problem for every identity stated twice."""
    first: dict[ObjectId, _Document] = {}
    objects: list[Object] = []
    for document, item in decoded:
        if item is None:
            continue
        if item.id in first:
            text = f"already stated at {first[item.id].locate('metadata.name')}"
            problems.append(Problem(str(item.id), "metadata.name", text, document.locate("metadata.name")))
        else:
            first[item.id] = document
            objects.append(item)
    return intent_of(objects, {identity: document.lines for identity, document in first.items()})


# ---- one document --------------------------------------------------------------------------------


@dataclass
class _Document:
    """One YAML document on its way to an object: where its fields are and what is wrong with them."""

    file: str
    root: yaml.Node
    subject: str = ""
    lines: dict[str, Location] = field(default_factory=dict)
    findings: list[tuple[str, str, Location]] = field(default_factory=list)
    sections: list["_Fields"] = field(default_factory=list)

    @property
    def problems(self) -> list[Problem]:
        """Made at the end: the subject's name may stand below what is wrong."""
        return [Problem(self.subject, path, text, location) for path, text, location in self.findings]

    def location(self, node: yaml.Node) -> Location:
        return Location(self.file, node.start_mark.line + 1)

    def mark(self, path: str, node: yaml.Node) -> None:
        self.lines.setdefault(path, self.location(node))

    def locate(self, path: str) -> Location:
        return self.lines.get(path) or self.lines[""]

    def report(self, path: str, text: str, around: str | None = None) -> None:
        """A problem at `path`; located at `around` if the path itself is not there."""
        self.findings.append((path, text, self.locate(path if around is None else around)))


class _Fields:
    """A YAML mapping, read field by field. What nobody asked for by the time of `close` is unknown."""

    def __init__(self, document: _Document, node: yaml.Node | None, path: str) -> None:
        self._document = document
        self._path = path
        self._nodes: dict[str, yaml.Node] = {}
        self._asked: set[str] = set()
        document.sections.append(self)
        if isinstance(node, yaml.MappingNode):
            self._index(node)
        elif node is not None:
            document.report(path, f"expected a mapping, not {_type_name(node)}")

    def _index(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else _type_name(key)
            if name in self._nodes:
                first = self._document.locate(self.path(name)).line
                text = f"stated twice, first on line {first}"
                self._document.findings.append((self.path(name), text, self._document.location(key)))
                continue
            self._nodes[name] = value
            self._document.mark(self.path(name), key)

    def path(self, key: str) -> str:
        return ".".join(part for part in (self._path, key) if part)

    def has(self, key: str) -> bool:
        return self._get(key) is not None

    def one(self, key: str, read: Read[T], default: T, *, required: bool = False) -> T:
        """The value of a scalar field; `default` when it is left out or wrong."""
        node = self._get(key, required)
        return default if node is None else self._read(node, self.path(key), read, default)

    def items(self, key: str, read: Read[T], *, required: bool = False) -> tuple[T, ...]:
        """The values of a list of scalars; none at all when one of them is wrong."""
        broken: list[T | None] = [
            self._read(node, path, read, None) for path, node in self._elements(key, required)
        ]
        values = tuple(value for value in broken if value is not None)
        return values if len(values) == len(broken) else ()

    def section(self, key: str, *, required: bool = False) -> "_Fields":
        """The mapping of a field, an empty one when it is left out or wrong."""
        return _Fields(self._document, self._get(key, required), self.path(key))

    def sections(self, key: str) -> list["_Fields"]:
        return [_Fields(self._document, node, path) for path, node in self._elements(key, required=True)]

    def report(self, key: str, text: str) -> None:
        path = self.path(key)
        self._document.report(path, text, path if path in self._document.lines else self._nearest())

    def close(self) -> None:
        for name in self._nodes.keys() - self._asked:
            near = difflib.get_close_matches(name, sorted(self._asked), n=1)
            self.report(name, f"unknown field; did you mean {near[0]}?" if near else "unknown field")

    def _nearest(self) -> str:
        return self._path if self._path in self._document.lines else ""

    def _get(self, key: str, required: bool = False) -> yaml.Node | None:
        self._asked.add(key)
        node = self._nodes.get(key)
        if node is not None and not _is_null(node):
            return node
        if required:
            self.report(key, "missing")
        return None

    def _elements(self, key: str, required: bool) -> list[tuple[str, yaml.Node]]:
        node = self._get(key, required)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.report(key, f"expected a list, not {_type_name(node)}")
            return []
        if required and not node.value:
            self.report(key, "empty")
        elements = [(f"{self.path(key)}[{index}]", element) for index, element in enumerate(node.value)]
        for path, element in elements:
            self._document.mark(path, element)
        return elements

    def _read(self, node: yaml.Node, path: str, read: Read[T], default: T) -> T:
        try:
            return read(node)
        except ValueError as error:
            self._document.report(path, str(error))
            return default


# ---- scalars -------------------------------------------------------------------------------------


def _is_null(node: yaml.Node) -> bool:
    return node.tag == _TAG + "null"


def _type_name(node: yaml.Node) -> str:
    short = node.tag.removeprefix(_TAG)
    return _TYPE_NAMES.get(short, f"a {node.tag}")


def _text(node: yaml.Node) -> str:
    """A string. YAML 1.1 takes a MAC such as 10:20:30:40:50:60 for a base-60 number: the text counts."""
    base_60 = (
        isinstance(node, yaml.ScalarNode) and ":" in node.value and node.tag in {_TAG + "int", _TAG + "float"}
    )
    if isinstance(node, yaml.ScalarNode) and (node.tag == _TAG + "str" or base_60):
        return str(node.value)
    hint = f'; quote it: "{node.value}"' if isinstance(node, yaml.ScalarNode) else ""
    raise ValueError(f"expected a string, not {_type_name(node)}{hint}")


def _integer(node: yaml.Node) -> int:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "int" or ":" in node.value:
        raise ValueError(f"expected an integer, not {_type_name(node)}")
    return int(yaml.constructor.SafeConstructor().construct_yaml_int(node))


def _boolean(node: yaml.Node) -> bool:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "bool":
        raise ValueError(f"expected true or false, not {_type_name(node)}")
    return node.value.lower() in _TRUE


def _from_text(parse: Callable[[str], T]) -> Read[T]:
    return lambda node: parse(_text(node))


def _one_of(choices: type[Choice]) -> Read[Choice]:
    def read(node: yaml.Node) -> Choice:
        text = _text(node)
        if text not in set(choices):
            raise ValueError(f"{text!r} is none of: {', '.join(choices)}")
        return choices(text)

    return read


def _mtu(node: yaml.Node) -> int:
    mtu = _integer(node)
    if not 0 < mtu <= MAX_MTU:
        raise ValueError(f"{mtu} is not an MTU: 1..{MAX_MTU}")
    return mtu


_name = _from_text(notation.parse_name)
_interface = _from_text(notation.parse_interface)
_address = _from_text(notation.parse_address)
_prefix = _from_text(notation.parse_prefix)
_source = _from_text(notation.parse_source)
_range = _from_text(notation.parse_range)
_mac = _from_text(notation.parse_mac)


def _vsid(node: yaml.Node) -> int:
    return notation.check_vsid(_integer(node))


# ---- kinds ---------------------------------------------------------------------------------------


def _logical_network(_tenant: str, name: str, _spec: _Fields) -> LogicalNetwork:
    return LogicalNetwork(name)


def _network_site(_tenant: str, name: str, spec: _Fields) -> NetworkSite:
    stated = spec.sections("subnets")
    subnets = [
        SiteSubnet(
            prefix=prefix,
            pa_pool=subnet.one("paPool", _range, None),
            gateway=subnet.one("gateway", _address, None),
            gateway_mac=subnet.one("gatewayMac", _mac, NO_MAC),
        )
        for subnet in stated
        if (prefix := subnet.one("prefix", _prefix, None, required=True)) is not None
    ]
    if len(subnets) < len(stated):
        subnets = []
    return NetworkSite(name, spec.one("logicalNetwork", _name, "", required=True), tuple(subnets))


def _host(_tenant: str, name: str, spec: _Fields) -> Host:
    managed = spec.one("managed", _boolean, True)
    underlay = spec.section("underlay", required=managed)
    return Host(
        name=name,
        site=spec.one("site", _name, "", required=True),
        provider_addresses=spec.items("providerAddresses", _address),
        underlay=Underlay(
            interface=underlay.one("interface", _interface, "", required=managed and spec.has("underlay")),
            mac=underlay.one("mac", _mac, NO_MAC),
            mtu=underlay.one("mtu", _mtu, DEFAULT_UNDERLAY_MTU),
            driver=underlay.one("driver", _one_of(Driver), Driver.AUTO),
        ),
        managed=managed,
    )


def _vm_network(tenant: str, name: str, spec: _Fields) -> VMNetwork:
    return VMNetwork(tenant, name, spec.one("logicalNetwork", _name, "", required=True))


def _vm_subnet(tenant: str, name: str, spec: _Fields) -> VMSubnet:
    return VMSubnet(
        tenant=tenant,
        name=name,
        vm_network=spec.one("vmNetwork", _name, "", required=True),
        prefixes=spec.items("prefixes", _prefix, required=True),
        gateways=spec.items("gateways", _address),
        vsid=spec.one("vsid", _vsid, 0),
        translation=spec.one("translation", _one_of(Translation), Translation.NVGRE),
    )


def _port(tenant: str, name: str, spec: _Fields) -> Port:
    return Port(
        tenant=tenant,
        name=name,
        vm_subnet=spec.one("vmSubnet", _name, "", required=True),
        host=spec.one("host", _name, "", required=True),
        addresses=spec.items("addresses", _address),
        mac=spec.one("mac", _mac, NO_MAC),
        provider_addresses=spec.items("providerAddresses", _address),
        allowed_sources=spec.items("allowedSources", _source),
        attach=_attach(spec.section("attach")) if spec.has("attach") else None,
    )


def _attach(attach: _Fields) -> Attach | None:
    devices = {kind: attach.one(kind, _interface, "") for kind in AttachKind}
    netns = attach.one("netns", _name, "")
    stated = [kind for kind in AttachKind if attach.has(kind)]
    if len(stated) != 1:
        attach.report("", f"expected one of {', '.join(AttachKind)}, not {' and '.join(stated) or 'none'}")
        return None
    kind = stated[0]
    if kind is AttachKind.VETH and not attach.has("netns"):
        attach.report("netns", "missing: a veth needs a network namespace for its other end")
    if kind is AttachKind.DEVICE and attach.has("netns"):
        attach.report("netns", "a device that exists is looked for in the host's own namespace")
    return Attach(kind, devices[kind], netns) if devices[kind] else None


_DECODERS: dict[str, Callable[[str, str, _Fields], Object]] = {
    "LogicalNetwork": _logical_network,
    "NetworkSite": _network_site,
    "Host": _host,
    "VMNetwork": _vm_network,
    "VMSubnet": _vm_subnet,
    "Port": _port,
}
assert list(_DECODERS) == [kind.__name__ for kind in KINDS]


def _decode(document: _Document) -> Object | None:
    """The object of a document, None if it has no identity; what is wrong goes to the document's problems."""
    document.mark("", document.root)
    root = _Fields(document, document.root, "")
    if not isinstance(document.root, yaml.MappingNode):
        return None
    kind = root.one("kind", _from_text(_kind), "", required=True)
    if not kind:
        return None
    document.subject = kind
    root.one("apiVersion", _from_text(_api_version), API_VERSION)
    metadata = root.section("metadata", required=True)
    name = metadata.one("name", _name, "", required=root.has("metadata"))
    of_tenant = kind in TENANT_KINDS
    tenant = metadata.one("tenant", _name, "", required=of_tenant and root.has("metadata"))
    if not of_tenant and metadata.has("tenant"):
        metadata.report("tenant", f"a {kind} belongs to no tenant")
    document.subject = str(ObjectId(kind, tenant if of_tenant else "", name)) if name else kind
    item = _DECODERS[kind](tenant, name, root.section("spec", required=kind != "LogicalNetwork"))
    for section in document.sections:
        section.close()
    return item if name and (tenant or not of_tenant) else None


def _kind(text: str) -> str:
    if text in _DECODERS:
        return text
    what = "is not supported yet" if text in PLANNED_KINDS else "is not a kind"
    raise ValueError(f"{text!r} {what}; supported: {', '.join(_DECODERS)}")


def _api_version(text: str) -> str:
    if text != API_VERSION:
        raise ValueError(f"{text!r} is not {API_VERSION}")
    return text
