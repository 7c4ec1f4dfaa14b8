"""Kinds of a tenant: networks, subnets, ports and routes inside them."""

from dataclasses import dataclass
from typing import Annotated, Any

from policy.errors import ObjectId
from policy.kinds.declare import Field, Section, Values, kind
from policy.kinds.limits import BROADCAST, RATE_LIMIT, USUAL_BROADCAST, Broadcast, RateLimit
from policy.kinds.scalars import (
    ADDRESS,
    DRIVER,
    INTERFACE,
    MAC,
    METRIC,
    NAME,
    PREFIX,
    QUEUES,
    ROUTE_PREFIX,
    SOURCE,
    SPIN,
    SPIN_LEFT_OUT,
    SPIN_MEANS,
    TRANSLATION,
    USER,
    VSID,
)
from policy.kinds.values import (
    DEFAULT_BROADCAST_RATE,
    NO_MAC,
    Address,
    AttachKind,
    Driver,
    Labels,
    Mac,
    Prefix,
    Spin,
    Translation,
)
from policy.kinds.yaml_reader import Fields


@kind("A routing domain: the isolation boundary. Its subnets are routed to each other only.", of_tenant=True)
@dataclass(frozen=True, slots=True)
class VMNetwork:
    """A routing domain: the isolation boundary."""

    tenant: str
    name: str
    logical_network: Annotated[
        str,
        Field(
            NAME, "The logical network it is part of.", "fabric", required=True, refers_to="LogicalNetwork"
        ),
    ]
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("VMNetwork", self.tenant, self.name)


@kind("A subnet of a VM network: one VSID, one broadcast domain.", of_tenant=True)
@dataclass(frozen=True, slots=True)
class VMSubnet:
    """A tenant's subnet: one VSID. In a Policy, `gateways` are those of `prefixes`, in order."""

    tenant: str
    name: str
    vm_network: Annotated[
        str, Field(NAME, "The VM network it is part of.", "Blue_VMNet", required=True, refers_to="VMNetwork")
    ]
    prefixes: Annotated[
        tuple[Prefix, ...],
        Field(
            PREFIX,
            "Its prefixes, of either family; none overlaps another of the VM network.",
            '[10.1.1.0/24, "fd00:1:1::/64"]',
            required=True,
        ),
    ]
    gateways: Annotated[
        tuple[Address, ...],
        Field(
            ADDRESS,
            "The gateway of each prefix, answered for on every host.",
            "[10.1.1.254]",
            left_out="network address + 1 of each prefix",
        ),
    ] = ()
    vsid: Annotated[
        int,
        Field(
            VSID,
            "Its virtual subnet id: 4096..16777214, its own.",
            "5001",
            left_out="one that nobody has, chosen by a hash of the name",
        ),
    ] = 0
    translation: Annotated[
        Translation,
        Field(
            TRANSLATION,
            "How its packets cross the provider network.",
            "rewrite",
            left_out="nvgre",
            decisive=True,
        ),
    ] = Translation.NVGRE
    labels: Labels = ()
    rate_limit: Annotated[
        RateLimit | None,
        Field(
            RATE_LIMIT,
            "How much each of its ports may send, unless the port has a limit of its own.",
            "{packetsPerSecond: 20000, bytesPerSecond: 125000000}",
            left_out="as much as it likes",
        ),
    ] = None
    broadcast: Annotated[
        Broadcast,
        Field(
            BROADCAST,
            "What its VMs send to all of them or to a group; under rewrite nothing of that passes.",
            "{packetsPerSecond: 200}",
            left_out=f"{{enabled: true, packetsPerSecond: {DEFAULT_BROADCAST_RATE}}}",
        ),
    ] = USUAL_BROADCAST

    @property
    def id(self) -> ObjectId:
        return ObjectId("VMSubnet", self.tenant, self.name)

    @property
    def network_id(self) -> ObjectId:
        return ObjectId("VMNetwork", self.tenant, self.vm_network)

    @property
    def floods(self) -> bool:
        """Whether what is sent to a group goes to all of its VMs."""
        return self.translation is Translation.NVGRE and self.broadcast.enabled

    def prefix_of(self, address: Address) -> Prefix | None:
        """The prefix of this subnet that holds `address`."""
        return next((prefix for prefix in self.prefixes if address in prefix), None)

    def gateway_of(self, prefix: Prefix) -> Address:
        """The gateway of one of its prefixes: the stated one, else network address + 1."""
        stated = (gateway for gateway in self.gateways if gateway in prefix)
        return next(stated, prefix.network_address + 1)


