#!/usr/bin/env bash
# Install classifyd from the bundle that this file lies in, on a machine without a network.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
OPT=/opt/classifyd ETC=/etc/classifyd VAR=/var/lib/classifyd UNITS=/etc/systemd/system
ACCOUNT=classifyd

usage() {
    cat <<'TEXT'
Usage: sudo ./install.sh [options]

  --bind ADDRESS   address to listen on (default 127.0.0.1; 0.0.0.0 for every network card)
  --port PORT      port to listen on (default 8000)
  --device DEVICE  cpu, cuda or cuda:N (default: cpu, or cuda for a CUDA bundle)
  --python PATH    the Python to use (default: python3 of the bundle's version)
  --yes            ask nothing
  --check-only     check the machine and change nothing
  --stage-only     install beside what is there and do not switch; classifydctl upgrade uses it
TEXT
}

bind="" port="" device="" python="" yes=0 check_only=0 stage_only=0
while [ $# -gt 0 ]; do
    case $1 in
        --bind) bind=$2; shift 2 ;;
        --port) port=$2; shift 2 ;;
        --device) device=$2; shift 2 ;;
        --python) python=$2; shift 2 ;;
        --yes) yes=1; shift ;;
        --check-only) check_only=1; shift ;;
        --stage-only) stage_only=1; yes=1; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "install.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
done

# shellcheck source=/dev/null # made by bundle.sh
. "$here/RELEASE"
target="$OPT/$RELEASE"
failures=0
trap 'echo "install.sh: line $LINENO failed; nothing that was there before was changed" >&2' ERR

ok() { printf '  ok       %s\n' "$1"; }
warn() { printf '  warning  %s\n' "$1"; }
fail() { printf '  failure  %s\n' "$1"; failures=$((failures + 1)); }
stop() { echo "install.sh: $1" >&2; exit 1; }

# A setting of the installation that is there already, if one is.
setting() {
    [ -r "$ETC/classifyd.toml" ] || return 0
    sed -n "s/^$1 *= *\"\{0,1\}\([^\"]*\)\"\{0,1\}$/\1/p" "$ETC/classifyd.toml" | head -n 1
}
bind=${bind:-$(setting bind)} port=${port:-$(setting port)} device=${device:-$(setting device)}
bind=${bind:-127.0.0.1} port=${port:-8000}
if [ "$FLAVOUR" = cpu ]; then device=${device:-cpu}; else device=${device:-cuda}; fi
python=${python:-$(command -v "python$PYTHON_VERSION" || true)}

check_machine() {
    [ "$(uname -m)" = "$ARCHITECTURE" ] && ok "architecture $ARCHITECTURE" \
        || fail "architecture $(uname -m): this bundle is for $ARCHITECTURE"
    grep -qw avx2 /proc/cpuinfo && ok "CPU with AVX2" \
        || warn "the CPU has no AVX2: inference will be slow"
    local glibc
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d ' ' -f 2)
    [ "$(printf '%s\n2.28\n' "${glibc:-0}" | sort -V | head -n 1)" = 2.28 ] && ok "glibc $glibc" \
        || fail "glibc ${glibc:-unknown}: 2.28 or later is needed (Debian 10, Ubuntu 20.04, RHEL 8)"
    [ -d /run/systemd/system ] && ok "systemd" || fail "systemd does not run this machine"
    check_python
    local free_mb memory_mb place=$OPT
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    free_mb=$(df -Pm "$place" | awk 'NR == 2 { print $4 }')
    [ "${free_mb:-0}" -ge "$INSTALLED_MB" ] && ok "disk: $free_mb MB free in $OPT" \
        || fail "disk: ${free_mb:-0} MB free in $OPT, $INSTALLED_MB MB are needed"
    memory_mb=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
    [ "$memory_mb" -ge 1900 ] && ok "memory: $memory_mb MB" \
        || fail "memory: $memory_mb MB, at least 2 GB are needed"
    check_port
    case $device in
        cuda*) nvidia-smi -L >/dev/null 2>&1 && ok "GPU driver" \
            || fail "device $device: nvidia-smi does not answer; install the driver or use --device cpu" ;;
    esac
}

check_python() {
    if [ -z "$python" ]; then
        fail "python$PYTHON_VERSION is not there: install python$PYTHON_VERSION and its venv module"
    elif ! "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$PYTHON_VERSION')"; then
        fail "$python is another version than $PYTHON_VERSION, for which the wheels are"
    elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        fail "$python has no venv: install python$PYTHON_VERSION-venv"
    else
        ok "$python"
    fi
}

check_port() {
    if systemctl is-active --quiet classifyd.socket 2>/dev/null; then
        ok "port $port (classifyd is installed already)"
    elif "$python" -c "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
probe = socket.socket(family)
probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
probe.bind((sys.argv[1], int(sys.argv[2])))" "$bind" "$port" 2>/dev/null; then
        ok "port $port on $bind"
    else
        fail "port $port on $bind cannot be listened on: choose another with --port"
    fi
}

