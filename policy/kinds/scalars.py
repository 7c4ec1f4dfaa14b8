"""How addresses, prefixes, MACs and names are written: text in, value out, or ValueError with the reason."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from policy.kinds.values import (
    FIRST_VSID,
    LAST_VSID,
    MAX_BURST,
    MAX_BYTE_RATE,
    MAX_TAP_QUEUES,
    ROUTER_MAC,
    Address,
    AddressRange,
    Driver,
    Mac,
    MacRange,
    Prefix,
    RecordType,
    Spin,
    Translation,
)
from policy.kinds.words import quoted
from policy.kinds.yaml_reader import Read, boolean, from_text, integer, one_of

MAX_MTU = 65_535

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}")
_LABEL = re.compile(r"[A-Za-z0-9._-]{0,63}")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,30}\$?|0|[1-9][0-9]{0,9}", re.IGNORECASE | re.ASCII)
_LAST_UID = 2**32 - 2
_DNS_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_IFNAMSIZ = 16
RESERVED_INTERFACES = frozenset(("lo", "all", "default"))
"""The loopback, and names of what goes for all devices in /proc/sys/net."""

_NOT_UNICAST = [
    (ip_network(prefix), what)
    for prefix, what in (
        ("0.0.0.0/8", "this network"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
]

_NOT_UNICAST_VALUES = {
    version: [
        (int(prefix.network_address), int(prefix.broadcast_address), what)
        for prefix, what in _NOT_UNICAST
        if prefix.version == version
    ]
    for version in (4, 6)
}


def parse_name(text: str) -> str:
    """A name of an object or a network namespace: it becomes part of file and namespace names."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is not a name: 1 to 63 letters, digits, '.', '_' or '-', "
            "the first a letter or digit"
        )
    return text


def parse_interface(text: str) -> str:
    """A network device's name, by the kernel's rules; '%' would make it a pattern."""
    if not text or text in {".", ".."} or re.search(r"[/:%\s]", text) or not text.isprintable():
        raise ValueError(f"{quoted(text)} is not an interface name")
    if len(text.encode()) >= _IFNAMSIZ:
        raise ValueError(
            f"{quoted(text)} is longer than {_IFNAMSIZ - 1} characters, the limit for interface names"
        )
    if text in RESERVED_INTERFACES:
        raise ValueError(f"{quoted(text)} is reserved by the kernel")
    return text


def parse_stored_interface(text: str) -> str:
    """One that an earlier version took: its port has a problem, other objects have none."""
    return text if text in RESERVED_INTERFACES else parse_interface(text)


def parse_address(text: str) -> Address:
    """A unicast address that routers forward, without a zone."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not an IPv4 or IPv6 address") from None
    if "%" in text:
        raise ValueError(f"{quoted(text)} has a zone, which means nothing here")
    value = int(address)
    for first, last, what in _NOT_UNICAST_VALUES[address.version]:
        if first <= value <= last:
            raise ValueError(f"{quoted(text)} can't be used: {what}")
    return address


def parse_record_address(text: str) -> Address:
    """A customer address, or 0.0.0.0 and ::, which stand for those that have no record of their own."""
    return ip_address(text) if text in ("0.0.0.0", "::") else parse_address(text)


def parse_source(text: str) -> Prefix:
    """A prefix of source addresses, 0.0.0.0/0 and ::/0 included."""
    address, slash, length = text.partition("/")
    if not slash:
        raise ValueError(f"{quoted(text)} is not a prefix: ADDRESS/LENGTH")
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        loose = None
    if loose is None or not (length.isascii() and length.isdigit()) or "%" in address:
        raise ValueError(f"{quoted(text)} is not an IPv4 or IPv6 prefix")
    if ip_address(address) != loose.network_address:
        raise ValueError(f"{quoted(text)} has bits set behind the prefix length; meant is {loose}?")
    return loose


def parse_prefix(text: str) -> Prefix:
    """A subnet: a prefix of such addresses with room for a gateway and a host beside the network address."""
    prefix = parse_source(text)
    for special, what in _NOT_UNICAST:
        if prefix.overlaps(special):
            raise ValueError(f"{quoted(text)} can't be used: it holds {special}, {what}")
    if prefix.max_prefixlen - prefix.prefixlen < 2:
        raise ValueError(f"{quoted(text)} is too small for a subnet: /{prefix.max_prefixlen - 2} or shorter")
    return prefix


def parse_range(text: str) -> AddressRange:
    """FIRST-LAST, both included."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        raise ValueError(f"{quoted(text)} is not a range: FIRST-LAST")
    span = AddressRange(parse_address(first), parse_address(last))
    if span.first.version != span.last.version:
        raise ValueError(f"{quoted(text)} mixes IPv4 and IPv6")
    if int(span.first) > int(span.last):
        raise ValueError(f"{quoted(text)} ends before it begins")
    return span