@dataclass(frozen=True, slots=True)
class Attach:
    """Where a port's device is. `netns` is "" for the host's own namespace. Of a vm: `user` who may open the
    TAP besides root, "" for nobody, and `queues` how many it has, 0 where that is not stated.
    """

    kind: AttachKind
    device: str
    netns: str = ""
    driver: Driver = Driver.AUTO
    spin: Spin = Spin.AUTO
    user: str = ""
    queues: int = 0

    @property
    def faults(self) -> list[tuple[str, str]]:
        """Fields that can't be as they are, and why."""
        vms = [("user", self.user), ("queues", self.queues)]
        idle = [(name, "means nothing without vm") for name, value in vms if value]
        found = [("netns", self.netns_fault), ("driver", self.driver_fault)]
        return [each for each in found if each[1]] + (idle if self.kind is not AttachKind.VM else [])

    @property
    def netns_fault(self) -> str:
        """Why `netns` can't be as it is; "" if it can. Of a TAP and of a veth the kernel of the namespace is
        the VM: the host's own would be the tenant.
        """
        match self.kind, bool(self.netns):
            case AttachKind.TAP, False:
                return (
                    "missing: the VM of a tap is the kernel of its network namespace, which must not be the "
                    "host's own; for a hypervisor's TAP use vm: NAME instead"
                )
            case AttachKind.VETH, False:
                return "missing: a veth needs a network namespace for its other end"
            case AttachKind.DEVICE, True:
                return "a device that exists is looked for in the host's own namespace"
            case AttachKind.VM, True:
                return "a hypervisor opens its TAP in the host's own namespace"
        return ""

    @property
    def driver_fault(self) -> str:
        """Why `driver` can't be as it is; "" if it can."""
        is_fault = self.kind is AttachKind.TAP and self.driver is not Driver.AUTO
        return (
            "a tap is read through its own descriptors: only a veth, a device or a vm has a choice"
            if is_fault
            else ""
        )


def _attach(values: Values, fields: Fields | None) -> Attach | None:
    """One of four; fields: where to report what is wrong, None if that has been done before."""
    stated = [kind for kind in AttachKind if fields is not None and fields.has(kind)]
    if fields is not None and len(stated) != 1:
        fields.report("", f"expected one of {', '.join(AttachKind)}, not {' and '.join(stated) or 'none'}")
        return None
    device = next(((kind, values[kind]) for kind in AttachKind if values[kind]), None)
    if device is None:
        return None
    attach = Attach(*device, *(values[name] for name in ("netns", "driver", "spin", "user", "queues")))
    if fields is not None:
        for name, fault in attach.faults:
            if not fields.wrong(name):
                fields.report(name, fault)
    return attach


def _write_attach(attach: Attach) -> dict[str, Any]:
    stated: dict[str, Any] = {str(attach.kind): attach.device}
    if attach.netns:
        stated["netns"] = attach.netns
    if attach.driver is not Driver.AUTO:
        stated["driver"] = str(attach.driver)
    if attach.spin is not Spin.AUTO:
        stated["spin"] = str(attach.spin)
    if attach.user:
        stated["user"] = attach.user
    if attach.queues:
        stated["queues"] = attach.queues
    return stated


ATTACH = Section(
    (
        Field(
            INTERFACE,
            "A TAP to make in netns, whose kernel is the VM: for containers and tests, not for a hypervisor.",
            "eth0",
            "the port is no TAP",
            attribute="tap",
            default="",
        ),
        Field(
            INTERFACE,
            "A veth to make: the name of the end in netns, whose kernel is the VM; for containers.",
            "eth0",
            "the port is no veth",
            attribute="veth",
            default="",
        ),
        Field(
            INTERFACE,
            "A device of the host that others make and that leads to a VM, such as a hypervisor's TAP. "
            "It may come and go.",
            "vnet7",
            "no such device is used",
            attribute="device",
            default="",
        ),
        Field(
            INTERFACE,
            "A TAP to make in the host's namespace for a hypervisor, which opens it and may come and go: "
            "QEMU, libvirt with managed='no', Firecracker, cloud-hypervisor.",
            "vm0",
            "the port is no hypervisor's TAP of isolane's",
            attribute="vm",
            default="",
        ),
        Field(
            NAME,
            "The network namespace of the VM, where the TAP or the veth's end is put.",
            "blue-web",
            "of a device and a vm: the host's own; tap and veth need it",
            attribute="netns",
            default="",
        ),
        Field(
            DRIVER,
            "How a veth, a device or a vm is opened: packet, with checksums and segmentation left to it, or "
            "afxdp, for small packets at high rates: the VM then does both itself.",
            "afxdp",
            "auto, which is packet",
            attribute="driver",
            default=Driver.AUTO,
        ),
        Field(SPIN, SPIN_MEANS, "never", SPIN_LEFT_OUT, attribute="spin", default=Spin.AUTO),
        Field(
            USER,
            "Of a vm: who may open it besides root, by name or number on its host.",
            "libvirt-qemu",
            "root alone",
            attribute="user",
            default="",
        ),
        Field(
            QUEUES,
            "Of a vm: how many queues its hypervisor opens. With more than one the TAP is multi-queue, which "
            "a hypervisor that asks for one can't open.",
            "4",
            "one",
            attribute="queues",
            default=0,
        ),
    ),
    _attach,
    _write_attach,
)
"""One of four names the device: not an attribute a field."""


