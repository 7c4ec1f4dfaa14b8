#!/usr/bin/env bash
# Makes this checkout runnable: Debian packages that are missing, .venv, the compiled core, .venv/bin/isolane.
#   tools/setup.sh run     what `make demo` needs
#   tools/setup.sh package what `make deb` needs
#   tools/setup.sh test    what `make test` needs too
# ISOLANE_NO_APT=1 installs no Debian package. Run again it does only what is left to do. Without QEMU or the parts of its
# guests, which `test` gets too where it can, tests/vm is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
goal=${1:-run}
root=$PWD
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# ---- Python -------------------------------------------------------------------------------------------------

find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.11 or newer found (Debian: apt-get install python3)"
}

# ---- Debian packages ----------------------------------------------------------------------------------------

# have PACKAGE: is what we need of it on this machine, whoever installed it?
have() {
    case $1 in
        gcc) command -v gcc ;;
        libc6-dev) [ -e /usr/include/stdio.h ] ;;
        pkg-config) command -v pkg-config ;;
        python3-dev) "$python" -c 'import sys, sysconfig, os
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ;;
        python3-venv) "$python" -c 'import ensurepip, venv' ;;
        iproute2) command -v ip && command -v tc ;;
        iputils-ping) command -v ping ;;
        iputils-arping) arping -V 2>/dev/null | grep iputils ;;
        ethtool | fish | iperf3 | mandoc | sqlite3 | traceroute | tshark | valgrind | zsh) command -v "$1" ;;
        iputils-tracepath) command -v tracepath ;;
        mtr-tiny) command -v mtr ;;
        debhelper) command -v dh ;;
        lintian | mmdebstrap) command -v "$1" ;;
        groff-base) command -v groff ;;
        procps) command -v sysctl ;;
        qemu-system-x86) command -v qemu-system-x86_64 ;;
        libvirt-daemon-driver-qemu) command -v virt-qemu-run ;;
        openvswitch-switch) command -v ovs-vswitchd && command -v ovsdb-server ;;
        clang-14) command -v clang-14 ;;
        libclang-rt-14-dev) ls /usr/lib/llvm-14/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a ;;
        libcmocka-dev) [ -e /usr/include/cmocka.h ] ;;
    esac >/dev/null 2>&1
}

wanted_packages() {
    echo gcc libc6-dev pkg-config python3-dev python3-venv iproute2
    [ "$goal" = run ] || echo debhelper
    [ "$goal" != test ] || echo lintian mmdebstrap clang-14 libclang-rt-14-dev libcmocka-dev openvswitch-switch tshark iperf3 \
        iputils-ping iputils-arping iputils-tracepath traceroute mtr-tiny ethtool procps sqlite3 valgrind mandoc groff-base zsh fish
}

missing_packages() {
    local package
    for package in $(wanted_packages); do have "$package" || echo "$package"; done
}

# quietly LOG COMMAND...: the command's output goes to build/LOG, and is shown if it fails.
quietly() {
    local log=build/$1
    shift
    "$@" >"$log" 2>&1 && return
    tail -n 40 "$log" >&2
    die "failed: $* (all of its output is in $log)"
}

# Installs without starting a daemon: not now (policy-rc.d) and not at the next boot (disable).
apt_install() {
    local policy=/usr/sbin/policy-rc.d ours=
    if [ ! -e $policy ]; then
        ours=yes
        trap 'as_root rm -f '$policy EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
    fi
    quietly apt.log as_root apt-get -q -o DPkg::Lock::Timeout=300 update
    quietly apt.log as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"
    case " $* " in
        *" openvswitch-switch "*) as_root systemctl disable openvswitch-switch.service >/dev/null 2>&1 || true ;;
    esac
    if [ -n "$ours" ]; then
        as_root rm -f $policy
        trap - EXIT
    fi
}

install_packages() {
    local missing
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    set -- $missing
    if [ -n "${ISOLANE_NO_APT:-}" ]; then
        die "missing, and ISOLANE_NO_APT is set: $*"
    fi
    command -v apt-get >/dev/null || die "missing, and there is no apt-get to install them: $*"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "missing, and neither root nor sudo to install them: $*"
    say "installing Debian packages: $*"
    apt_install "$@"
    missing=$(missing_packages)
    [ -z "$missing" ] || die "still missing after apt-get: ${missing//$'\n'/ }"
}

# ---- guests of tests/vm -------------------------------------------------------------------------------------

