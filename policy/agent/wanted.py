"""Which devices the ports of a host are to have, by its policy. Pure."""

from dataclasses import dataclass, replace

from dataplane.host.device import Note, Opening, Terms, VmTap
from policy.agent.undo_log import DeviceKey
from policy.compile.compiler import tenant_mtu
from policy.kinds.model import UNDERLAY_PORT, Attach, AttachKind, Driver, Mac, Policy, Spin

UNDERLAY_ID = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A port that is to have a device. attach: None for the underlay."""

    id: int
    name: str
    attach: Attach | None
    device: str
    mac: Mac
    mtu: int
    driver: Driver = Driver.AUTO
    owner: str = ""
    """The VM network: a device of one is never a port of another."""
    spins: bool = True

    @property
    def opening(self) -> Opening:
        return Opening(str(self.attach.kind)) if self.attach else Opening.UNDERLAY

    @property
    def namespace(self) -> str | None:
        return (self.attach.netns if self.attach else "") or None

    @property
    def key(self) -> DeviceKey:
        return self.opening, self.device, self.namespace

    def terms(self, queues: int, memory: int | None, note: Note) -> Terms:
        """memory: the core's, for AF_XDP. note: is told what there is to undo before it is done."""
        return Terms(self.mac, self.mtu, queues, self.driver, memory, note, self.tap)

    @property
    def tap(self) -> VmTap | None:
        """For a hypervisor."""
        if self.attach is None or self.attach.kind is not AttachKind.VM:
            return None
        return VmTap(self.attach.user or "root", self.attach.queues > 1)

    def descriptors(self, queues: int) -> int:
        """That its device takes: one a queue; by AF_XDP another each, and its program's link and map."""
        return 2 * queues + 2 if self.driver is Driver.AFXDP else queues

    @property
    def fault(self) -> str:
        """Why it can never have that device, which `check` refuses: of a document from before, or by another
        writer.
        """
        text = self.attach.netns_fault if self.attach else ""
        return text and f"{self.opening.words(self.device, self.namespace)}: attach.netns: {text}"


def wanted_of(policy: Policy, host: str, ids: dict[str, int], netns_prefix: str = "") -> dict[str, Wanted]:
    """By port name, TENANT/NAME. netns_prefix: goes before every attach.netns."""
    owner = policy.host_by_name.get(host)
    if owner is None or not owner.managed:
        return {}
    mtu = tenant_mtu(policy)
    found = {
        UNDERLAY_PORT: Wanted(
            UNDERLAY_ID,
            UNDERLAY_PORT,
            None,
            owner.underlay.interface,
            owner.underlay.mac,
            owner.underlay.mtu,
            owner.underlay.driver,
            spins=owner.underlay.spin is Spin.AUTO,
        )
    }
    for port in policy.ports:
        if port.host == host and port.attach:
            namespace = netns_prefix + port.attach.netns if port.attach.netns else ""
            attach = replace(port.attach, netns=namespace)
            network = policy.subnet_by_id[port.subnet_id].network_id.qualified_name
            name, spins = port.id.qualified_name, attach.spin is Spin.AUTO
            found[name] = Wanted(
                ids[name], name, attach, attach.device, port.mac, mtu, attach.driver, network, spins
            )
    return found


def attaches_of(policy: Policy, host: str) -> list[Attach]:
    """Of its ports; none if isolane does not run there."""
    owner = policy.host_by_name.get(host)
    is_here = owner is not None and owner.managed
    return [port.attach for port in policy.ports if is_here and port.host == host and port.attach]
