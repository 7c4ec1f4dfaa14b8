"""Objects as rows of tables."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tools import kinds

if TYPE_CHECKING:
    from policy.errors import ObjectId
    from policy.service.views import View

NARROW: Mapping[str, tuple[str, ...]] = {
    "Tenant": ("description",),
    "LogicalNetwork": (),
    "NetworkSite": ("logicalNetwork", "subnets"),
    "Host": ("site", "providerAddresses"),
    "ProviderRoute": ("site", "prefix", "nextHop"),
    "ProviderAddress": ("providerAddress", "host"),
    "IPPool": ("site", "vmSubnet", "range"),
    "MACPool": ("range",),
    "VMNetwork": ("logicalNetwork",),
    "VMSubnet": ("vmNetwork", "prefixes", "vsid", "translation"),
    "Port": ("vmSubnet", "host", "addresses"),
    "CustomerRoute": ("vmNetwork", "prefix", "nextHop"),
    "LookupRecord": ("virtualSubnetId", "customerAddress", "macAddress", "providerAddress", "host"),
}
"""Of each kind the fields that a table has room for, within 100 columns; `-o wide` has all."""

HOST_KINDS = ("Host", "Port")
"""Those that have a state."""


def name_of(identity: "ObjectId") -> str:
    """As every command takes it."""
    return f"{identity.kind.lower()}/{identity.qualified_name}"


def cells(view: "View", wide: bool, show_labels: bool, several_kinds: bool) -> dict[str, Any]:
    """A row of a table: cells by the names of fields, in order."""
    from policy.kinds import codec
    from tools.text import age

    item, kind = view.complete, view.identity.kind
    spec = codec.write_all(item)
    fields = [field for field in NARROW[kind] if field in spec]
    if wide:
        fields += [field for field in spec if field not in fields]
    whose = {"tenant": view.identity.tenant} if kinds.take_tenants(kind) and not several_kinds else {}
    row: dict[str, Any] = {**whose, "name": name_of(view.identity) if several_kinds else view.identity.name}
    row |= {field: spec[field] for field in fields}
    if kind in HOST_KINDS:
        row["state"] = view.status and view.status.state
    if wide and kind == "Port":
        row["link"] = view.status and view.status.link
    row["age"] = "?" if view.created is None else age(time.time() - view.created)
    if show_labels:
        row["labels"] = ",".join(f"{key}={value}" for key, value in view.labels.items())
    return row
