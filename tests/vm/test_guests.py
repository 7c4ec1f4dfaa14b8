"""Real guests on TAPs of a hypervisor: their network is there, whatever ends and begins again."""

import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from policy.errors import ObjectId
from tests.netns.agents import agent_of
from tests.netns.labs import wait_until
from tests.netns.sites import FIRST_RUN, HOSTS
from tests.vm.guest import Guest, lacking
from tests.vm.libvirt import USER, VIRT_QEMU_RUN, Domain
from tests.vm.pairs import MTU, NETWORKS, RED, Network, Pair

PAYLOAD = 8 << 20
"""Bytes: more than a guest's socket buffers, so that TCP has to wait for the network."""

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(lacking() is not None, reason=f"no guest boots here: {lacking()}"),
]

WAYS = (("h1", "h2"), ("h2", "h1"))
networks = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.translation)
families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
ways = pytest.mark.parametrize(("source", "target"), WAYS)


def address(network: Network, host: str, family: int) -> str:
    return network.addresses(host)[family == 6]


def ping(pair: Pair, source: str, address: str, size: int = 56) -> None:
    pair.guests[source].check(f"ping -c3 -i0.2 -W3 -s{size} {address} | grep ' 0% packet loss'")


def losses(pair: Pair) -> str:
    """What pings of all addresses say that lose a packet: of the other guest's, and of every gateway's."""
    ping = 'said=$(ping -c3 -i0.2 -W3 $address 2>&1); case $said in *" 0% "*) ;; *) echo "$said" ;; esac'
    said = []
    for source, target in WAYS:
        there = [each for network in NETWORKS for each in network.addresses(target) + network.gateways]
        said.append(pair.guests[source].check(f"for address in {' '.join(there)}; do ({ping}) & done; wait"))
    return "".join(said)


def all_is_well(pair: Pair) -> None:
    """Soon: a guest that has just booted has neighbours to find, on a machine that may do much else."""
    said = losses(pair)
    for _ in range(3):
        said = said and losses(pair)
    assert said == "", f"packets are lost: {said}; {pair.drops()}"


@networks
@families
@ways
def test_ping(losing_nothing: Pair, network: Network, family: int, source: str, target: str) -> None:
    """The other guest, with packets of all sizes, and the gateway."""
    pair = losing_nothing
    there = address(network, target, family)
    headers = 28 if family == 4 else 48
    for size in (56, MTU - headers, 8000):
        ping(pair, source, there, size)
    ping(pair, source, network.gateways[family == 6])


@networks
@families
@ways
def test_tcp(losing_nothing: Pair, network: Network, family: int, source: str, target: str) -> None:
    """All of it comes, and nothing else; guests leave checksums and segments to their NICs."""
    pair = losing_nothing
    send(pair.guests[source], pair.guests[target], address(network, target, family))


def send(sender: Guest, receiver: Guest, there: str) -> None:
    receiver.begin("got", "nc -l -p 5000 <>/tmp/silence")
    receiver.check("until netstat -ltn | grep -q ':5000 '; do sleep 0.1; done")
    sender.check(f"head -c {PAYLOAD} /dev/urandom >/tmp/sent")
    sender.check(f"nc {there} 5000 </tmp/sent")
    receiver.wait_for("got")
    digests = [sender.check("sha256sum </tmp/sent"), receiver.check("sha256sum </tmp/got")]
    assert digests[0] == digests[1]
    assert int(receiver.check("stat -c %s /tmp/got")) == PAYLOAD


def test_traceroute(pair: Pair) -> None:
    """One hop: the other guest's `port unreachable` reaches the socket that asked."""
    there = address(RED, "h2", 4)
    hops = pair.guests["h1"].check(f"traceroute -n -q1 -w2 -m3 {there}").splitlines()[1:]
    assert [hop.split()[1] for hop in hops] == [there]


def test_guest_reboots(pair: Pair) -> None:
    guest = pair.guests["h1"]
    before = guest.check("cat /proc/sys/kernel/random/boot_id")
    guest.reboot()
    assert guest.check("cat /proc/sys/kernel/random/boot_id") != before
    all_is_well(pair)


@pytest.mark.parametrize("host", HOSTS)
def test_hypervisor_is_killed(pair: Pair, host: str) -> None:
    """On h1 the TAPs stay, isolane's too, on h2 they go with it and come back; nobody has to do anything."""
    pair.guests[host].kill()
    other = next(each for each in HOSTS if each != host)
    there = address(RED, host, 4)
    wait_until(lambda: pair.guests[other].run(f"ping -c1 -W1 {there}").status != 0, "who answers?", 20)
    pair.guests[host].start()
    pair.guests[host].wait_up()
    all_is_well(pair)
    pair.site.settle()


def test_agent_is_killed(pair: Pair) -> None:
    """No packet is lost, while it is away and when it is back."""
    guest = pair.guests["h2"]
    for network in NETWORKS:
        guest.begin(network.tenant, f"ping -i0.1 {address(network, 'h1', 4)}")
    pair.site.kill_agent("h1")
    all_is_well(pair)
    pair.site.start_agent("h1")
    wait_until(lambda: agent_of(pair.site, "h1") == pair.site.nodes["h1"].agent_pid, "no agent", FIRST_RUN)
    pair.site.settle()
    all_is_well(pair)
    guest.check("killall -INT ping")
    for network in NETWORKS:
        guest.wait_for(network.tenant)
        said = guest.check(f"tail -n 3 /tmp/{network.tenant}")
        counts = re.search(r"(\d+) packets transmitted, (\d+) packets received", said)
        assert counts is not None and int(counts[1]) > 20, said
        assert int(counts[1]) - int(counts[2]) <= 1, "none but what was on its way when ping ended"


def test_data_plane_is_killed(pair: Pair) -> None:
    """The devices are attached to the next one; a guest notices a pause, no more."""
    pair.site.kill_dataplane("h1")
    pair.site.start_dataplane("h1")
    pair.site.client_when_up("h1").close()
    pair.site.settle()
    all_is_well(pair)


@pytest.fixture
def domain(pair: Pair, cleanup: ExitStack) -> Domain:
    """On h2, in Red, with its port, whose TAP isolane makes for that user; not yet started."""
    if shutil.which(VIRT_QEMU_RUN) is None:
        pytest.skip(f"no guest boots here: {VIRT_QEMU_RUN} is not installed")
    directory = Path(cleanup.enter_context(TemporaryDirectory()))
    nic = RED.nic("domain", "domain0")
    pair.site.commit(RED.port("domain", "h2", nic, "vm", f", user: {USER.pw_name}"))
    cleanup.callback(pair.site.delete, [ObjectId("Port", "red", "domain")])
    pair.wait_for_tap("h2", nic.device)
    made = Domain(pair.site.nodes["h2"].namespace, [nic], directory)
    cleanup.callback(made.kill)
    return made


def test_libvirt_domain(pair: Pair, domain: Domain) -> None:
    """Of a user who may nothing: the TAP is this user's. The guest has the MTU that its XML states."""
    domain.start()
    domain.wait_up()
    pair.site.settle()
    assert domain.check("cat /sys/class/net/eth0/mtu").strip() == str(MTU)
    for here, there in (("h1", "domain"), ("domain", "h1"), ("h2", "domain")):
        guests = {**pair.guests, "domain": domain}
        for family in (4, 6):
            send(guests[here], guests[there], address(RED, there, family))
