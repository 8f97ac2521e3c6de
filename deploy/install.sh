#!/usr/bin/env bash
# Install classifyd from the bundle that contains this file. It needs no network.
set -euo pipefail
# Whatever the caller's umask: the service's account must be able to read the installed files.
umask 022

here=$(cd "$(dirname "$0")" && pwd)
OPT=/opt/classifyd ETC=/etc/classifyd VAR=/var/lib/classifyd UNITS=/etc/systemd/system SHARE=/usr/local/share
ACCOUNT=classifyd

usage() {
    cat <<'TEXT'
Usage: sudo ./install.sh [options]

  --bind ADDRESS   address to listen on (default 127.0.0.1; 0.0.0.0 for all interfaces)
  --port PORT      port to listen on (default 8000)
  --device DEVICE  cpu, cuda or cuda:N (default: cpu, or cuda for a CUDA bundle)
  --python PATH    Python interpreter to use (default: one that the bundle has wheels for)
  --key FILE       public key that must have signed the bundle; it is required from then on
  --unsigned       do not check the signature
  --yes            do not ask for confirmation
  --check-only     check the machine and change nothing
  --stage-only     install the release but do not switch to it; classifydctl upgrade uses it
TEXT
}

bind="" port="" device="" python="" key="" unsigned=0 yes=0 check_only=0 stage_only=0
while [ $# -gt 0 ]; do
    case $1 in
        --bind | --port | --device | --python | --key)
            [ $# -ge 2 ] || { echo "install.sh: $1 needs a value" >&2; exit 2; } ;;
    esac
    case $1 in
        --bind) bind=$2; shift 2 ;;
        --port) port=$2; shift 2 ;;
        --device) device=$2; shift 2 ;;
        --python) python=$2; shift 2 ;;
        --key) key=$2; shift 2 ;;
        --unsigned) unsigned=1; shift ;;
        --yes) yes=1; shift ;;
        --check-only) check_only=1; shift ;;
        --stage-only) stage_only=1; yes=1; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "install.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
done

# Before anything else of the bundle is read. The classifydctl of the running release has done it.
if [ -z "${BUNDLE_CHECKED:-}" ]; then
    signature=()
    [ -z "$key" ] || signature+=(--key "$key")
    [ "$unsigned" = 0 ] || signature+=(--unsigned)
    echo "Checking the bundle"
    bash "$here/release/deploy/classifydctl" check "${signature[@]}" "$here" || exit 1
fi
# shellcheck source=/dev/null # made by bundle.sh
. "$here/RELEASE"
target="$OPT/$RELEASE"
failures=0
trap 'echo "install.sh: line $LINENO failed; existing files were not changed" >&2' ERR

ok() { printf '  ok       %s\n' "$1"; }
warn() { printf '  warning  %s\n' "$1"; }
fail() { printf '  failure  %s\n' "$*"; failures=$((failures + 1)); }
stop() { echo "install.sh: $1" >&2; exit 1; }

# Print a setting of the existing installation, if there is one.
setting() {
    [ -r "$ETC/classifyd.toml" ] || return 0
    sed -n "s/^$1 *= *\"\{0,1\}\([^\"#]*[^\"# ]\)\"\{0,1\} *\(#.*\)\{0,1\}$/\1/p" "$ETC/classifyd.toml" \
        | head -n 1
}

# Change one setting; the rest of the file stays as the operator wrote it.
put_setting() {
    [ -n "$2" ] && [ "$(setting "$1")" != "$2" ] || return 0
    local line="$1 = \"$2\""
    [ "$1" = port ] && line="port = $2"
    if grep -q "^$1 *=" "$ETC/classifyd.toml"; then
        sed -i "s|^$1 *=.*|$line|" "$ETC/classifyd.toml"
    else
        sed -i "1i $line" "$ETC/classifyd.toml"
    fi
}
given_bind=$bind given_port=$port given_device=$device
bind=${bind:-$(setting bind)} port=${port:-$(setting port)} device=${device:-$(setting device)}
bind=${bind:-127.0.0.1} port=${port:-8000}
if [ "$FLAVOUR" = cpu ]; then device=${device:-cpu}; else device=${device:-cuda}; fi
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d ' ' -f 2 || true)
pythons=$(cut -d ' ' -f 1 "$here/PYTHONS" | paste -s -d ' ' | sed 's/ /, /g')
found="" without_venv="" extras=$EXTRAS