# build/guest: a kernel, its modules for virtio, and busybox. They are unpacked, not installed: a kernel that is installed has
# an initramfs and a boot menu made.
guest_parts() {
    local parts=build/guest kernel
    [ ! -e $parts/complete ] || return 0
    rm -rf $parts
    mkdir -p $parts
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')
    [ -n "$kernel" ] || return 1
    (cd $parts && apt-get -q download "$kernel" busybox-static) >build/guest.log 2>&1 || return 1
    dpkg-deb --fsys-tarfile $parts/linux-image-*.deb | tar -x -C $parts --wildcards --transform 's|.*/||' --transform 's|^vmlinuz.*|vmlinuz|' \
        './boot/vmlinuz-*' '*/drivers/virtio/*.ko' '*/virtio_net.ko' '*/virtio_console.ko' '*failover.ko' || return 1
    dpkg-deb --fsys-tarfile $parts/busybox-static_*.deb | tar -x -C $parts --transform 's|.*/||' ./bin/busybox || return 1
    rm $parts/*.deb
    touch $parts/complete
}

# Not needed for anything else, so that a machine that can't have them has all other tests.
prepare_guests() {
    local without="without guests of QEMU; tests/vm will be skipped"
    if ! have qemu-system-x86 || ! have libvirt-daemon-driver-qemu; then
        if [ -n "${ISOLANE_NO_APT:-}" ] || ! command -v apt-get >/dev/null; then
            say "no qemu-system-x86_64 or no virt-qemu-run: $without"
            return
        fi
        say "installing Debian packages: qemu-system-x86 libvirt-daemon-driver-qemu"
        (apt_install qemu-system-x86 libvirt-daemon-driver-qemu) || { say "$without"; return; }
    fi
    [ -e build/guest/complete ] || say "keeping a kernel for guests in build/guest"
    guest_parts || say "no kernel for guests (build/guest.log): $without"
}

# ---- .venv --------------------------------------------------------------------------------------------------

# requirements GOAL: as pyproject.toml states them: the program's alone (wheel), with the build's (run), with all that
# is optional too (test).
requirements() {
    "$python" - "$1" <<'PY'
import sys, tomllib
with open("pyproject.toml", "rb") as f:
    p = tomllib.load(f)
wanted = p["project"]["dependencies"]
if sys.argv[1] != "wheel":
    wanted += p["build-system"]["requires"]
if sys.argv[1] == "test":
    wanted += sum(p["project"]["optional-dependencies"].values(), [])
print("\n".join(wanted))
PY
}

make_venv() {
    local stamp=.venv/isolane-$goal want
    want=$(printf '%s\n' "$root" "$("$python" -VV)" "$(requirements "$goal")")
    [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || return 0
    # A virtual environment and a build directory know their own path: a moved checkout needs new ones.
    if ! .venv/bin/pip --version 2>/dev/null | grep -qF " $root/.venv/"; then
        say "creating .venv with $python"
        "$python" -m venv --clear .venv
        rm -rf build/*
    fi
    say "installing Python packages into .venv"
    requirements "$goal" > .venv/requirements.txt
    quietly pip.log .venv/bin/python -m pip install --disable-pip-version-check -r .venv/requirements.txt
    printf '%s\n' "$want" > "$stamp"
}

# What the program needs, as wheels: from them the tests and `make deb` install it elsewhere without a network.
keep_wheels() {
    local wheels=build/wheels want
    want=$(printf '%s\n' "$("$python" -VV)" "$(requirements wheel)")
    [ "$(cat "$wheels/stamp" 2>/dev/null)" != "$want" ] || return 0
    say "keeping wheels in $wheels"
    rm -rf "$wheels"
    mkdir -p "$wheels"
    requirements wheel > "$wheels/requirements.txt"
    quietly wheels.log .venv/bin/python -m pip wheel --disable-pip-version-check -r "$wheels/requirements.txt" -w "$wheels"
    printf '%s\n' "$want" > "$wheels/stamp"
}

# put FILE [MODE]: standard input becomes its content, at once: somebody may be running what is there.
put() {
    cat > "$1.new"
    chmod "${2:-644}" "$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

# The packages are used where they lie; the extension is built in build/py and linked beside its Python.
link_project() {
    local site version info each core=../../build/py/dataplane/_core.abi3.so link=dataplane/binding/_core.abi3.so
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$root" | put "$site/isolane.pth"
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
    info=$site/isolane-$version.dist-info
    for each in "$site"/isolane-*.dist-info; do [ "$each" = "$info" ] || rm -rf "$each"; done
    mkdir -p "$info"
    {
        printf 'Metadata-Version: 2.1\nName: isolane\nVersion: %s\n' "$version"
        sed -n 's/^report = \["\(.*\)"\]$/Provides-Extra: report\nRequires-Dist: \1; extra == "report"/p' pyproject.toml
    } | put "$info/METADATA"
    printf '#!%s\nimport sys\n\nfrom tools.cli import main\n\nsys.exit(main())\n' "$root/.venv/bin/python" | put .venv/bin/isolane 755
    [ "$(readlink "$link")" = "$core" ] || ln -sfn "$core" "$link"
}

build_core() {
    if [ ! -e build/py/build.ninja ]; then
        say "configuring the build (build/py)"
        PATH=$root/.venv/bin:$PATH quietly meson.log .venv/bin/meson setup --reconfigure build/py
    fi
    say "building the core"
    quietly build.log tools/build.sh
}

# What an earlier run as root left here would be in the way of one without.
own_files() {
    if [ "$(id -u)" != 0 ] && [ -n "$(find build .venv ! -user "$(id -u)" -print -quit 2>/dev/null)" ]; then
        say "taking over build and .venv from another user"
        as_root chown -R "$(id -u):$(id -g)" build .venv
    fi
}

mkdir -p build
own_files
python=$(find_python)
install_packages
make_venv
[ "$goal" = run ] || keep_wheels
[ "$goal" != test ] || prepare_guests
build_core
link_project
say "ready: .venv/bin/isolane"
