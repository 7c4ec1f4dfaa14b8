"""Every kind and field of manifests: what it means, how it is written, what it is when left out, what it is
checked for. Decoding, encoding, `explain`, the JSON Schema and the manifest reference are made from this.

A Field names the attribute of its model object by its own name (`vmSubnet`: `vm_subnet`). It is a scalar, a
section (a mapping with fields of its own), or a list of either.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from policy import notation
from policy.fields import Fields, Read, boolean, from_text, integer, one_of
from policy.model import (
    DEFAULT_UNDERLAY_MTU,
    MIN_BURST_BYTES,
    MIN_BURST_PACKETS,
    NO_MAC,
    Attach,
    AttachKind,
    CustomerRoute,
    Driver,
    Host,
    IPPool,
    Labels,
    LogicalNetwork,
    LookupRecord,
    MACPool,
    NetworkSite,
    Object,
    Port,
    ProviderAddress,
    ProviderRoute,
    RateLimit,
    RecordType,
    SiteSubnet,
    Tenant,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
)

API_VERSION = "isolane/v1"
ADDED = ("allocated", "revision")
"""What documents have beside the manifest where they are printed, and may have where they are read."""

MAX_MTU = 65_535

Plain = Any
"""What JSON can say."""


class Scalar(NamedTuple):
    """read: from YAML; parse: from JSON; write: to JSON. The first two raise ValueError with the reason."""

    name: str
    read: Read[Any]
    parse: Callable[[Any], Any]
    write: Callable[[Any], Plain]
    schema: Mapping[str, Plain]


def _text(name: str, parse: Callable[[str], Any], **schema: Plain) -> Scalar:
    return Scalar(name, from_text(parse), parse, str, {"type": "string", **schema})


def _choice(choices: type[StrEnum]) -> Scalar:
    values = [str(choice) for choice in choices]
    return Scalar(" | ".join(values), one_of(choices), choices, str, {"type": "string", "enum": values})


def _check_mtu(mtu: int) -> int:
    if not 0 < mtu <= MAX_MTU:
        raise ValueError(f"{mtu} is not an MTU: 1..{MAX_MTU}")
    return mtu


def _number(name: str, check: Callable[[int], int]) -> Scalar:
    return Scalar(name, lambda node: check(integer(node)), check, int, {"type": "integer"})


NAME = _text("name", notation.parse_name)
INTERFACE = Scalar(
    "interface",
    from_text(notation.parse_interface),
    notation.parse_stored_interface,
    str,
    {"type": "string"},
)
ADDRESS = _text("address", notation.parse_address)
RECORD_ADDRESS = _text("address", notation.parse_record_address)
PREFIX = _text("prefix", notation.parse_prefix)
SOURCE = _text("source prefix", notation.parse_source)
RANGE = _text("range", notation.parse_range)
MAC = _text("MAC", notation.parse_mac)
ROUTE_PREFIX = _text("prefix", notation.parse_route_prefix)
MAC_RANGE = _text("MAC range", notation.parse_mac_range)
RESERVED = Scalar(
    "address or range",
    from_text(notation.parse_reserved),
    notation.parse_reserved,
    notation.write_reserved,
    {"type": "string"},
)
DOMAIN = _text("domain", notation.parse_domain)
TEXT = _text("text", notation.parse_text)
METRIC = _number("metric", notation.check_metric)
PREFIX_LENGTH = _number("prefix length", notation.check_prefix_length)
VSID = _number("VSID", notation.check_vsid)
MTU = _number("MTU", _check_mtu)
PACKETS = _number("packets", notation.check_burst)
BYTES = _number("bytes", notation.check_burst)
BYTE_RATE = _number("bytes", notation.check_byte_rate)
BOOLEAN = Scalar("boolean", boolean, bool, bool, {"type": "boolean"})


@dataclass(frozen=True)
class Field:
    """meaning: a sentence; when_left_out: what holds then; example: as in YAML.

    required: it must be stated. condition: a boolean field beside it, without which it need not be.
    decisive: other rules hold for other values, so that of an object in which it is wrong nothing is known.
    """

    name: str
    type: "Scalar | Section"
    meaning: str
    example: str
    default: Any = None
    when_left_out: str = ""
    many: bool = False
    required: bool = False
    condition: str = ""
    decisive: bool = False

    @cached_property
    def attribute(self) -> str:
        return re.sub(r"(?<!^)([A-Z])", r"_\1", self.name).lower()

    @property
    def type_name(self) -> str:
        name = self.type.name if isinstance(self.type, Scalar) else "section"
        return f"list of {name}" if self.many else name


Values = dict[str, Any]
"""Attribute -> value."""


@dataclass(frozen=True)
class Section:
    """A mapping inside a spec. build: its object from what was read, None if it can't be used; write: the
    inverse, where that is not one attribute a field.
    """

    fields: tuple[Field, ...]
    build: Callable[[Values, Fields | None], Any]
    write: Callable[[Any], dict[str, Plain]] | None = None


@dataclass(frozen=True)
class Kind:
    """model: made with `name`, with `tenant` if of_tenant, and with every field's attribute."""

    model: type[Object]
    meaning: str
    fields: tuple[Field, ...] = ()
    of_tenant: bool | None = False
    """None: it may be of a tenant, and has `tenant` all the same."""

    @property
    def name(self) -> str:
        return self.model.__name__