# Whether a version, such as 2.36, is at least another one.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# Choose an interpreter that the bundle has wheels for, and read what they need.
choose_python() {
    local candidate version candidates=("$OPT/current/venv/bin/python" python3)
    while read -r version _; do candidates+=("python$version"); done < "$here/PYTHONS"
    [ -z "$python" ] || candidates=("$python")
    python=""
    for candidate in "${candidates[@]}"; do
        # Each is run: pyenv has a python3.12 that only says where the real one is.
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case " $found " in *" $version "*) ;; *) found="$found${found:+ }$version" ;; esac
        grep -q "^$version " "$here/PYTHONS" || continue
        "$candidate" -c 'import venv, ensurepip' 2>/dev/null || { without_venv=$version; continue; }
        python=$(command -v "$candidate") python_version=$version
        read -r _ needed_glibc extras_glibc installed_mb < <(grep "^$version " "$here/PYTHONS")
        return
    done
    read -r _ needed_glibc _ installed_mb < "$here/PYTHONS"
}
choose_python

check_machine() {
    [ "$(uname -m)" = "$ARCHITECTURE" ] && ok "architecture $ARCHITECTURE" \
        || fail "architecture $(uname -m): this bundle is for $ARCHITECTURE"
    grep -qw avx2 /proc/cpuinfo && ok "CPU with AVX2" \
        || warn "the CPU has no AVX2: inference will be slow"
    at_least "${glibc:-0}" "$needed_glibc" && ok "glibc $glibc" \
        || fail "glibc ${glibc:-unknown}: this bundle needs $needed_glibc or later"
    [ -d /run/systemd/system ] && ok "systemd" || fail "systemd is not running on this machine"
    check_python
    check_extras
    check_fips
    check_disk "$OPT" "$installed_mb"
    [ "$stage_only" = 1 ] || check_disk "$VAR" $(($(du -sm "$here/packages" | cut -f 1) + 100))
    local memory_mb
    memory_mb=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
    [ "$memory_mb" -ge 1900 ] && ok "memory: $memory_mb MB" \
        || fail "memory: $memory_mb MB, at least 2 GB are needed"
    check_port
    case $device in
        cuda*) nvidia-smi -L >/dev/null 2>&1 && ok "GPU driver" \
            || fail "device $device: nvidia-smi fails; install the driver or use --device cpu" ;;
    esac
}

check_disk() {
    local place=$1 free_mb
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    free_mb=$(df -Pm "$place" | awk 'NR == 2 { print $4 }')
    [ "${free_mb:-0}" -ge "$2" ] && ok "disk: $free_mb MB free for $1" \
        || fail "disk: ${free_mb:-0} MB free for $1, $2 MB are needed"
}

check_python() {
    if [ -z "$python" ] && [ -n "$without_venv" ]; then
        fail "Python $without_venv has no venv: install python$without_venv-venv"
    elif [ -z "$python" ]; then
        fail "this bundle has wheels for Python $pythons, and this machine has ${found:-none}: install one of" \
            "them with its venv module, or pass its path with --python"
    elif "$python" -c 'import sys; sys.exit(not sys.base_prefix.startswith(("/home/", "/root/")))'; then
        fail "$python is in a home folder, which the service cannot read: install it system-wide"
    else
        ok "$python, version $python_version"
    fi
}

check_extras() {
    [ -n "$python" ] && [ -n "$extras" ] || return 0
    if [ "$extras_glibc" = - ]; then
        warn "no wheel of $extras for Python $python_version: the server uses TorchScript, which is slower"
    elif ! at_least "${glibc:-0}" "$extras_glibc"; then
        warn "the wheel of $extras needs glibc $extras_glibc: the server uses TorchScript, which is slower"
    else
        return 0
    fi
    extras=""
}