stage() {
    [ -e "$target/.complete" ] && { echo "Release $RELEASE is there already"; return; }
    echo "Installing release $RELEASE into $target"
    rm -rf "$target"
    trap 'rm -rf "$target"; echo "install.sh: line $LINENO failed; $target is removed" >&2' ERR
    install -d -m 0755 "$OPT"
    cp -a "$here/release" "$target"
    "$python" -m venv "$target/venv"
    local pip=("$target/venv/bin/python" -m pip install --quiet --no-index --disable-pip-version-check
        --no-cache-dir --find-links "$here/wheels")
    "${pip[@]}" "setuptools>=77"
    "${pip[@]}" --no-build-isolation --constraint "$target/constraints.txt" --editable "$target${EXTRAS:+[$EXTRAS]}"
    chmod 0755 "$target"/deploy/*.sh "$target/deploy/classifydctl"
    chown -R root:root "$target"
    chmod -R go+rX,go-w "$target"
    touch "$target/.complete"
    trap - ERR
}

create_account() {
    getent group "$ACCOUNT" >/dev/null || groupadd --system "$ACCOUNT"
    getent passwd "$ACCOUNT" >/dev/null || useradd --system --gid "$ACCOUNT" \
        --home-dir "$VAR" --no-create-home --shell /usr/sbin/nologin "$ACCOUNT"
}

create_folders() {
    install -d -m 0755 "$OPT" "$ETC" "$ETC/licences"
    install -d -m 0750 -o "$ACCOUNT" -g "$ACCOUNT" "$VAR" "$VAR/state" "$VAR/weights"
    [ -e "$ETC/classifyd.toml" ] || cat > "$ETC/classifyd.toml" <<TOML
# Settings of classifyd; docs/settings.md lists them all. After a change:
#   systemctl restart classifyd    (bind and port: run install.sh again with --bind, --port)
bind = "$bind"
port = $port
device = "$device"
weights_dir = "$VAR/weights"
state_dir = "$VAR/state"
licence_dir = "$ETC/licences"
TOML
}

# A version never changes once it is there; what a machine serves now it goes on serving.
add_packages() {
    local folder name version
    for folder in "$here"/packages/*/*/; do
        [ -e "$folder/manifest.json" ] || continue
        version=$(basename "$folder") name=$(basename "$(dirname "$folder")")
        [ -e "$VAR/weights/$name/$version" ] && continue
        if [ -d "$VAR/weights/$name" ] && [ ! -e "$VAR/weights/$name/ACTIVE" ]; then
            ls "$VAR/weights/$name" | head -n 1 > "$VAR/weights/$name/ACTIVE"
        fi
        mkdir -p "$VAR/weights/$name"
        cp -r "$folder" "$VAR/weights/$name/.$version.new"
        mv "$VAR/weights/$name/.$version.new" "$VAR/weights/$name/$version"
        if [ -e "$here/packages/$name/ACTIVE" ] && [ ! -e "$VAR/weights/$name/ACTIVE" ]; then
            cp "$here/packages/$name/ACTIVE" "$VAR/weights/$name/ACTIVE"
        fi
        echo "Added package $name/$version"
    done
    chown -R "$ACCOUNT:$ACCOUNT" "$VAR/weights"
}

write_units() {
    install -m 0644 "$target/deploy/classifyd.service" "$target/deploy/classifyd.socket" "$UNITS/"
    install -d "$UNITS/classifyd.socket.d" "$UNITS/classifyd.service.d"
    local host=$bind
    case $bind in *:*) host="[$bind]" ;; esac
    printf '[Socket]\nListenStream=\nListenStream=%s:%s\n' "$host" "$port" \
        > "$UNITS/classifyd.socket.d/address.conf"
    case $device in
        cuda*) install -m 0644 "$target/deploy/classifyd-gpu.conf" "$UNITS/classifyd.service.d/gpu.conf" ;;
        *) rm -f "$UNITS/classifyd.service.d/gpu.conf" ;;
    esac
    install -m 0755 "$target/deploy/classifydctl" /usr/local/bin/classifydctl
    # The command with the service's settings.
    printf '#!/bin/sh\nexport CLASSIFYD_CONFIG="${CLASSIFYD_CONFIG:-%s}" PYTHONDONTWRITEBYTECODE=1\nexec %s "$@"\n' \
        "$ETC/classifyd.toml" "$OPT/current/venv/bin/classifyd" > /usr/local/bin/classifyd
    chmod 0755 /usr/local/bin/classifyd
    systemctl daemon-reload
}

echo "Checking this machine"
check_machine
[ "$failures" = 0 ] || stop "$failures of the checks failed; nothing was installed"
[ "$check_only" = 1 ] && exit 0
[ "$(id -u)" = 0 ] || stop "run it with sudo"
echo "Checking the bundle"
(cd "$here" && sha256sum --quiet --check SHA256SUMS) || stop "the bundle is damaged; copy it again"
if [ "$yes" = 0 ] && [ -t 0 ]; then
    read -r -p "Install release $RELEASE, listening on $bind:$port? [Y/n] " answer
    case $answer in [nN]*) exit 1 ;; esac
fi
if [ "$stage_only" = 0 ] && [ -e "$OPT/current" ] && [ "$(readlink "$OPT/current")" != "$target" ]; then
    stop "release $(basename "$(readlink "$OPT/current")") is installed: use classifydctl upgrade BUNDLE"
fi
stage
[ "$stage_only" = 1 ] && exit 0
create_account
create_folders
add_packages
ln -sfn "$target" "$OPT/current"
write_units
systemctl enable --quiet classifyd.socket classifyd.service
systemctl restart classifyd.socket
systemctl restart classifyd.service || stop "the service does not start: journalctl -u classifyd -n 30"
exec /usr/local/bin/classifydctl verify
