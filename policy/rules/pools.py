"""IPPools, MACPools and the inline pools of sites."""

from itertools import pairwise

from policy.errors import ObjectId
from policy.kinds.model import Address, Intent, IPPool, Prefix, mac_value
from policy.kinds.scalars import write_reserved
from policy.rules.uses import Problems, Use, holder, in_turn


def ip_pools_have_one_place(intent: Intent) -> Problems:
    for pool in intent.ip_pools:
        if bool(pool.site) == bool(pool.vm_subnet):
            found = "both" if pool.site else "neither"
            yield intent.problem(pool.id, "spec", f"expected one of site and vmSubnet, not {found}")
        elif pool.site and pool.tenant:
            yield intent.problem(pool.id, "metadata.tenant", "a site's pool belongs to no tenant")
        elif pool.vm_subnet and not pool.tenant:
            yield intent.problem(pool.id, "metadata.tenant", "missing: the tenant of the VM subnet")


def ip_pools_fit_their_place(intent: Intent) -> Problems:
    """A pool's range lies in one subnet of its place, what is reserved in the range; the gateway is the
    subnet's.
    """
    for pool in intent.ip_pools:
        prefixes = _prefixes_of_place(intent, pool)
        if pool.range is None or not prefixes or (pool.site and pool.vm_subnet):
            continue
        first, last = pool.range.first, pool.range.last
        around = next((prefix for prefix in prefixes if first in prefix and last in prefix), None)
        if around is None:
            names = ", ".join(map(str, prefixes))
            yield intent.problem(pool.id, "spec.range", f"{pool.range} is in none of {names}")
        for index, reserved in enumerate(pool.reserved):
            same_family = reserved.first.version == first.version
            if not same_family or int(reserved.first) < int(first) or int(reserved.last) > int(last):
                text = f"{write_reserved(reserved)} is not inside {pool.range}"
                yield intent.problem(pool.id, f"spec.reserved[{index}]", text)
        gateway = prefixes.get(around) if around else None
        if pool.gateway and around and pool.gateway != gateway:
            text = f"{pool.gateway} is not the gateway of {around}, {gateway or 'which has none'}"
            yield intent.problem(pool.id, "spec.gateway", text)


def pools_do_not_overlap(intent: Intent) -> Problems:
    """In one place; nor do the inline pools of sites. MAC pools are all in one place."""
    spans: dict[ObjectId, list[tuple[int, int, int, Use]]] = {}
    for pool in intent.ip_pools:
        if pool.range is not None:
            place = ObjectId("NetworkSite", "", pool.site) if pool.site else pool.subnet_id
            span = (pool.range.first.version, int(pool.range.first), int(pool.range.last))
            spans.setdefault(place, []).append((*span, Use("", pool.id, "spec.range")))
    for site in intent.sites:
        for index, subnet in enumerate(site.subnets):
            if subnet.pa_pool:
                span = (subnet.prefix.version, int(subnet.pa_pool.first), int(subnet.pa_pool.last))
                use = Use("", site.id, f"spec.subnets[{index}].paPool")
                spans.setdefault(site.id, []).append((*span, use))
    for macs in intent.mac_pools:
        if macs.range:
            first, last = mac_value(macs.range.first), mac_value(macs.range.last)
            spans.setdefault(_MACS, []).append((0, first, last, Use("", macs.id, "spec.range")))
    for place_spans in spans.values():
        for (version, _, end, low), (other, begin, _, high) in pairwise(sorted(place_spans)):
            if version == other and begin <= end:
                there, again = in_turn(intent, low, high)
                yield intent.problem(again.owner, again.path, f"overlaps the pool of {holder(intent, there)}")


_MACS = ObjectId("", "", "")


def _prefixes_of_place(intent: Intent, pool: IPPool) -> dict[Prefix, Address | None]:
    """The prefixes of a pool's site or VM subnet, and their gateways; none where that is not there."""
    if pool.site:
        site = intent.site_by_name.get(pool.site)
        return {subnet.prefix: subnet.gateway for subnet in site.subnets} if site else {}
    subnet_of_pool = intent.subnet_by_id.get(pool.subnet_id)
    if subnet_of_pool is None:
        return {}
    return {prefix: subnet_of_pool.gateway_of(prefix) for prefix in subnet_of_pool.prefixes}