# OpenCV's wheel contains OpenSSL 1.1.1, whose self-test ends every process that imports it.
check_fips() {
    [ -n "${OPENSSL_FORCE_FIPS_MODE:-}" ] || grep -qsx 1 /proc/sys/crypto/fips_enabled || return 0
    if grep -qa 'libcrypto-[0-9a-f]*\.so\.1\.1' "$here"/wheels/opencv_python_headless-*.whl; then
        fail "FIPS mode is on, and the bundle's OpenCV contains OpenSSL 1.1.1, which then ends" \
            "the server: use a machine without FIPS mode, or a bundle with an OpenCV that is built" \
            "from source (make bundle WHEELS=FOLDER)"
    else
        ok "FIPS mode"
    fi
}

# The address that systemd listens on.
address() {
    local host=$bind
    case $bind in *:*) host="[$bind]" ;; esac
    echo "$host:$port"
}
listens_already() {
    systemctl is-active --quiet classifyd.socket 2>/dev/null \
        && grep -qsxF "ListenStream=$(address)" "$UNITS/classifyd.socket.d/address.conf"
}

check_port() {
    if listens_already; then
        ok "port $port (classifyd is already listening on it)"
    elif [ -z "$python" ]; then
        warn "port $port on $bind: not checked, because Python is missing"
    elif "$python" -c "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
probe = socket.socket(family)
probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
probe.bind((sys.argv[1], int(sys.argv[2])))" "$bind" "$port" 2>/dev/null; then
        ok "port $port on $bind"
    else
        fail "port $port on $bind is not available: choose another one with --port," \
            "or stop the process that uses it (ss -ltnp)"
    fi
}

stage() {
    [ -e "$target/.complete" ] && { echo "Release $RELEASE is already installed"; return; }
    echo "Installing release $RELEASE into $target"
    rm -rf "$target"
    trap 'rm -rf "$target"; echo "install.sh: line $LINENO failed; $target was removed" >&2' ERR
    trap 'rm -rf "$target"; echo "install.sh: interrupted; $target was removed" >&2; exit 130' INT TERM HUP
    install -d -m 0755 "$OPT"
    cp -a "$here/release" "$target"
    "$python" -m venv "$target/venv"
    local pip=("$target/venv/bin/python" -m pip install --quiet --no-index --disable-pip-version-check
        --no-cache-dir --find-links "$here/wheels")
    "${pip[@]}" "setuptools>=77"
    "${pip[@]}" --no-build-isolation --constraint "$target/constraints.txt" --editable "$target${extras:+[$extras]}"
    chmod 0755 "$target"/deploy/*.sh "$target/deploy/classifydctl"
    chown -R root:root "$target"
    chmod -R go+rX,go-w "$target"
    sync -f "$target"
    touch "$target/.complete"
    trap - INT TERM HUP
    trap 'echo "install.sh: line $LINENO failed; fix the problem and run it again" >&2' ERR
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
# Settings of classifyd, see docs/settings.md. After a change run:
#   systemctl restart classifyd
# To change bind, port or device, run install.sh again with --bind, --port or --device.
bind = "$bind"
port = $port
device = "$device"
weights_dir = "$VAR/weights"
state_dir = "$VAR/state"
licence_dir = "$ETC/licences"
TOML
    put_setting bind "$given_bind"
    put_setting port "$given_port"
    put_setting device "$given_device"
}

# Existing versions are never replaced, and a name keeps the version that it serves.
add_packages() {
    local folder name version served
    for folder in "$here"/packages/*/*/; do
        [ -e "$folder/manifest.json" ] || continue
        version=$(basename "$folder") name=$(basename "$(dirname "$folder")")
        [ -e "$VAR/weights/$name/$version" ] && continue
        if [ ! -s "$VAR/weights/$name/ACTIVE" ]; then
            rm -f "$VAR/weights/$name/ACTIVE"
            served=$(ls "$VAR/weights/$name" 2>/dev/null || true)
            case $served in "" | *$'\n'*) ;; *) echo "$served" > "$VAR/weights/$name/ACTIVE" ;; esac
        fi
        # Hidden until it is complete: the installation may be interrupted at any point.
        rm -rf "$VAR/weights/.$name.new"
        cp -r "$folder" "$VAR/weights/.$name.new"
        mkdir -p "$VAR/weights/$name"
        mv "$VAR/weights/.$name.new" "$VAR/weights/$name/$version"
        if [ -e "$here/packages/$name/ACTIVE" ] && [ ! -e "$VAR/weights/$name/ACTIVE" ]; then
            cp "$here/packages/$name/ACTIVE" "$VAR/weights/$name/ACTIVE"
        fi
        echo "Added package $name/$version"
    done
    chown -R "$ACCOUNT:$ACCOUNT" "$VAR/weights"
}

