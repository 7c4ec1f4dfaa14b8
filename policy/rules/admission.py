"""All rules, in the order in which what they find is told. A rule is a function named for what it holds true,
from intent to problems.

`check_intent` looks at what is stated; what is left out, or could not be read, breaks no rule there.
`check_policy` looks at the complete policy, where only what depends on allocated addresses remains to be
checked.
"""

from collections.abc import Callable

from policy.errors import Problem
from policy.kinds.model import Intent, Policy
from policy.kinds.steps import counted
from policy.rules.change import records_keep_what_identifies_them
from policy.rules.fabric import (
    provider_address_objects_fit_their_host,
    provider_addresses_are_on_site,
    provider_addresses_are_unique,
    site_subnet_addresses_fit,
    site_subnets_do_not_overlap,
    underlay_macs_are_unique,
)
from policy.rules.peers import (
    peers_are_routed,
    peers_have_the_family_of_stated_pas,
    peers_share_a_family,
    underlay_mtus_carry_ipv6,
)
from policy.rules.pools import ip_pools_fit_their_place, ip_pools_have_one_place, pools_do_not_overlap
from policy.rules.records import (
    hosts_of_records_are_on_the_logical_network,
    nvgre_records_lead_to_their_host,
    record_addresses_fit_their_type,
    record_macs_are_unique_in_a_subnet,
    record_types_are_supported,
    records_are_in_a_subnet_of_their_tenant,
    records_are_unique_in_a_subnet,
    records_are_where_their_port_is,
    rewrite_records_have_a_pa_of_their_own,
)
from policy.rules.references import Names, hinted, names_in, references_exist, tenants_exist
from policy.rules.routes import (
    customer_routes_are_unique,
    customer_routes_lead_somewhere,
    customer_routes_name_the_subnet_of_their_next_hop,
    provider_routes_are_unique,
    provider_routes_lead_somewhere,
)
from policy.rules.tenant import (
    addresses_fit_their_subnet,
    customer_addresses_are_unique_in_a_subnet,
    devices_are_used_once,
    devices_of_the_host_are_no_host_ends,
    gateways_fit_their_prefixes,
    hosts_are_on_the_logical_network,
    hosts_hold_their_ports,
    macs_are_unique_in_a_subnet,
    prefixes_do_not_overlap_in_a_vm_network,
    rewrite_addresses_pair_up,
    unmanaged_hosts_have_no_rewrite_ports,
    vsids_are_unique,
)
from policy.rules.uses import Problems

INTENT_RULES: tuple[Callable[[Intent], Problems], ...] = (
    references_exist,
    tenants_exist,
    site_subnets_do_not_overlap,
    site_subnet_addresses_fit,
    provider_addresses_are_on_site,
    provider_addresses_are_unique,
    provider_address_objects_fit_their_host,
    underlay_macs_are_unique,
    ip_pools_have_one_place,
    ip_pools_fit_their_place,
    pools_do_not_overlap,
    provider_routes_lead_somewhere,
    provider_routes_are_unique,
    customer_routes_lead_somewhere,
    customer_routes_are_unique,
    customer_routes_name_the_subnet_of_their_next_hop,
    prefixes_do_not_overlap_in_a_vm_network,
    gateways_fit_their_prefixes,
    vsids_are_unique,
    addresses_fit_their_subnet,
    customer_addresses_are_unique_in_a_subnet,
    macs_are_unique_in_a_subnet,
    rewrite_addresses_pair_up,
    unmanaged_hosts_have_no_rewrite_ports,
    hosts_are_on_the_logical_network,
    devices_are_used_once,
    devices_of_the_host_are_no_host_ends,
    hosts_hold_their_ports,
    hosts_of_records_are_on_the_logical_network,
    records_are_in_a_subnet_of_their_tenant,
    record_types_are_supported,
    record_addresses_fit_their_type,
    records_are_unique_in_a_subnet,
    record_macs_are_unique_in_a_subnet,
    records_are_where_their_port_is,
    rewrite_records_have_a_pa_of_their_own,
    nvgre_records_lead_to_their_host,
)


POLICY_RULES: tuple[Callable[[Policy], Problems], ...] = (
    underlay_mtus_carry_ipv6,
    peers_share_a_family,
    peers_are_routed,
    peers_have_the_family_of_stated_pas,
    hosts_of_records_are_on_the_logical_network,
    customer_routes_name_the_subnet_of_their_next_hop,
    records_are_in_a_subnet_of_their_tenant,
    record_addresses_fit_their_type,
    records_are_unique_in_a_subnet,
    record_macs_are_unique_in_a_subnet,
    records_are_where_their_port_is,
    nvgre_records_lead_to_their_host,
)


CHANGE_RULES: tuple[Callable[[Intent, Intent], Problems], ...] = (records_keep_what_identifies_them,)


def check_intent(intent: Intent, names: Names | None = None) -> list[Problem]:
    """names: of all objects there are, where the intent is a part of them."""
    found = (problem for rule in counted(INTENT_RULES, "checking rules") for problem in rule(intent))
    return list(hinted(found, names or names_in(intent)))


def check_policy(policy: Policy) -> list[Problem]:
    rules = counted(POLICY_RULES, "checking rules on what is given")
    return [problem for rule in rules for problem in rule(policy)]


def check_change(before: Intent, after: Intent) -> list[Problem]:
    """What is wrong with the way from one intent to the next; both are as stated."""
    return [problem for rule in CHANGE_RULES for problem in rule(before, after)]