@kind("A VM's network interface.", of_tenant=True)
@dataclass(frozen=True, slots=True)
class Port:
    """A VM's vNIC. `provider_addresses`: under rewrite one for each address, in their order; else none."""

    tenant: str
    name: str
    vm_subnet: Annotated[
        str, Field(NAME, "The VM subnet it is in.", "Blue_VMSubnet1", required=True, refers_to="VMSubnet")
    ]
    host: Annotated[str, Field(NAME, "The host its VM runs on.", "h1", required=True, refers_to="Host")]
    addresses: Annotated[
        tuple[Address, ...],
        Field(
            ADDRESS,
            "Its customer addresses.",
            '[10.1.1.10, "fd00:1:1::10"]',
            left_out="one of each prefix of the subnet, chosen by a hash of the name",
        ),
    ] = ()
    mac: Annotated[
        Mac,
        Field(
            MAC,
            "The VM's MAC.",
            '"02:bb:00:00:00:10"',
            left_out="one that nobody has, chosen by a hash of the name",
        ),
    ] = NO_MAC
    provider_addresses: Annotated[
        tuple[Address, ...],
        Field(
            ADDRESS,
            "Under rewrite: a provider address for each of `addresses`, in their order.",
            '[192.168.77.150, "fd77::150"]',
            left_out="under rewrite one of the site's pools for each; under NVGRE none",
        ),
    ] = ()
    allowed_sources: Annotated[
        tuple[Prefix, ...],
        Field(
            SOURCE,
            "More prefixes that it may send from, such as a router's networks.",
            "[10.9.0.0/16]",
            left_out="none but its own addresses",
        ),
    ] = ()
    attach: Annotated[
        Attach | None,
        Field(
            ATTACH,
            "The device that leads to the VM: one of tap, veth, device and vm.",
            "{tap: eth0, netns: blue-web}",
            left_out="it has no device; its address is known all the same",
        ),
    ] = None
    labels: Labels = ()
    rate_limit: Annotated[
        RateLimit | None,
        Field(
            RATE_LIMIT,
            "How much it may send, in place of its subnet's limit; what is more is dropped.",
            "{packetsPerSecond: 20000, bytesPerSecond: 125000000}",
            left_out="its subnet's, if that has one",
        ),
    ] = None

    @property
    def id(self) -> ObjectId:
        return ObjectId("Port", self.tenant, self.name)

    @property
    def subnet_id(self) -> ObjectId:
        return ObjectId("VMSubnet", self.tenant, self.vm_subnet)


@kind("A way inside a VM network: a prefix behind one of its ports, such as an appliance.", of_tenant=True)
@dataclass(frozen=True, slots=True)
class CustomerRoute:
    """In a VM network: a prefix that is reached by the port with address `next_hop`."""

    tenant: str
    name: str
    vm_network: Annotated[
        str, Field(NAME, "The VM network that has it.", "Blue_VMNet", required=True, refers_to="VMNetwork")
    ]
    prefix: Annotated[Prefix | None, Field(ROUTE_PREFIX, "Where it leads.", "10.9.0.0/16", required=True)] = (
        None
    )
    next_hop: Annotated[
        Address | None,
        Field(ADDRESS, "A customer address in a subnet of the VM network.", "10.1.1.10", required=True),
    ] = None
    metric: Annotated[
        int, Field(METRIC, "Of several to one prefix the lowest counts.", "10", left_out="0")
    ] = 0
    virtual_subnet_id: Annotated[
        int,
        Field(
            VSID,
            "The VSID of the VM subnet that the next hop is in: it must be the same.",
            "5001",
            left_out="that of the next hop's VM subnet",
        ),
    ] = 0
    labels: Labels = ()

    @property
    def id(self) -> ObjectId:
        return ObjectId("CustomerRoute", self.tenant, self.name)

    @property
    def network_id(self) -> ObjectId:
        return ObjectId("VMNetwork", self.tenant, self.vm_network)