# ---- sections ----------------------------------------------------------------------------------------------


def _site_subnet(values: Values, _fields: Fields | None) -> SiteSubnet | None:
    return SiteSubnet(**values) if values["prefix"] is not None else None


def _underlay(values: Values, _fields: Fields | None) -> Underlay:
    return Underlay(**values)


def _attach(values: Values, fields: Fields | None) -> Attach | None:
    """One of three; fields: where to report what is wrong, None if that has been done before."""
    stated = [kind for kind in AttachKind if fields is not None and fields.has(kind)]
    if fields is not None and len(stated) != 1:
        fields.report("", f"expected one of {', '.join(AttachKind)}, not {' and '.join(stated) or 'none'}")
        return None
    device = next(((kind, values[kind]) for kind in AttachKind if values[kind]), None)
    attach = Attach(*device, values["netns"]) if device else None
    if fields is not None and attach is not None and attach.netns_fault and not fields.wrong("netns"):
        fields.report("netns", attach.netns_fault)
    return attach


def _write_attach(attach: Attach) -> dict[str, Plain]:
    return {str(attach.kind): attach.device, **({"netns": attach.netns} if attach.netns else {})}


def _rate_limit(values: Values, fields: Fields | None) -> RateLimit:
    limit = RateLimit(**{name: value or 0 for name, value in values.items()})
    if fields is None:
        return limit
    rates = ("packetsPerSecond", "bytesPerSecond")
    if not any(map(fields.has, rates)):
        fields.report("", f"expected {' or '.join(rates)}, or both")
    for rate, burst in zip(rates, ("burstPackets", "burstBytes"), strict=True):
        if fields.has(burst) and not fields.has(rate):
            fields.report(burst, f"means nothing without {rate}")
    return limit


SITE_SUBNET = Section(
    (
        Field(
            "prefix",
            PREFIX,
            "A subnet of the provider network at this place.",
            "192.168.77.0/24",
            required=True,
        ),
        Field(
            "paPool",
            RANGE,
            "Provider addresses that may be given to hosts and, under rewrite, to customer addresses.",
            "192.168.77.100-192.168.77.250",
            when_left_out="every provider address of the subnet has to be stated",
        ),
        Field(
            "gateway",
            ADDRESS,
            "The router by which hosts here reach other sites; one a family.",
            "192.168.77.1",
            when_left_out="hosts here reach provider addresses of this site only",
        ),
        Field(
            "gatewayMac",
            MAC,
            "The gateway's MAC, for `isolane replay`; live hosts ask for it.",
            '"02:00:00:00:77:fe"',
            NO_MAC,
            "it is asked for",
        ),
    ),
    _site_subnet,
)

UNDERLAY = Section(
    (
        Field(
            "interface",
            INTERFACE,
            "The provider-facing device of the host.",
            "eth1",
            "",
            "of an unmanaged host: not needed",
            required=True,
        ),
        Field(
            "mac",
            MAC,
            "The device's own MAC, which all provider addresses of the host share; the device must have it.",
            '"02:00:00:00:77:01"',
            NO_MAC,
            "whichever the device has",
        ),
        Field(
            "mtu",
            MTU,
            "The largest IP packet that the provider network carries, in bytes.",
            "1600",
            DEFAULT_UNDERLAY_MTU,
            f"{DEFAULT_UNDERLAY_MTU}",
        ),
        Field("driver", _choice(Driver), "How the device is opened.", "auto", Driver.AUTO, "auto"),
    ),
    _underlay,
)