def parse_mac(text: str) -> Mac:
    """A unicast MAC that is not the virtual router's; hex octets with ':' or '-' between them."""
    if not _MAC.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a MAC: six hex octets such as 02:00:00:00:00:01")
    mac = Mac(text.lower().replace("-", ":"))
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{quoted(text)} is a multicast MAC")
    if mac == "00:00:00:00:00:00":
        raise ValueError(f"{quoted(text)} is no device's MAC")
    if mac == ROUTER_MAC:
        raise ValueError(f"{quoted(text)} is the virtual router's MAC")
    return mac


def parse_label_key(text: str) -> str:
    """A label's key, as kubectl has them: a name, with or without a prefix and '/' before it."""
    if not _LABEL_KEY.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a label's key: a name, or PREFIX/NAME")
    return text


def parse_label(text: str) -> str:
    """A label's value."""
    if not _LABEL.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a label: up to 63 letters, digits, '.', '_' or '-'")
    return text


def parse_reserved(text: str) -> AddressRange:
    """ADDRESS, or FIRST-LAST."""
    if "-" in text:
        return parse_range(text)
    address = parse_address(text)
    return AddressRange(address, address)


def write_reserved(span: AddressRange) -> str:
    return str(span.first) if span.first == span.last else str(span)


def parse_mac_range(text: str) -> MacRange:
    """FIRST-LAST, both included, the octets with ':' between them; all locally administered."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        raise ValueError(f"{quoted(text)} is not a range: FIRST-LAST")
    span = MacRange(parse_mac(first), parse_mac(last))
    if span.first > span.last:
        raise ValueError(f"{quoted(text)} ends before it begins")
    if span.first[:2] != span.last[:2] or not int(span.first[:2], 16) & 2:
        raise ValueError(f"{quoted(text)} is not within the locally administered MACs of one first octet")
    return span


def parse_route_prefix(text: str) -> Prefix:
    """Where a route leads: a prefix of unicast addresses, or all of them."""
    prefix = parse_source(text)
    if prefix.prefixlen:
        for special, what in _NOT_UNICAST:
            if prefix.overlaps(special):
                raise ValueError(f"{quoted(text)} can't be used: it holds {special}, {what}")
    return prefix


def parse_domain(text: str) -> str:
    """A DNS name (RFC 1123 section 2.1)."""
    if len(text) > 253 or not all(map(_DNS_LABEL.fullmatch, text.split("."))):
        raise ValueError(f"{quoted(text)} is not a DNS name")
    return text.lower()


def parse_user(text: str) -> str:
    """A user of a host, by name or by number; whether there is one by that name only the host knows."""
    if not _USER.fullmatch(text) or (text.isdecimal() and int(text) > _LAST_UID):
        raise ValueError(f"{quoted(text)} is no user: a name such as libvirt-qemu, or a number")
    return text


def parse_text(text: str) -> str:
    """Words for people: one line."""
    if not text.isprintable() or len(text) > 250:
        raise ValueError("not one line of up to 250 characters")
    return text


def check_metric(metric: int) -> int:
    if not 0 <= metric <= 0xFFFF:
        raise ValueError(f"{metric} is not a metric: 0..65535")
    return metric


def check_prefix_length(length: int) -> int:
    if not 0 < length < 128:
        raise ValueError(f"{length} is not a prefix length: 1..127")
    return length


def check_revision(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is not a revision: 0 (not there yet) or more")
    return number


def check_burst(number: int) -> int:
    """Packets or bytes at once; packets a second."""
    if not 0 < number <= MAX_BURST:
        raise ValueError(f"{number} is not in 1..{MAX_BURST}")
    return number


def check_byte_rate(rate: int) -> int:
    if not 0 < rate <= MAX_BYTE_RATE:
        raise ValueError(f"{rate} is not in 1..{MAX_BYTE_RATE}")
    return rate


def check_queues(number: int) -> int:
    if not 0 < number <= MAX_TAP_QUEUES:
        raise ValueError(f"{number} is not in 1..{MAX_TAP_QUEUES}")
    return number


def check_vsid(vsid: int) -> int:
    """RFC 7637 section 3.4."""
    if not FIRST_VSID <= vsid <= LAST_VSID:
        raise ValueError(f"{vsid} is not a VSID: {FIRST_VSID}..{LAST_VSID}")
    return vsid


# ---- types of fields ---------------------------------------------------------------------------------------


class Scalar(NamedTuple):
    """read: from YAML; parse: from JSON; write: to JSON. The first two raise ValueError with the reason."""

    name: str
    read: Read[Any]
    parse: Callable[[Any], Any]
    write: Callable[[Any], Any]
    schema: Mapping[str, Any]


def _text(name: str, parse: Callable[[str], Any], **schema: Any) -> Scalar:
    return Scalar(name, from_text(parse), parse, str, {"type": "string", **schema})


def _choice(choices: type[StrEnum]) -> Scalar:
    values = [str(choice) for choice in choices]
    return Scalar(" | ".join(values), one_of(choices), choices, str, {"type": "string", "enum": values})


def _check_mtu(mtu: int) -> int:
    if not 0 < mtu <= MAX_MTU:
        raise ValueError(f"{mtu} is not an MTU: 1..{MAX_MTU}")
    return mtu


def _number(name: str, check: Callable[[int], int]) -> Scalar:
    def parse(plain: Any) -> int:
        if type(plain) is not int:
            raise ValueError(f"{plain!r} is no integer")
        return check(plain)

    return Scalar(name, lambda node: check(integer(node)), parse, int, {"type": "integer"})


def _stored_boolean(plain: Any) -> bool:
    if type(plain) is not bool:
        raise ValueError(f"{plain!r} is neither true nor false")
    return plain


NAME = _text("name", parse_name)
INTERFACE = Scalar(
    "interface",
    from_text(parse_interface),
    parse_stored_interface,
    str,
    {"type": "string"},
)
ADDRESS = _text("address", parse_address)
RECORD_ADDRESS = _text("address", parse_record_address)
PREFIX = _text("prefix", parse_prefix)
SOURCE = _text("source prefix", parse_source)
RANGE = _text("range", parse_range)
MAC = _text("MAC", parse_mac)
ROUTE_PREFIX = _text("prefix", parse_route_prefix)
MAC_RANGE = _text("MAC range", parse_mac_range)
RESERVED = Scalar(
    "address or range",
    from_text(parse_reserved),
    parse_reserved,
    write_reserved,
    {"type": "string"},
)
DOMAIN = _text("domain", parse_domain)
TEXT = _text("text", parse_text)
USER = _text("user", parse_user)
METRIC = _number("metric", check_metric)
PREFIX_LENGTH = _number("prefix length", check_prefix_length)
VSID = _number("VSID", check_vsid)
MTU = _number("MTU", _check_mtu)
PACKETS = _number("packets", check_burst)
BYTES = _number("bytes", check_burst)
BYTE_RATE = _number("bytes", check_byte_rate)
QUEUES = _number("queues", check_queues)
REVISION = _number("revision", check_revision)
BOOLEAN = Scalar("boolean", boolean, _stored_boolean, bool, {"type": "boolean"})
TRANSLATION = _choice(Translation)
DRIVER = _choice(Driver)
SPIN = _choice(Spin)
SPIN_MEANS = (
    "Whether an idle worker looks on for its packets some microseconds before it sleeps: auto, where they "
    "come soon and few, for short round trips; never, which leaves the CPU to others."
)
SPIN_LEFT_OUT = "auto"
RECORD_TYPE = _choice(RecordType)
