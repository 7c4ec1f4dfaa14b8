"""LookupRecords. Rules on what others may have been given hold for what is stated, and once more for the
policy.
"""

from itertools import chain

from policy.kinds.model import Intent, Port, RecordType, Translation
from policy.rules.fabric import stated_pas
from policy.rules.tenant import off_the_network
from policy.rules.uses import Problems, Use, holder, in_turn, misfit_of, used_twice, where


def records_are_in_a_subnet_of_their_tenant(intent: Intent) -> Problems:
    """By a VSID that is stated or was given; which ones will be is not known before."""
    waiting = {subnet.tenant for subnet in intent.vm_subnets if not subnet.vsid}
    for record in intent.lookup_records:
        vsid = record.virtual_subnet_id
        owner = intent.subnet_by_vsid.get(vsid)
        if owner and owner.tenant != record.tenant:
            text = f"{vsid} is the VSID of {owner.id}{where(intent, owner.id)}, of another tenant"
            yield intent.problem(record.id, "spec.virtualSubnetId", text)
        elif vsid and not owner and record.tenant not in waiting:
            text = f"no VMSubnet of tenant {record.tenant} has VSID {vsid}"
            yield intent.problem(record.id, "spec.virtualSubnetId", text)


def record_types_are_supported(intent: Intent) -> Problems:
    for record in intent.lookup_records:
        if record.type is RecordType.L2ONLY:
            text = "l2only records, of VMs whose addresses are still to be learned, are not supported yet"
            yield intent.problem(record.id, "spec.type", text)


def record_addresses_fit_their_type(intent: Intent) -> Problems:
    """0.0.0.0 or :: if it stands for many; else one that a port of the subnet could have."""
    path = "spec.customerAddress"
    for record in intent.lookup_records:
        address, subnet = record.customer_address, intent.subnet_of(record)
        if address is None:
            continue
        if record.type.is_of_no_address:
            if not address.is_unspecified:
                text = f"{address}: that of a {record.type} record is 0.0.0.0 or ::"
                yield intent.problem(record.id, path, text)
        elif address.is_unspecified:
            text = f"{address}: that of a {record.type} record is an address of its own"
            yield intent.problem(record.id, path, text)
        elif subnet and subnet.prefixes:
            prefix = subnet.prefix_of(address)
            if prefix is None:
                yield intent.problem(record.id, path, f"{address} is in no prefix of {subnet.id}")
            elif misfit := misfit_of(address, prefix, subnet.gateway_of(prefix)):
                yield intent.problem(record.id, path, misfit)


def hosts_of_records_are_on_the_logical_network(intent: Intent) -> Problems:
    known = {network.name for network in intent.logical_networks}
    for record in intent.lookup_records:
        if text := off_the_network(intent, known, intent.subnet_of(record), record.host):
            yield intent.problem(record.id, "spec.host", text)


def records_are_unique_in_a_subnet(intent: Intent) -> Problems:
    """One record for each customer address, and none for what a Port has by itself."""
    for subnet, records in intent.records_by_subnet.items():
        of_ports = {
            address: Use(address, port.id, f"spec.addresses[{index}]")
            for port in intent.ports_by_subnet.get(subnet, ())
            for index, address in enumerate(port.addresses)
        }
        of_records = (
            Use(record.customer_address, record.id, "spec.customerAddress")
            for record in records
            if record.customer_address is not None
        )
        for first, again in used_twice(intent, chain(of_ports.values(), of_records)):
            what = "an address" if first.owner.kind == "Port" else "the customer address"
            text = f"{again.value} is {what} of {holder(intent, first)} already"
            yield intent.problem(again.owner, again.path, text)