ATTACH = Section(
    (
        Field(
            "tap",
            INTERFACE,
            "A TAP to make in netns, whose kernel is the VM: for containers and tests, not for a hypervisor.",
            "eth0",
            "",
            "the port is no TAP",
        ),
        Field(
            "veth",
            INTERFACE,
            "A veth to make: the name of the end in netns, whose kernel is the VM; for containers.",
            "eth0",
            "",
            "the port is no veth",
        ),
        Field(
            "device",
            INTERFACE,
            "A device of the host that others make and that leads to a VM, such as a hypervisor's TAP. "
            "It may come and go.",
            "vnet7",
            "",
            "no such device is used",
        ),
        Field(
            "netns",
            NAME,
            "The network namespace of the VM, where the TAP or the veth's end is put.",
            "blue-web",
            "",
            "of a device: the host's own; tap and veth need it",
        ),
    ),
    _attach,
    _write_attach,
)

RATE_LIMIT = Section(
    (
        Field("packetsPerSecond", PACKETS, "Packets a second.", "20000", 0, "as many as it likes"),
        Field(
            "bytesPerSecond",
            BYTE_RATE,
            "Bytes a second, of whole Ethernet frames without FCS.",
            "125000000",
            0,
            "as many as it likes",
        ),
        Field(
            "burstPackets",
            PACKETS,
            "Packets at once, after a time of silence.",
            "2000",
            0,
            f"those of a tenth of a second, at least {MIN_BURST_PACKETS}",
        ),
        Field(
            "burstBytes",
            BYTES,
            "Bytes at once, after a time of silence.",
            "12500000",
            0,
            f"those of a tenth of a second, at least {MIN_BURST_BYTES}",
        ),
    ),
    _rate_limit,
)

# ---- kinds -------------------------------------------------------------------------------------------------

