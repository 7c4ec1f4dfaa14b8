"""The Debian package in a clean root: built, installed, used, removed, purged."""

import gzip
import json
import os
import platform
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.native import ROOT

BASE = ("python3", "iproute2", "systemd-standalone-sysusers")
LEFT = re.compile(
    r"/(var/(lib/(dpkg|apt|systemd)|log|cache)|etc/(passwd|group|shadow|gshadow|subuid|subgid)|tmp)"
)
"""What a package may leave: the package manager's own, and users, which Debian never takes away."""

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a root of its own"),
]


@pytest.fixture(scope="module")
def package() -> Path:
    run("make", "-C", ROOT, "deb")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return ROOT / "build" / "deb" / f"isolane_{version}_amd64.deb"


@dataclass(frozen=True)
class Root:
    path: Path

    def __call__(self, *command: str) -> str:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C",
        }
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        alone = ("unshare", "--mount", "--pid", "--fork", f"--mount-proc={self.path}/proc")
        return run(*alone, "chroot", self.path, *command, env=environment | proxies)

    def install(self, package: Path) -> None:
        (self.path / "tmp" / package.name).write_bytes(package.read_bytes())
        self("apt-get", "-q", "-y", "--no-install-recommends", "install", f"/tmp/{package.name}")

    def files(self) -> set[str]:
        listed = run("find", self.path, "-xdev", "-printf", "/%P\n").splitlines()
        return {path for path in listed if not LEFT.match(path) and "__pycache__" not in path}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """A minimal Debian of this machine's release, from where this machine gets its packages."""
    path = tmp_path_factory.mktemp("root") / "root"
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    fields = "$(CREATED_BY) $(RELEASE) $(COMPONENT) $(SITE)"
    targets = run("apt-get", "indextargets", "--format", fields).splitlines()
    (mirror, *_) = [line.split()[3] for line in targets if line.startswith(f"Packages {release} main ")]
    options = ["--mode=root", "--variant=minbase", f"--include={','.join(BASE)}", "--dpkgopt=force-unsafe-io"]
    run(
        "mmdebstrap",
        *options,
        "--aptopt=APT::Sandbox::User root",
        release,
        path,
        f"deb {mirror} {release} main",
    )
    found = Root(path)
    found("apt-get", "-q", "update")
    yield found
    run("rm", "-rf", "--one-file-system", path)


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def test_lintian_finds_nothing(package: Path) -> None:
    assert run("lintian", "--allow-root", "--fail-on", "error,warning", package) == ""


def test_its_version_is_the_projects(package: Path) -> None:
    assert run("dpkg-deb", "-f", package, "Version").strip() == package.name.split("_")[1]


def test_it_comes_and_goes(package: Path, root: Root) -> None:
    before = root.files()
    root.install(package)
    looks_right(root)
    works(root)
    (root.path / "var/lib/isolane/more").mkdir()
    root("apt-get", "-q", "-y", "remove", "isolane")
    left = root.files() - before
    assert left == {"/etc/isolane", "/etc/isolane/agent.env", *left_of_store(root)}
    root.install(package)
    enable(root)
    root("apt-get", "-q", "-y", "purge", "isolane")
    assert root.files() == before


def looks_right(root: Root) -> None:
    assert root("getent", "group", "isolane").strip().endswith(":isolane-dataplane")
    assert "isolane-dataplane" in root("getent", "passwd")
    for name in ("agent", "dataplane"):
        unit = (root.path / f"lib/systemd/system/isolane-{name}@.service").read_text()
        assert re.findall("^ExecStart=(.*?) ", unit, re.M) == ["/usr/bin/isolane"]
    assert not list((root.path / "etc/systemd").glob("**/isolane*")), "no unit is enabled"
    for page in ("isolane", "isolane-lab", "isolane-node", "isolane-bench"):
        path = root.path / f"usr/share/man/man1/{page}.1.gz"
        assert b".SH SYNOPSIS" in gzip.decompress(path.read_bytes())
    scripts = "bash-completion/completions/isolane", "zsh/vendor-completions/_isolane"
    for script in (*scripts, "fish/vendor_completions.d/isolane.fish"):
        assert "_ISOLANE_COMPLETE" in (root.path / "usr/share" / script).read_text()
    assert list((root.path / "usr/lib/isolane").glob("**/tools/__pycache__/cli.*.pyc")), "compiled"


def works(root: Root) -> None:
    example = "/usr/share/doc/isolane/examples/blue-red.yaml"
    assert root("isolane", "--version").startswith("isolane ")
    root("isolane", "apply", "-f", example)
    assert "blue-web" in root("isolane", "get", "ports", "-o", "json")
    compiled = json.loads(root("isolane", "compile", example, "--host", "h1", "-o", "json"))
    assert compiled["records"]
    words = "--op push --records 8 --flows 8 --seconds 0.1 --json"
    benched = root("isolane", "bench", "core", *words.split())
    assert json.loads(benched)["results"][0]["drops"] == 0


def left_of_store(root: Root) -> set[str]:
    store = root.path / "var/lib/isolane"
    assert (store / "store.db").exists()
    return {f"/{path.relative_to(root.path)}" for path in (store, *store.rglob("*"))}


def enable(root: Root) -> None:
    """What `systemctl enable isolane-agent@h1` does."""
    wants = root.path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "isolane-agent@h1.service").symlink_to("/lib/systemd/system/isolane-agent@.service")
