"""Of policy/rules/references.py."""

from tests.unit.rules.case import H1_PA, SHARED, Case, at_the_end, case

CASES: list[Case] = [
    case(
        "references_exist",
        ("logicalNetwork: fabric\n  subnets", "logicalNetwork: fabrik\n  subnets"),
        "fabrik",
        "NetworkSite rack1: spec.logicalNetwork: there is no LogicalNetwork fabrik; did you mean"
        " LogicalNetwork fabric?",
    ),
    case(
        "references_exist",
        (f"  site: rack1\n  {H1_PA}", f"  site: rack9\n  {H1_PA}"),
        "rack9",
        "Host h1: spec.site: there is no NetworkSite rack9; did you mean NetworkSite rack1?",
    ),
    case(
        "references_exist",
        ("spec: {logicalNetwork: fabric}", "spec: {logicalNetwork: fabric9}"),
        "fabric9",
        "VMNetwork blue/Blue_VMNet: spec.logicalNetwork: there is no LogicalNetwork fabric9; did"
        " you mean LogicalNetwork fabric?",
    ),
    case(
        "references_exist",
        (
            "vmNetwork: Blue_VMNet\n  prefixes: [10.1.2.0/24]",
            "vmNetwork: Red_VMNet\n  prefixes: [10.1.2.0/24]",
        ),
        "Red_VMNet",
        "VMSubnet blue/Blue2: spec.vmNetwork: there is no VMNetwork blue/Red_VMNet; did you mean"
        " VMNetwork blue/Blue_VMNet?",
    ),
    case(
        "references_exist",
        ("vmSubnet: Blue2", "vmSubnet: Blue9"),
        "Blue9",
        "Port blue/db: spec.vmSubnet: there is no VMSubnet blue/Blue9; did you mean VMSubnet blue/Blue2?",
    ),
    case("references_exist", ("host: h1", "host: h9"), "h9", "Port blue/web: spec.host: there is no Host h9"),
    case(
        "references_exist",
        at_the_end(SHARED, ("host: ovs1", "host: h9")),
        "host: h9",
        "ProviderAddress more: spec.host: there is no Host h9",
    ),
]