LOGICAL_NETWORK = Field(
    "logicalNetwork", NAME, "The logical network it is part of.", "fabric", "", required=True
)

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            Tenant,
            "Whom networks belong to. Once one is stated, every tenant has to be.",
            (Field("description", TEXT, "Words for people.", "Blue Inc., contract 17", "", "none"),),
        ),
        Kind(LogicalNetwork, "A provider network that sites and VM networks are part of."),
        Kind(
            NetworkSite,
            "A place of a logical network, with the subnets that hosts there share.",
            (
                LOGICAL_NETWORK,
                Field(
                    "subnets",
                    SITE_SUBNET,
                    "Subnets of the provider network here.",
                    "",
                    (),
                    many=True,
                    required=True,
                ),
            ),
        ),
        Kind(
            Host,
            "A machine with a place in the provider network: an endpoint of NVGRE.",
            (
                Field(
                    "managed",
                    BOOLEAN,
                    "Whether isolane runs on it; else it is a foreign endpoint, such as Open vSwitch.",
                    "true",
                    True,
                    "true",
                    decisive=True,
                ),
                Field("site", NAME, "The network site it is at.", "rack1", "", required=True),
                Field(
                    "providerAddresses",
                    ADDRESS,
                    "The shared provider addresses that carry NVGRE, in subnets of its site.",
                    "[192.168.77.101]",
                    (),
                    "one of each subnet of the site that has a paPool",
                    many=True,
                ),
                Field(
                    "underlay",
                    UNDERLAY,
                    "Its provider-facing device.",
                    '{interface: eth1, mac: "02:00:00:00:77:01", mtu: 1600}',
                    Underlay(),
                    "of an unmanaged host: not known",
                    required=True,
                    condition="managed",
                ),
            ),
        ),
        Kind(
            ProviderRoute,
            "A way in the provider network besides a site's subnets and gateways.",
            (
                Field("site", NAME, "The site whose hosts have it.", "rack1", "", required=True),
                Field("prefix", ROUTE_PREFIX, "Where it leads.", "192.168.80.0/22", required=True),
                Field(
                    "nextHop", ADDRESS, "The router, in a subnet of the site.", "192.168.77.2", required=True
                ),
                Field("metric", METRIC, "Of several to one prefix the lowest counts.", "10", 0, "0"),
            ),
        ),
        Kind(
            ProviderAddress,
            "HNV's own object: one more shared provider address of a host, beside its `providerAddresses`.",
            (
                Field(
                    "providerAddress",
                    ADDRESS,
                    "The address, in a subnet of the host's site.",
                    "192.168.77.120",
                    required=True,
                ),
                Field("host", NAME, "The host that has it.", "h1", "", required=True),
                Field(
                    "prefixLength",
                    PREFIX_LENGTH,
                    "That of the site's subnet: it must be the same.",
                    "24",
                    0,
                    "that of the site's subnet",
                ),
                Field(
                    "macAddress",
                    MAC,
                    "The MAC of the host's underlay, which all its addresses share: it must be the same.",
                    '"02:00:00:00:77:01"',
                    NO_MAC,
                    "that of the host's underlay",
                ),
            ),
        ),
        Kind(
            IPPool,
            "Addresses to be given out: of a site to hosts and rewrite ports, of a VM subnet to its ports.",
            (
                Field("site", NAME, "The site: for provider addresses.", "rack1", "", "it is a VM subnet's"),
                Field(
                    "vmSubnet",
                    NAME,
                    "The VM subnet, of the pool's tenant: for customer addresses.",
                    "Blue_VMSubnet1",
                    "",
                    "it is a site's",
                ),
                Field("range", RANGE, "What may be given out.", "10.1.1.100-10.1.1.199", required=True),
                Field(
                    "reserved",
                    RESERVED,
                    "What of it may not: addresses and ranges.",
                    "[10.1.1.100, 10.1.1.150-10.1.1.159]",
                    (),
                    "nothing",
                    many=True,
                ),
                Field(
                    "gateway",
                    ADDRESS,
                    "The gateway of those who get an address, for reference: it must be the subnet's.",
                    "10.1.1.1",
                    None,
                    "the subnet's",
                ),
                Field("dnsServers", ADDRESS, "Their DNS servers.", "[10.1.1.53]", (), "none", many=True),
                Field("dnsSuffix", DOMAIN, "Their DNS suffix.", "blue.example", "", "none"),
            ),
            of_tenant=None,
        ),
        Kind(
            MACPool,
            "MACs to be given out to ports; once there is one, from nowhere else.",
            (
                Field(
                    "range",
                    MAC_RANGE,
                    "Locally administered MACs of one first octet.",
                    '"02:1d:d8:00:00:00-02:1d:d8:ff:ff:ff"',
                    required=True,
                ),
            ),
        ),
        Kind(
            VMNetwork,
            "A routing domain: the isolation boundary. Its subnets are routed to each other only.",
            (LOGICAL_NETWORK,),
            of_tenant=True,
        ),
        Kind(
            VMSubnet,
            "A subnet of a VM network: one VSID, one broadcast domain.",
            (
                Field("vmNetwork", NAME, "The VM network it is part of.", "Blue_VMNet", "", required=True),
                Field(
                    "prefixes",
                    PREFIX,
                    "Its prefixes, of either family; none overlaps another of the VM network.",
                    '[10.1.1.0/24, "fd00:1:1::/64"]',
                    (),
                    many=True,
                    required=True,
                ),
                Field(
                    "gateways",
                    ADDRESS,
                    "The gateway of each prefix, answered for on every host.",
                    "[10.1.1.254]",
                    (),
                    "network address + 1 of each prefix",
                    many=True,
                ),
                Field(
                    "vsid",
                    VSID,
                    "Its virtual subnet id: 4096..16777214, its own.",
                    "5001",
                    0,
                    "one that nobody has",
                ),
                Field(
                    "translation",
                    _choice(Translation),
                    "How its packets cross the provider network.",
                    "rewrite",
                    Translation.NVGRE,
                    "nvgre",
                    decisive=True,
                ),
                Field(
                    "rateLimit",
                    RATE_LIMIT,
                    "How much each of its ports may send, unless the port has a limit of its own.",
                    "{packetsPerSecond: 20000, bytesPerSecond: 125000000}",
                    None,
                    "as much as it likes",
                ),
            ),
            of_tenant=True,
        ),
        Kind(
            Port,
            "A VM's network interface. Port names are unique over all tenants.",
            (
                Field("vmSubnet", NAME, "The VM subnet it is in.", "Blue_VMSubnet1", "", required=True),
                Field("host", NAME, "The host its VM runs on.", "h1", "", required=True),
                Field(
                    "addresses",
                    ADDRESS,
                    "Its customer addresses.",
                    '[10.1.1.10, "fd00:1:1::10"]',
                    (),
                    "one of each prefix of the subnet",
                    many=True,
                ),
                Field("mac", MAC, "The VM's MAC.", '"02:bb:00:00:00:10"', NO_MAC, "one that nobody has"),
                Field(
                    "providerAddresses",
                    ADDRESS,
                    "Under rewrite: a provider address for each of `addresses`, in their order.",
                    '[192.168.77.150, "fd77::150"]',
                    (),
                    "under rewrite one of the site's pools for each; under NVGRE none",
                    many=True,
                ),
                Field(
                    "allowedSources",
                    SOURCE,
                    "More prefixes that it may send from, such as a router's networks.",
                    "[10.9.0.0/16]",
                    (),
                    "none but its own addresses",
                    many=True,
                ),
                Field(
                    "rateLimit",
                    RATE_LIMIT,
                    "How much it may send, in place of its subnet's limit; what is more is dropped.",
                    "{packetsPerSecond: 20000, bytesPerSecond: 125000000}",
                    None,
                    "its subnet's, if that has one",
                ),
                Field(
                    "attach",
                    ATTACH,
                    "The device that leads to the VM: one of tap, veth and device.",
                    "{tap: eth0, netns: blue-web}",
                    None,
                    "it has no device; its address is known all the same",
                ),
            ),
            of_tenant=True,
        ),
        Kind(
            CustomerRoute,
            "A way inside a VM network: a prefix behind one of its ports, such as an appliance.",
            (
                Field("vmNetwork", NAME, "The VM network that has it.", "Blue_VMNet", "", required=True),
                Field("prefix", ROUTE_PREFIX, "Where it leads.", "10.9.0.0/16", required=True),
                Field(
                    "nextHop",
                    ADDRESS,
                    "A customer address in a subnet of the VM network.",
                    "10.1.1.10",
                    required=True,
                ),
                Field("metric", METRIC, "Of several to one prefix the lowest counts.", "10", 0, "0"),
                Field(
                    "virtualSubnetId",
                    VSID,
                    "The VSID of the VM subnet that the next hop is in: it must be the same.",
                    "5001",
                    0,
                    "that of the next hop's VM subnet",
                ),
            ),
            of_tenant=True,
        ),
        Kind(
            LookupRecord,
            "HNV's own object: where a customer address is that is no Port's own, such as a VM of a foreign "
            "host, one more address of a port, or a gateway to everything else. Its virtualSubnetId, "
            "customerAddress, macAddress and type stay as they are: to change one, delete it first.",
            (
                Field(
                    "virtualSubnetId",
                    VSID,
                    "The VSID that a VM subnet of the record's tenant states or was given.",
                    "5001",
                    0,
                    required=True,
                ),
                Field(
                    "customerAddress",
                    RECORD_ADDRESS,
                    "The customer address, in a prefix of the subnet; of a gateway-wildcard 0.0.0.0 or ::, "
                    "for all addresses of that family that have no record.",
                    "10.1.1.30",
                    required=True,
                ),
                Field(
                    "macAddress",
                    MAC,
                    "The VM's MAC: that of its port. Records of one host may share it.",
                    '"02:bb:00:00:00:30"',
                    NO_MAC,
                    required=True,
                ),
                Field("host", NAME, "The host its VM runs on.", "ovs1", "", required=True),
                Field(
                    "port",
                    NAME,
                    "The Port of that host behind which the address is, in the same VM subnet.",
                    "blue-web",
                    "",
                    "on a host that isolane runs on an error; elsewhere the VM is known by no Port",
                ),
                Field(
                    "providerAddress",
                    ADDRESS,
                    "Under nvgre a shared provider address of the host, under rewrite one of its own.",
                    "192.168.77.9",
                    None,
                    "under nvgre the host's, of a family that the sender has; under rewrite an error",
                ),
                Field(
                    "rule",
                    _choice(Translation),
                    "How its packets cross the provider network: HNV's TranslationMethodEncap is nvgre, "
                    "TranslationMethodNat is rewrite.",
                    "rewrite",
                    Translation.NVGRE,
                    "nvgre",
                    decisive=True,
                ),
                Field(
                    "type",
                    _choice(RecordType),
                    "What it is for: an address that is known (static) or was learned (dynamic), or all that "
                    "have no record (gateway-wildcard). l2only is not supported yet.",
                    "gateway-wildcard",
                    RecordType.STATIC,
                    "static",
                    decisive=True,
                ),
                Field("customerId", TEXT, "HNV's CustomerID: words for people.", "contract 17", "", "none"),
                Field("context", TEXT, "HNV's Context: words for people.", "imported", "", "none"),
                Field("vmName", TEXT, "HNV's VMName: words for people.", "blue-db", "", "none"),
            ),
            of_tenant=True,
        ),
    )
}


