"""How long a value stays with nobody after its owner has let it go, so that nothing that still remembers the
old owner reaches a new one. Pure; times are Unix seconds.

Times are of the clocks of those who change intent, which may differ. A hold that ends later than one that
begins now was written by a clock that was ahead: it is believed as far as HOLD_SECONDS from now, and not at
all once nothing else is left. A clock that is behind makes holds shorter; nothing can tell.
"""

from policy.kinds import keys

HOLD_SECONDS = 300.0


def end(held_until: float | None, now: float) -> float:
    """When the hold of a value ends that is held down already, or (None) from now on."""
    latest = now + HOLD_SECONDS
    return latest if held_until is None else min(held_until, latest)


def is_over(held_until: float | None, now: float) -> bool:
    return held_until is not None and held_until <= now


def gives_way(pool: str, held_until: float | None, now: float) -> bool:
    """Whether somebody else may have a value that is held down when nothing else of its pool is left.

    A customer address or a MAC is known in its own subnet alone, and packets for it stay there. By a provider
    address or a VSID a packet that is under way would reach another tenant.
    """
    in_subnet = pool == keys.MAC_POOL or pool.startswith(keys.CA_POOLS)
    return in_subnet or (held_until is not None and held_until > now + HOLD_SECONDS)