# Accept only bundles of this publisher from now on.
keep_key() {
    [ "$unsigned" = 0 ] && [ -e "$here/SHA256SUMS.sig" ] || return 0
    install -m 0644 "$here/publisher.pem" "$ETC/bundle-key.pem"
}

write_units() {
    install -m 0644 "$target/deploy/classifyd.service" "$target/deploy/classifyd.socket" "$UNITS/"
    install -d "$UNITS/classifyd.socket.d" "$UNITS/classifyd.service.d"
    printf '[Socket]\nListenStream=\nListenStream=%s\n' "$(address)" \
        > "$UNITS/classifyd.socket.d/address.conf"
    case $device in
        cuda*) install -m 0644 "$target/deploy/classifyd-gpu.conf" "$UNITS/classifyd.service.d/gpu.conf" ;;
        *) rm -f "$UNITS/classifyd.service.d/gpu.conf" ;;
    esac
    install -m 0755 "$target/deploy/classifydctl" /usr/local/bin/classifydctl
    # Runs the command with the service's settings.
    printf '#!/bin/sh\nexport CLASSIFYD_CONFIG="${CLASSIFYD_CONFIG:-%s}" PYTHONDONTWRITEBYTECODE=1\nexec %s "$@"\n' \
        "$ETC/classifyd.toml" "$OPT/current/venv/bin/classifyd" > /usr/local/bin/classifyd
    chmod 0755 /usr/local/bin/classifyd
    systemctl daemon-reload
}

# Each calls classifyd itself, so that an upgrade need not write it again.
write_completion() {
    local shell file
    for shell in bash zsh fish; do
        case $shell in
            bash) file=$SHARE/bash-completion/completions/classifyd ;;
            zsh) file=$SHARE/zsh/site-functions/_classifyd ;;
            fish) file=$SHARE/fish/vendor_completions.d/classifyd.fish ;;
        esac
        install -d "$(dirname "$file")"
        _CLASSIFYD_COMPLETE=${shell}_source /usr/local/bin/classifyd > "$file" || rm -f "$file"
    done
}

echo "Checking this machine"
check_machine
[ "$failures" = 0 ] || stop "$failures of the checks failed; nothing was installed"
[ "$check_only" = 1 ] && exit 0
[ "$(id -u)" = 0 ] || stop "run it with sudo"
if [ "$yes" = 0 ] && [ -t 0 ]; then
    read -r -p "Install release $RELEASE, listening on $bind:$port? [Y/n] " answer
    case $answer in [nN]*) exit 1 ;; esac
fi
if [ "$stage_only" = 0 ] && [ -e "$OPT/current" ] && [ "$(readlink "$OPT/current")" != "$target" ]; then
    stop "release $(basename "$(readlink "$OPT/current")") is installed: use classifydctl upgrade BUNDLE"
fi
if [ "$stage_only" = 0 ]; then
    exec 9> /run/lock/classifyd
    flock -n 9 || stop "another install.sh or classifydctl is running"
fi
stage
[ "$stage_only" = 1 ] && exit 0
create_account
create_folders
keep_key
add_packages
ln -sfn "$target" "$OPT/current"
new_address=1
listens_already && new_address=0
write_units
write_completion
systemctl enable --quiet classifyd.socket classifyd.service
if [ "$new_address" = 1 ]; then
    # systemd cannot change the address of a socket while the service uses it.
    systemctl stop classifyd.service classifyd.socket
    systemctl start classifyd.socket
fi
systemctl restart classifyd.service || stop "the service does not start; see journalctl -u classifyd -n 30"
exec /usr/local/bin/classifydctl verify 9>&-