# ---- reading -----------------------------------------------------------------------------------------------


def read(kind: Kind, tenant: str, name: str, labels: Labels, spec: Fields) -> Object | None:
    """The object that a YAML spec states; what is wrong is reported there. None: nothing is known of it."""
    values = _read_fields(kind.fields, spec, True)
    if any(field.decisive and spec.wrong(field.name) for field in kind.fields):
        return None
    return _make(kind, tenant, name, labels, values)


def parse(kind: Kind, tenant: str, name: str, labels: Labels, spec: Mapping[str, Plain]) -> Object:
    """The inverse of `write`. ValueError with the field's path: not what `write` makes."""
    return _make(kind, tenant, name, labels, _parse_fields(kind.fields, spec, "spec"))


def write(item: Object) -> dict[str, Plain]:
    """The spec of an object, without what says the same when left out."""
    return _write_fields(KINDS[item.id.kind].fields, item)


def write_all(item: Object) -> dict[str, Plain]:
    """The spec of an object with every field: what holds when it is left out, None where that is nothing."""
    fields = KINDS[item.id.kind].fields
    return {field.name: None for field in fields} | _write_fields(fields, item, whole=True)


def _make(kind: Kind, tenant: str, name: str, labels: Labels, values: Values) -> Object:
    whose: Values = {} if kind.of_tenant is False else {"tenant": tenant}
    return kind.model(name=name, labels=labels, **whose, **values)


