"""Of the naive twin: the packet within an ICMP error (csrc/README.md 4.7)."""

from dataplane.twin.packet import ICMP, ICMP6, IP4_LEN, IP6_LEN, Drop, Packet, u16
from dataplane.twin.rewrite import rewrite_addresses
from dataplane.twin.sums import update16


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
    return inner


def rewrite_quote(p: Packet, quote: Packet, source: bytes, destination: bytes) -> None:
    """Puts the quote back, rewritten; the error's checksum follows."""
    at, old = p.l4 + 8, bytes(quote.frame)
    rewrite_addresses(quote, source, destination)
    p.frame[at : at + len(old)] = quote.frame
    update16(p.frame, p.l4 + 2, old, bytes(quote.frame))
