"""Manifests: multi-document YAML -> `Intent` -> `Policy`, or every problem of the file set at once.

A field that can't be read is reported and taken as left out, so that the rules of `validate` still see the
rest of its object.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

from policy import allocator, notation, validate
from policy.errors import Location, ManifestError, ObjectId, Problem
from policy.fields import Document, Fields, boolean, compose, from_text, integer, one_of, syntax_problem
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
    documents: list[Document] = []
    unreadable: list[Problem] = []
    for path in files:
        try:
            content = path.read_bytes()
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


def _mtu(node: yaml.Node) -> int:
    mtu = integer(node)
    if not 0 < mtu <= MAX_MTU:
        raise ValueError(f"{mtu} is not an MTU: 1..{MAX_MTU}")
    return mtu


_name = from_text(notation.parse_name)
_interface = from_text(notation.parse_interface)
_address = from_text(notation.parse_address)
_prefix = from_text(notation.parse_prefix)
_source = from_text(notation.parse_source)
_range = from_text(notation.parse_range)
_mac = from_text(notation.parse_mac)


def _vsid(node: yaml.Node) -> int:
    return notation.check_vsid(integer(node))


# ---- kinds ---------------------------------------------------------------------------------------


def _logical_network(_tenant: str, name: str, _spec: Fields) -> LogicalNetwork:
    return LogicalNetwork(name)


def _network_site(_tenant: str, name: str, spec: Fields) -> NetworkSite:
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


def _host(_tenant: str, name: str, spec: Fields) -> Host | None:
    managed = spec.one("managed", boolean, True)
    required = managed and not spec.wrong("managed")
    underlay = spec.section("underlay", required=required)
    host = Host(
        name=name,
        site=spec.one("site", _name, "", required=True),
        provider_addresses=spec.items("providerAddresses", _address),
        underlay=Underlay(
            interface=underlay.one("interface", _interface, "", required=required),
            mac=underlay.one("mac", _mac, NO_MAC),
            mtu=underlay.one("mtu", _mtu, DEFAULT_UNDERLAY_MTU),
            driver=underlay.one("driver", one_of(Driver), Driver.AUTO),
        ),
        managed=managed,
    )
    return None if spec.wrong("managed") else host  # other rules hold for an unmanaged one


def _vm_network(tenant: str, name: str, spec: Fields) -> VMNetwork:
    return VMNetwork(tenant, name, spec.one("logicalNetwork", _name, "", required=True))


def _vm_subnet(tenant: str, name: str, spec: Fields) -> VMSubnet | None:
    subnet = VMSubnet(
        tenant=tenant,
        name=name,
        vm_network=spec.one("vmNetwork", _name, "", required=True),
        prefixes=spec.items("prefixes", _prefix, required=True),
        gateways=spec.items("gateways", _address),
        vsid=spec.one("vsid", _vsid, 0),
        translation=spec.one("translation", one_of(Translation), Translation.NVGRE),
    )
    return None if spec.wrong("translation") else subnet  # other rules hold for its ports


def _port(tenant: str, name: str, spec: Fields) -> Port:
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


def _attach(attach: Fields) -> Attach | None:
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


_DECODERS: dict[str, Callable[[str, str, Fields], Object | None]] = {
    "LogicalNetwork": _logical_network,
    "NetworkSite": _network_site,
    "Host": _host,
    "VMNetwork": _vm_network,
    "VMSubnet": _vm_subnet,
    "Port": _port,
}
assert list(_DECODERS) == [kind.__name__ for kind in KINDS]


def _decode(document: Document) -> tuple[ObjectId | None, Object | None]:
    """What a document is called and what it states, as far as both can be read."""
    document.mark("", document.root)
    root = Fields(document, document.root, "")
    kind = root.one("kind", from_text(_kind), "", required=True)
    if not kind:
        return None, None
    identity = _identity(document, root, kind)
    spec = root.section("spec", required=kind != "LogicalNetwork")
    item = _DECODERS[kind](identity.tenant, identity.name, spec)
    for section in document.sections:
        section.close()
    named = identity.name and (identity.tenant or kind not in TENANT_KINDS)
    return (identity, item) if named else (None, None)


def _identity(document: Document, root: Fields, kind: str) -> ObjectId:
    """Kind, tenant and name, "" where they are wrong; from here on problems of the document begin with it."""
    document.subject = kind
    root.one("apiVersion", from_text(_api_version), API_VERSION)
    metadata = root.section("metadata", required=True)
    name = metadata.one("name", _name, "", required=True)
    of_tenant = kind in TENANT_KINDS
    tenant = metadata.one("tenant", _name, "", required=of_tenant)
    if not of_tenant and metadata.has("tenant"):
        metadata.report("tenant", f"a {kind} belongs to no tenant")
    identity = ObjectId(kind, tenant if of_tenant else "", name)
    document.subject = str(identity) if name else kind
    return identity


def _kind(text: str) -> str:
    if text in _DECODERS:
        return text
    what = "is not supported yet" if text in PLANNED_KINDS else "is not a kind"
    raise ValueError(f"{text!r} {what}; supported: {', '.join(_DECODERS)}")


def _api_version(text: str) -> str:
    if text != API_VERSION:
        raise ValueError(f"{text!r} is not {API_VERSION}")
    return text