def _read_fields(declared: tuple[Field, ...], fields: Fields, in_force: bool) -> Values:
    """in_force: whether what is required has to be there."""
    values: Values = {}
    for field in declared:
        condition = not field.condition or (values[field.condition] and not fields.wrong(field.condition))
        values[field.attribute] = _read_field(field, fields, in_force and field.required and condition)
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


def _parse_fields(declared: tuple[Field, ...], spec: Mapping[str, Plain], path: str) -> Values:
    unknown = spec.keys() - {field.name for field in declared}
    if unknown:
        raise ValueError(f"{path}.{min(unknown)}: unknown field")
    return {
        field.attribute: _parse_field(field, spec[field.name], f"{path}.{field.name}")
        if field.name in spec
        else field.default
        for field in declared
    }


def _parse_field(field: Field, plain: Plain, path: str) -> Any:
    if field.many:
        return tuple(_parse_one(field.type, each, f"{path}[{index}]") for index, each in enumerate(plain))
    return _parse_one(field.type, plain, path)


def _parse_one(type_: Scalar | Section, plain: Plain, path: str) -> Any:
    if isinstance(type_, Section):
        return type_.build(_parse_fields(type_.fields, plain, path), None)
    try:
        return type_.parse(plain)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


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


# ---- explaining --------------------------------------------------------------------------------------------


class UnknownFieldError(ValueError):
    """Whoever asked for an explanation must act."""


def find(path: str) -> tuple[Kind, Field | None]:
    """`Port.attach.tap`: its kind and field; the kind in any case. UnknownFieldError: no such thing."""
    name, *rest = path.split(".")
    kind = next((kind for kind in KINDS.values() if kind.name.lower() == name.lower()), None)
    if kind is None:
        raise UnknownFieldError(f"{name!r} is not a kind; kinds: {', '.join(KINDS)}")
    rest = rest[rest[:1] == ["spec"] :]
    field: Field | None = None
    fields = kind.fields
    for part in rest:
        field = next((field for field in fields if field.name == part), None)
        if field is None:
            known = ", ".join(field.name for field in fields) or "none"
            raise UnknownFieldError(f"{path}: no field {part!r}; fields there: {known}")
        fields = field.type.fields if isinstance(field.type, Section) else ()
    return kind, field


