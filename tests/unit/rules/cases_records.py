"""Of policy/rules/records.py."""

from tests.unit.rules.case import (
    BEHIND_WEB,
    RACK2,
    RECORD,
    RED_SUBNET,
    Case,
    at_the_end,
    before_first,
    case,
    changed,
)

CASES: list[Case] = [
    case(
        "records_are_in_a_subnet_of_their_tenant",
        at_the_end(RECORD, ("5002", "5009")),
        "5009",
        "LookupRecord blue/far: spec.virtualSubnetId: no VMSubnet of tenant blue has VSID 5009",
    ),
    case(
        "records_are_in_a_subnet_of_their_tenant",
        [("vsid: 5002", "translation: nvgre"), at_the_end(RECORD, ("5002", "4099"))],
        "4099",
        "LookupRecord blue/far: spec.virtualSubnetId: no VMSubnet of tenant blue has VSID 4099",
    ),
    case(
        "records_are_in_a_subnet_of_their_tenant",
        at_the_end(RED_SUBNET + RECORD, ("Id: 5002", "Id: 6001"), ("10.1.2.30", "10.1.1.30")),
        "virtualSubnetId: 6001",
        "LookupRecord blue/far: spec.virtualSubnetId: 6001 is the VSID of VMSubnet red/Red1 at net.yaml:91,"
        " of another tenant",
    ),
    case(
        "record_types_are_supported",
        at_the_end(RECORD, ("10.1.2.30", "0.0.0.0"), ("ovs1}", "ovs1, type: l2only}")),
        "l2only",
        "LookupRecord blue/far: spec.type: l2only records, of VMs whose addresses are still to be learned,"
        " are not supported yet",
    ),
    case(
        "record_addresses_fit_their_type",
        at_the_end(RECORD, ("ovs1}", "ovs1, type: gateway-wildcard}")),
        "gateway-wildcard",
        "LookupRecord blue/far: spec.customerAddress: 10.1.2.30: that of a gateway-wildcard record is"
        " 0.0.0.0 or ::",
    ),
    case(
        "record_addresses_fit_their_type",
        at_the_end(RECORD, ("10.1.2.30", '"::"'), ("ovs1}", "ovs1, type: dynamic}")),
        "dynamic",
        "LookupRecord blue/far: spec.customerAddress: ::: that of a dynamic record is an address of its own",
    ),
    case(
        "record_addresses_fit_their_type",
        at_the_end(RECORD, ("10.1.2.30", "10.1.1.30")),
        "10.1.1.30",
        "LookupRecord blue/far: spec.customerAddress: 10.1.1.30 is in no prefix of VMSubnet blue/Blue2",
    ),
    case(
        "record_addresses_fit_their_type",
        at_the_end(RECORD, ("10.1.2.30", "10.1.2.254")),
        "10.1.2.254, mac",
        "LookupRecord blue/far: spec.customerAddress: 10.1.2.254 is the gateway of 10.1.2.0/24",
    ),
    case(
        "records_are_unique_in_a_subnet",
        at_the_end(RECORD, ("10.1.2.30", "10.1.2.20")),
        "10.1.2.20, mac",
        "LookupRecord blue/far: spec.customerAddress: 10.1.2.20 is an address of Port blue/db"
        " at net.yaml:82 already",
    ),
    case(
        "records_are_unique_in_a_subnet",
        at_the_end(f"{RECORD}---\n{RECORD.replace('far', 'far2').replace('ovs1}', 'ovs1} # 2')}"),
        " # 2",
        "LookupRecord blue/far2: spec.customerAddress: 10.1.2.30 is the customer address of LookupRecord"
        " blue/far at net.yaml:88 already",
    ),
    case(
        "record_macs_are_unique_in_a_subnet",
        at_the_end(RECORD, ("00:00:30", "00:01:20")),
        "10.1.2.30",
        "LookupRecord blue/far: spec.macAddress: 02:bb:00:00:01:20 is the MAC of Port blue/db"
        " at net.yaml:78 already",
    ),
    case(
        "record_macs_are_unique_in_a_subnet",
        [
            before_first(
                "kind: Host\nmetadata: {name: ovs2}\nspec: {site: rack1, managed: false,"
                " providerAddresses: [192.168.77.8]}\n"
            ),
            at_the_end(
                f"{RECORD}---\n"
                + changed(RECORD, ("far", "far2"), ("10.1.2.30", "10.1.2.31"), ("ovs1", "ovs2"))
            ),
        ],
        "10.1.2.31",
        "LookupRecord blue/far2: spec.macAddress: 02:bb:00:00:00:30 is the MAC of LookupRecord blue/far"
        " at net.yaml:91 already",
    ),
    case(
        "records_are_where_their_port_is",
        at_the_end(RECORD, ("host: ovs1", "host: h1")),
        "10.1.2.30",
        "LookupRecord blue/far: spec.port: missing: Host h1 is managed, and knows addresses behind its"
        " ports only",
    ),
    case(
        "records_are_where_their_port_is",
        at_the_end(RECORD, *BEHIND_WEB, ("host: h1", "host: h2")),
        "host: h2, port: web",
        "LookupRecord blue/far: spec.host: Port blue/web at net.yaml:59 is on Host h1, not on Host h2",
    ),
    case(
        "records_are_where_their_port_is",
        at_the_end(RECORD, *BEHIND_WEB[2:]),
        "10.1.2.30",
        "LookupRecord blue/far: spec.virtualSubnetId: Port blue/web at net.yaml:59 is in VMSubnet blue/Blue1,"
        " not in VMSubnet blue/Blue2",
    ),
    case(
        "records_are_where_their_port_is",
        at_the_end(RECORD, *BEHIND_WEB, ("bb:00:00:00:10", "bb:00:00:00:11")),
        "10.1.1.30",
        "LookupRecord blue/far: spec.macAddress: Port blue/web at net.yaml:59 has MAC 02:bb:00:00:00:10,"
        " not 02:bb:00:00:00:11",
    ),
    case(
        "rewrite_records_have_a_pa_of_their_own",
        at_the_end(RECORD, *BEHIND_WEB, ("web}", "web, rule: rewrite}")),
        "10.1.1.30",
        "LookupRecord blue/far: spec.providerAddress: missing: under rewrite each customer address has one"
        " of its own",
    ),
    case(
        "rewrite_records_have_a_pa_of_their_own",
        at_the_end(RECORD, *BEHIND_WEB, ("web}", 'web, rule: rewrite, providerAddress: "fd77::30"}')),
        "10.1.1.30",
        "LookupRecord blue/far: spec.providerAddress: fd77::30 is not of the family of 10.1.1.30, which"
        " rewrite can't change",
    ),
    case(
        "rewrite_records_have_a_pa_of_their_own",
        at_the_end(
            RECORD,
            *BEHIND_WEB,
            ("10.1.1.30", "0.0.0.0"),
            ("web}", "web, type: gateway-wildcard, rule: rewrite}"),
        ),
        "rule: rewrite",
        "LookupRecord blue/far: spec.rule: a gateway-wildcard record has no address that could be rewritten:"
        " nvgre",
    ),
    case(
        "rewrite_records_have_a_pa_of_their_own",
        at_the_end(RECORD, ("ovs1}", "ovs1, rule: rewrite, providerAddress: 192.168.77.30}")),
        "rule: rewrite",
        "LookupRecord blue/far: spec.host: Host ovs1 is unmanaged and speaks NVGRE only, but the record is"
        " carried by rewrite",
    ),
    case(
        "nvgre_records_lead_to_their_host",
        at_the_end(RECORD, ("ovs1}", "ovs1, providerAddress: 192.168.77.101}")),
        "host: ovs1, provider",
        "LookupRecord blue/far: spec.providerAddress: 192.168.77.101 is no shared provider address of"
        " Host ovs1 at net.yaml:31 but of Host h1 at net.yaml:17",
    ),
    case(
        "nvgre_records_lead_to_their_host",
        [
            ("  providerAddresses: [192.168.77.101]\n", ""),
            at_the_end(RECORD, *BEHIND_WEB, ("web}", "web, providerAddress: 192.168.77.3}")),
        ],
        "192.168.77.3}",
        "LookupRecord blue/far: spec.providerAddress: 192.168.77.3 is no shared provider address of"
        " Host h1 at net.yaml:17",
    ),
    case(
        "hosts_of_records_are_on_the_logical_network",
        [
            before_first(
                "kind: LogicalNetwork\nmetadata: {name: other}\n---\n"
                + RACK2.replace("NET", "other")
                + "---\nkind: Host\nmetadata: {name: ovs2}\nspec: {site: rack2, managed: false,"
                " providerAddresses: [192.168.78.9]}\n"
            ),
            at_the_end(RECORD, ("ovs1", "ovs2")),
        ],
        "host: ovs2",
        "LookupRecord blue/far: spec.host: Host ovs2 is on other, but VMNetwork blue/Blue_VMNet on fabric",
    ),
]
