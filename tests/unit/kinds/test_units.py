"""The units of systemd/: what they say is there, known, and honoured."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from dataplane.host import locks
from dataplane.process import instances, privileges, seccomp
from policy.store.locations import DEFAULT_LOCATION
from tests.native import ROOT
from tools.cli import main

UNITS = {name: ROOT / "systemd" / f"isolane-{name}@.service" for name in ("agent", "dataplane")}
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(
    ANALYZE is None, reason="checks by systemd-analyze need the package systemd"
)


class Unit:
    """Values by setting, in order; a setting may come several times."""

    def __init__(self, path: Path) -> None:
        self.values: dict[str, list[str]] = {}
        for line in path.read_text().splitlines():
            if line and line[0] not in "#[":
                setting, equals, value = line.partition("=")
                assert equals and setting.strip() == setting, line
                self.values.setdefault(setting, []).append(value)

    def one(self, setting: str) -> str:
        (value,) = self.values[setting]
        return value

    def words(self, setting: str) -> list[str]:
        return " ".join(self.values.get(setting, [])).split()


@pytest.fixture(params=sorted(UNITS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def unit(name: str) -> Unit:
    return Unit(UNITS[name])


def seconds(text: str) -> float:
    number, scale = re.fullmatch(r"(\d+)(ms|s|min)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 0.001, "s": 1.0, "min": 60.0}[scale]


def test_it_is_an_ini_file(name: str) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(UNITS[name])
    assert parser.sections() == ["Unit", "Service", "Install"]


def test_the_command_is_one(name: str, unit: Unit) -> None:
    program, verb, *options = shlex.split(unit.one("ExecStart").replace("%i", "h1"))
    assert (program, verb) == ("/usr/local/bin/isolane", name)
    command = main.get_command(None, verb)  # type: ignore[arg-type]
    assert command is not None
    context = command.make_context(verb, list(options))
    chosen = {"agent": "host", "dataplane": "instance"}[verb]
    assert context.params[chosen] == "h1"
    shown = CliRunner().invoke(main, [verb, "--help"]).output
    assert {option for option in options if option[0] == "-"} <= set(re.findall(r"--[a-z-]+", shown))


def test_it_tells_systemd_how_it_is(unit: Unit) -> None:
    """READY=1, WATCHDOG=1: that they come is tested with the processes, in tests/netns and test_follow.py."""
    assert (unit.one("Type"), unit.one("NotifyAccess")) == ("notify", "main")
    assert seconds(unit.one("WatchdogSec")) >= 30
    assert (unit.one("Restart"), unit.one("StartLimitIntervalSec")) == ("always", "0")
    assert seconds(unit.one("RestartSec")) <= 1
    assert "%i" in unit.one("Description")


def test_either_may_restart_alone() -> None:
    agent, dataplane = (Unit(UNITS[name]) for name in ("agent", "dataplane"))
    assert "isolane-dataplane@%i.service" in agent.words("After")
    assert "network-online.target" not in agent.words("After"), "VMs would wait for what others want online"
    assert agent.words("Wants") == ["isolane-dataplane@%i.service"]
    for unit in (agent, dataplane):
        assert not unit.values.keys() & {"BindsTo", "PartOf", "Requires", "Requisite"}
        assert unit.one("WantedBy") == "multi-user.target"


def test_descriptors_of_all_ports_fit(unit: Unit) -> None:
    assert int(unit.one("LimitNOFILE")) >= 32 * 1024


def test_what_the_agent_does_is_allowed() -> None:
    unit = Unit(UNITS["agent"])
    assert set(unit.words("CapabilityBoundingSet")) == {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"}
    assert unit.words("SupplementaryGroups") == [instances.USER], "the socket's directory is not root's"
    families = {"AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_XDP", "AF_INET", "AF_INET6"}
    assert set(unit.words("RestrictAddressFamilies")) == families
    assert unit.one("LimitMEMLOCK") == "infinity", "for AF_XDP"
    assert unit.one("RestrictNamespaces") == "net", "setns"
    assert unit.one("DeviceAllow") == "/dev/net/tun rw" and "PrivateDevices" not in unit.values
    assert unit.one("ProtectKernelTunables") == "no", "/proc/sys/net"
    assert unit.one("ProtectSystem") == "strict"
    assert Path("/run", unit.one("RuntimeDirectory")) == locks.DIRECTORY
    assert unit.one("RuntimeDirectoryMode") == "0700", "the data plane does not"
    assert unit.one("RuntimeDirectoryPreserve") == "yes", "its successor reads it"
    assert Path(DEFAULT_LOCATION).parent == Path("/var/lib", unit.one("StateDirectory"))
    forbidden = {"PrivateNetwork", "PrivateUsers", "ProcSubset", "PrivateMounts", "MountFlags"}
    assert not unit.values.keys() & forbidden
    assert "bpf" in unit.words("SystemCallFilter")


def test_what_the_data_plane_does_is_allowed() -> None:
    unit = Unit(UNITS["dataplane"])
    assert unit.words("CapabilityBoundingSet") == []
    assert unit.one("User") == privileges.USER
    assert unit.words("RestrictAddressFamilies") == ["AF_UNIX"]
    assert Path("/run", unit.one("RuntimeDirectory")) == instances.socket_path("%i").parent
    assert "landlock_restrict_self" in unit.words("SystemCallFilter")
    assert unit.one("RuntimeDirectoryMode") == "0710", "who may read it could lock it"
    assert int(unit.one("FileDescriptorStoreMax")) >= 1024


def test_users_are_those_that_the_processes_know() -> None:
    lines = (ROOT / "systemd" / "isolane.sysusers").read_text().splitlines()
    made = [line.split()[:2] for line in lines if not line.startswith("#")]
    assert made == [["u", instances.USER], ["u", privileges.USER], ["m", privileges.USER]]
    assert lines[-1].split()[2] == instances.USER


@needs_systemd
def test_groups_of_system_calls_exist(unit: Unit) -> None:
    known = syscalls()
    for word in unit.words("SystemCallFilter"):
        assert word.lstrip("~") in known


@needs_systemd
def test_what_is_allowed_and_what_is_not(name: str, unit: Unit) -> None:
    allowed: set[str] = set()
    for line in unit.values["SystemCallFilter"]:
        found = set().union(*(expand(word) for word in line.lstrip("~").split()))
        allowed = allowed - found if line[0] == "~" else allowed | found
    assert {"ioctl", "sendmsg", "recvmsg", "futex", "prlimit64", "mmap"} <= allowed
    assert {"setns", "bpf", "flock", "fsync", "inotify_add_watch"} <= allowed or name == "dataplane"
    assert name == "agent" or {"seccomp", *seccomp.CALLS} <= allowed
    assert not allowed & {"mount", "ptrace", "init_module", "reboot", "setuid", "io_uring_setup"}


def syscalls() -> dict[str, set[str]]:
    """Group, or call, to the words that `systemd-analyze syscall-filter` has for it."""
    assert ANALYZE is not None
    text = subprocess.run([ANALYZE, "syscall-filter"], capture_output=True, text=True, check=True).stdout
    groups: dict[str, set[str]] = {}
    group = ""
    for line in text.splitlines():
        if line.startswith("@"):
            group = line.strip()
            groups[group] = set()
        elif line.startswith("    ") and line.strip()[0] != "#":
            groups[group].add(line.strip())
            groups.setdefault(line.strip(), set())
    return groups


def expand(word: str) -> set[str]:
    known = syscalls()
    if word[0] != "@":
        return {word}
    return set().union(*(expand(part) if part[0] == "@" else {part} for part in known[word]))


@needs_systemd
def test_systemd_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    assert ANALYZE is not None
    program = tmp_path / "isolane"
    program.write_text("")
    program.chmod(0o755)
    for each in UNITS.values():
        text = each.read_text().replace("/usr/local/bin/isolane", str(program))
        (tmp_path / each.name.replace("@", "@h1")).write_text(text)
        (tmp_path / each.name).write_text(text)
    path = tmp_path / f"isolane-{name}@h1.service"
    command = [ANALYZE, "verify", "--man=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "isolane" in line]
    assert (done.returncode, said) == (0, [])


@needs_systemd
def test_exposure(name: str) -> None:
    """As `systemd-analyze security` counts it: 0 best, 10 worst."""
    assert ANALYZE is not None
    command = [ANALYZE, "security", "--offline=true", "--no-pager", str(UNITS[name])]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", text)
    assert found is not None, text
    assert float(found[1]) <= {"agent": 3.3, "dataplane": 1.7}[name]