def fields_of(path: str) -> tuple[Field, ...]:
    """The fields in a kind or section; none in a scalar. UnknownFieldError: no such thing."""
    kind, field = find(path)
    if field is None:
        return kind.fields
    return field.type.fields if isinstance(field.type, Section) else ()


_TENANT_WORDS = {True: "tenant, ", False: "", None: "tenant (of a tenant's), "}


def explain(path: str) -> Iterator[str]:
    """What a kind or a field means, line by line, and what fields are in it. UnknownFieldError: none such."""
    kind, field = find(path)
    if field is None:
        yield f"{kind.name}: {kind.meaning}"
        yield f"metadata: name, {_TENANT_WORDS[kind.of_tenant]}labels"
    else:
        yield f"{path} ({field.type_name}{', required' if field.required else ''}): {field.meaning}"
        if field.when_left_out:
            yield f"left out: {field.when_left_out}"
        if field.example:
            yield f"example: {field.name}: {field.example}"
    for each in fields_of(path):
        yield ""
        yield f"  {each.name} ({each.type_name}{', required' if each.required else ''})"
        yield f"    {each.meaning}"
        if each.when_left_out:
            yield f"    left out: {each.when_left_out}"


def reference() -> Iterator[str]:
    """All kinds and fields in Markdown, line by line: docs/manifests.md."""
    yield "# Manifests"
    yield ""
    yield "Made by `isolane explain -o markdown`. Every document has `apiVersion: isolane/v1` (may be left"
    yield "out), `kind`, `metadata: {name, tenant, labels}` and `spec`. (kind, tenant, name) is unique, Port"
    yield "names over all tenants. *Left out* says what holds when a field is not stated. What `isolane get`"
    yield "adds, `allocated` and `revision`, is passed over."
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
        left_out = field.when_left_out or "an error"
        if field.required and field.when_left_out:
            left_out = f"an error; {field.when_left_out}"
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


# ---- JSON Schema -------------------------------------------------------------------------------------------


def json_schema(name: str | None = None) -> dict[str, Plain]:
    """Of one kind's documents, or of all. For editors: what objects say of each other it can't check."""
    if name is not None:
        return {"$schema": _DIALECT, **_document_schema(KINDS[name])}
    return {"$schema": _DIALECT, "oneOf": [_document_schema(kind) for kind in KINDS.values()]}


_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _document_schema(kind: Kind) -> dict[str, Plain]:
    whose = ["name", *(["tenant"] if kind.of_tenant else [])]
    may = ["name"] if kind.of_tenant is False else ["name", "tenant"]
    labels = {"type": "object", "additionalProperties": {"type": "string"}}
    metadata = {**{part: dict(NAME.schema) for part in may}, "labels": labels}
    properties = {
        "apiVersion": {"const": API_VERSION},
        "kind": {"const": kind.name},
        "metadata": _object_schema(metadata, whose),
        "spec": _fields_schema(kind.fields),
        **{key: {"description": "Added by `isolane get`; means nothing here."} for key in ADDED},
    }
    required = ["kind", "metadata", *(["spec"] if any(field.required for field in kind.fields) else [])]
    return {"description": kind.meaning, **_object_schema(properties, required)}


def _fields_schema(fields: tuple[Field, ...]) -> dict[str, Plain]:
    required = [field.name for field in fields if field.required and not field.condition]
    return _object_schema({field.name: _field_schema(field) for field in fields}, required)


def _field_schema(field: Field) -> dict[str, Plain]:
    one = dict(field.type.schema) if isinstance(field.type, Scalar) else _fields_schema(field.type.fields)
    whole = (
        {"type": "array", "items": one, **({"minItems": 1} if field.required else {})} if field.many else one
    )
    return {"description": field.meaning, **whole}


def _object_schema(properties: dict[str, Plain], required: list[str]) -> dict[str, Plain]:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }
