"""HNV's own objects, for operators who think in them: what follows from no Port."""

from dataclasses import dataclass
from typing import Annotated

from policy.errors import ObjectId
from policy.kinds.declare import Field, kind
from policy.kinds.scalars import (
    ADDRESS,
    MAC,
    NAME,
    PREFIX_LENGTH,
    RECORD_ADDRESS,
    RECORD_TYPE,
    TEXT,
    TRANSLATION,
    VSID,
)
from policy.kinds.values import NO_MAC, Address, Labels, Mac, RecordType, Translation


@kind(
    "HNV's own object: where a customer address is that is no Port's own, such as a VM of a "
    "foreign host, one more address of a port, or a gateway to everything else. Its "
    "virtualSubnetId, customerAddress, macAddress and type stay as they are: to change one, "
    "delete it first.",
    of_tenant=True,
)
@dataclass(frozen=True, slots=True)
class LookupRecord:
    """(VSID, CA) -> MAC, PA, host, as HNV states it: for a CA that is no Port's own address.

    `port`: the port of `host` behind which the CA is; hosts that isolane runs on know no other place for it.
    `provider_address`: None for the shared one of the host that ports' records have.
    """

    tenant: str
    name: str
    virtual_subnet_id: Annotated[
        int,
        Field(
            VSID,
            "The VSID that a VM subnet of the record's tenant states or was given.",
            "5001",
            required=True,
        ),
    ] = 0
    customer_address: Annotated[
        Address | None,
        Field(
            RECORD_ADDRESS,
            "The customer address, in a prefix of the subnet; of a gateway-wildcard 0.0.0.0 or ::, "
            "for all addresses of that family that have no record.",
            "10.1.1.30",
            required=True,
        ),
    ] = None
    mac_address: Annotated[
        Mac,
        Field(
            MAC,
            "The VM's MAC: that of its port. Records of one host may share it.",
            '"02:bb:00:00:00:30"',
            required=True,
        ),
    ] = NO_MAC
    host: Annotated[str, Field(NAME, "The host its VM runs on.", "ovs1", required=True, refers_to="Host")] = (
        ""
    )
    port: Annotated[
        str,
        Field(
            NAME,
            "The Port of that host behind which the address is, in the same VM subnet.",
            "blue-web",
            left_out="on a host that isolane runs on an error; elsewhere the VM is known by no Port",
            refers_to="Port",
        ),
    ] = ""
    provider_address: Annotated[
        Address | None,
        Field(
            ADDRESS,
            "Under nvgre a shared provider address of the host, under rewrite one of its own.",
            "192.168.77.9",
            left_out="under nvgre the host's, of a family that the sender has; under rewrite an error",
        ),
    ] = None
    rule: Annotated[
        Translation,
        Field(
            TRANSLATION,
            "How its packets cross the provider network: HNV's TranslationMethodEncap is nvgre, "
            "TranslationMethodNat is rewrite.",
            "rewrite",
            left_out="nvgre",
            decisive=True,
        ),
    ] = Translation.NVGRE
    type: Annotated[
        RecordType,
        Field(
            RECORD_TYPE,
            "What it is for: an address that is known (static) or was learned (dynamic), or all that "
            "have no record (gateway-wildcard). l2only is not supported yet.",
            "gateway-wildcard",
            left_out="static",
            decisive=True,
        ),
    ] = RecordType.STATIC
    customer_id: Annotated[
        str, Field(TEXT, "HNV's CustomerID: words for people.", "contract 17", left_out="none")
    ] = ""
    context: Annotated[str, Field(TEXT, "HNV's Context: words for people.", "imported", left_out="none")] = ""
    vm_name: Annotated[str, Field(TEXT, "HNV's VMName: words for people.", "blue-db", left_out="none")] = ""
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("LookupRecord", self.tenant, self.name)

    @property
    def port_id(self) -> ObjectId:
        return ObjectId("Port", self.tenant, self.port)


@kind("HNV's own object: one more shared provider address of a host, beside its `providerAddresses`.")
@dataclass(frozen=True, slots=True)
class ProviderAddress:
    """One more shared PA of a host: it counts like one of the host's `provider_addresses`."""

    name: str
    host: Annotated[str, Field(NAME, "The host that has it.", "h1", required=True, refers_to="Host")]
    provider_address: Annotated[
        Address | None,
        Field(ADDRESS, "The address, in a subnet of the host's site.", "192.168.77.120", required=True),
    ] = None
    prefix_length: Annotated[
        int,
        Field(
            PREFIX_LENGTH,
            "That of the site's subnet: it must be the same.",
            "24",
            left_out="that of the site's subnet",
        ),
    ] = 0
    mac_address: Annotated[
        Mac,
        Field(
            MAC,
            "The MAC of the host's underlay, which all its addresses share: it must be the same.",
            '"02:00:00:00:77:01"',
            left_out="that of the host's underlay",
        ),
    ] = NO_MAC
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("ProviderAddress", "", self.name)
