"""Of the naive twin: the packet within an ICMP error (csrc/README.md 4.7 and 4.8)."""

from dataplane.twin.packet import (
    EXTENSIONS,
    FRAGMENT,
    GSO_NONE,
    ICMP,
    ICMP6,
    IP4_LEN,
    IP6_LEN,
    Drop,
    Packet,
    put16,
    u16,
)
from dataplane.twin.rewrite import rewrite_addresses
from dataplane.twin.sums import update16
from dataplane.twin.tables import REWRITE, ROUTER_LINK_LOCAL, Record, Tables
from dataplane.twin.wire import is_host


def is_icmp_error(p: Packet) -> bool:
    """An ICMP message that quotes a packet."""
    if p.later:
        return False
    if p.family == 4 and p.proto == ICMP:
        return p.frame[p.l4] in (3, 4, 5, 11, 12)
    return p.family == 6 and p.proto == ICMP6 and p.frame[p.l4] < 128


def read_quote(p: Packet) -> Packet:
    """The packet that an error quotes, as far as it goes. Drop: it is none that can be translated."""
    quote = bytearray(p.frame[p.l4 + 8 : min(p.end, p.reach)])
    translated = (3, 4, 11, 12) if p.family == 4 else (1, 2, 3, 4)
    fixed = IP4_LEN if p.family == 4 else IP6_LEN
    if p.frame[p.l4] not in translated or len(quote) < fixed + 8 or quote[0] >> 4 != p.family:
        raise Drop("icmp-error")
    header = (quote[0] & 15) * 4 if p.family == 4 else IP6_LEN
    if header < fixed or len(quote) < header + 8:
        raise Drop("icmp-error")
    inner = Packet(quote, p.in_port, p.time, reach=len(quote))
    inner.family, inner.l4, inner.end = p.family, header, len(quote)
    inner.proto = quote[9 if p.family == 4 else 6]
    inner.later = p.family == 4 and u16(quote, 6) & 0x1FFF != 0
    if p.family == 6 and inner.proto == FRAGMENT:
        inner.proto, inner.later, inner.l4 = quote[40], u16(quote, 42) >= 8, 48
    return inner


def hides_addresses(quote: Packet) -> bool:
    """Of the provider network: in the quote within a quoted error, or where no checksum is found."""
    if quote.later:
        return False
    if quote.family == 6 and quote.proto in EXTENSIONS:
        return True
    return quote.l4 < quote.end and is_icmp_error(quote)


def is_of_router(p: Packet) -> bool:
    """An error that a router of the provider network may tell of a packet between two rewrite PAs."""
    plain = p.l4 - p.l3 == (IP4_LEN if p.family == 4 else IP6_LEN) and not p.fragment
    if not is_icmp_error(p) or not plain or p.partial or p.gso != GSO_NONE or not is_host(p.source):
        return False
    return p.frame[p.l4] in ((3, 11) if p.family == 4 else (1, 2, 3))


def without_structures(p: Packet) -> None:
    """Leaves 128 bytes of the quote at most, and no word of what came behind them (RFC 4884)."""
    before = bytes(p.frame[p.l4 + 4 : p.end])
    if p.family == 4:
        p.frame[p.l4 + 5] = 0
    elif p.frame[p.l4] != 2:
        p.frame[p.l4 + 4] = 0
    old_end, p.end = p.end, min(p.end, p.l4 + 8 + 128)
    old, new = before, bytes(p.frame[p.l4 + 4 : p.end])
    if p.end != old_end:
        del p.frame[p.end :]
        at = p.l3 + (2 if p.family == 4 else 4)
        length = bytes(p.frame[at : at + 2])
        put16(p.frame, at, u16(length, 0) - (old_end - p.end))
        if p.family == 4:
            update16(p.frame, p.l3 + 10, length, bytes(p.frame[at : at + 2]))
        else:
            old, new = length + old, bytes(p.frame[at : at + 2]) + new
    update16(p.frame, p.l4 + 2, old, new)


def rewrite_quote(p: Packet, quote: Packet, source: bytes, destination: bytes) -> None:
    """Puts the quote back, rewritten; the error's checksum follows."""
    at, old = p.l4 + 8, bytes(quote.frame)
    rewrite_addresses(quote, source, destination)
    p.frame[at : at + len(old)] = quote.frame
    update16(p.frame, p.l4 + 2, old, bytes(quote.frame))


def quote_out(tables: Tables, p: Packet, record: Record) -> None:
    """The quote as the provider network must see it. record: of who is told."""
    quote = read_quote(p)
    teller = tables.own_record(p.in_port, quote.destination)
    if quote.source != p.destination or teller is None or teller.translation != REWRITE:
        raise Drop("icmp-error")
    rewrite_quote(p, quote, record.pa, teller.pa)


def quote_in(tables: Tables, p: Packet, destination: Record) -> None:
    """The quote as the local VM sent it."""
    quote = read_quote(p)
    sent_to = tables.bound_to(quote.destination)
    if quote.source != p.destination or sent_to is None or sent_to.host == tables.self_host:
        raise Drop("icmp-error")
    if tables.subnets[sent_to.vsid] != tables.subnets[destination.vsid]:
        raise Drop("icmp-error")
    rewrite_quote(p, quote, destination.ca, sent_to.ca)


def quote_from_router(tables: Tables, p: Packet, destination: Record) -> None:
    """What a router of the provider network did not forward, told by the VM's gateway."""
    gateway = tables.gateway_beside(destination.vsid, destination.ca)
    if gateway is None and p.family == 4:
        raise Drop("icmp-error")
    without_structures(p)
    quote_in(tables, p, destination)
    if hides_addresses(read_quote(p)):
        raise Drop("icmp-error")
    rewrite_addresses(p, gateway or ROUTER_LINK_LOCAL, destination.ca)