def record_macs_are_unique_in_a_subnet(intent: Intent) -> Problems:
    """A VM with several addresses has a record for each: those of one MAC are on one host, of one port."""
    for subnet, records in intent.records_by_subnet.items():
        ports = intent.ports_by_subnet.get(subnet, ())
        owners = {port.mac: (port.id, port.host, port.name) for port in ports if port.mac}
        for record in records:
            mac, host, port = record.mac_address, record.host, record.port
            if not mac or not host:
                continue
            first, *place = owners.setdefault(mac, (record.id, host, port))
            # a record that names the port of this MAC, on another host, is told so by another rule
            same = port == place[1] if first.kind == "Port" else [host, port] == place
            if not same:
                path = "spec.mac" if first.kind == "Port" else "spec.macAddress"
                uses = Use(mac, first, path), Use(mac, record.id, "spec.macAddress")
                there, again = in_turn(intent, *uses)
                text = f"{mac} is the MAC of {there.owner}{where(intent, there.owner)} already"
                yield intent.problem(again.owner, again.path, text)


def records_are_where_their_port_is(intent: Intent) -> Problems:
    """On its host, in its subnet, with its MAC; on a host that isolane runs on there is no other place."""
    for record in intent.lookup_records:
        host, port = intent.host_by_name.get(record.host), intent.by_id.get(record.port_id)
        stated = "spec.port" in intent.sources.get(record.id, {})
        if host and host.managed and not record.port and not stated:
            text = f"missing: {host.id} is managed, and knows addresses behind its ports only"
            yield intent.problem(record.id, "spec.port", text)
        if not isinstance(port, Port):
            continue
        there = f"{port.id}{where(intent, port.id)}"
        if host and port.host != record.host:
            text = f"{there} is on Host {port.host}, not on {host.id}"
            yield intent.problem(record.id, "spec.host", text)
        subnet = intent.subnet_of(record)
        if subnet and port.subnet_id != subnet.id:
            text = f"{there} is in VMSubnet {port.subnet_id.qualified_name}, not in {subnet.id}"
            yield intent.problem(record.id, "spec.virtualSubnetId", text)
        if port.mac and record.mac_address and port.mac != record.mac_address:
            text = f"{there} has MAC {port.mac}, not {record.mac_address}"
            yield intent.problem(record.id, "spec.macAddress", text)


def rewrite_records_have_a_pa_of_their_own(intent: Intent) -> Problems:
    """Of the CA's family, on a host that rewrites; a gateway-wildcard has no address to rewrite."""
    for record in intent.lookup_records:
        host = intent.host_by_name.get(record.host)
        ca, pa = record.customer_address, record.provider_address
        if record.rule is not Translation.REWRITE:
            continue
        if record.type.is_of_no_address:
            text = f"a {record.type} record has no address that could be rewritten: nvgre"
            yield intent.problem(record.id, "spec.rule", text)
        elif "spec.providerAddress" not in intent.sources.get(record.id, {}) and pa is None:
            text = "missing: under rewrite each customer address has one of its own"
            yield intent.problem(record.id, "spec.providerAddress", text)
        elif pa and ca and pa.version != ca.version:
            text = f"{pa} is not of the family of {ca}, which rewrite can't change"
            yield intent.problem(record.id, "spec.providerAddress", text)
        if host and not host.managed:
            text = f"{host.id} is unmanaged and speaks NVGRE only, but the record is carried by rewrite"
            yield intent.problem(record.id, "spec.host", text)


def nvgre_records_lead_to_their_host(intent: Intent) -> Problems:
    """A stated PA is a shared one of the record's host, as far as the host's are known."""
    leading = [record for record in intent.lookup_records if record.rule is Translation.NVGRE]
    owners = {pa: owner for owner, _, _, pa in stated_pas(intent)} if leading else {}
    for record in leading:
        pa, host = record.provider_address, intent.endpoint_by_name.get(record.host)
        if pa is None or host is None:
            continue
        if pa not in host.provider_addresses and not _gets_shared_pas(intent, record.host):
            whose = f" but of {owners[pa]}{where(intent, owners[pa])}" if pa in owners else ""
            text = f"{pa} is no shared provider address of {host.id}{where(intent, host.id)}{whose}"
            yield intent.problem(record.id, "spec.providerAddress", text)


def _gets_shared_pas(intent: Intent, host_name: str) -> bool:
    """Whether a host states no PA and is going to be given some."""
    host = intent.host_by_name[host_name]
    site = intent.site_of(host)
    if host.provider_addresses or site is None:
        return False
    return site.id in intent.ip_pools_by_place or any(subnet.pa_pool for subnet in site.subnets)
