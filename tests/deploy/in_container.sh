#!/usr/bin/env bash
# Install, break, upgrade and remove a bundle in a fresh Debian with a real systemd and no network.
# Run by make test-deploy; needs root, debootstrap, systemd-container and 6 GB in CONTAINER_DIR,
# and takes about twenty minutes. Each run starts with a new container.
# Usage: in_container.sh BUNDLE.tar [STEP ...]    (the steps are functions of steps.sh)
# SUITE=trixie takes Debian 13; INSTALL_OPTIONS are given to install.sh, such as "--device cpu" for
# a CUDA bundle on a machine without a GPU.
set -euo pipefail

bundle=$(realpath "$1")
shift
here=$(cd "$(dirname "$0")" && pwd)
suite=${SUITE:-bookworm}
work=${CONTAINER_DIR:-/tmp/classifyd-container} base=$work/base-$suite root=$work/root
steps=(
    unprepared_machine damaged_bundle install_interrupted one_command_install
    install_over_a_running_one killed_worker_and_master reload_under_load
    reboot after_the_reboot full_log_disk full_state_disk
    upgrade_and_rollback_under_load broken_upgrades_under_load impossible_upgrades
    upgrade_interrupted upgrade_with_tokens_and_tls sealed_package reboot
    sealed_package_after_the_reboot behind_nginx doctor_finds doctor_on_a_healthy_server
    signed_upgrades uninstall_keeps_the_data uninstall_and_purge
)
[ $# = 0 ] || steps=("$@")

stop() { echo "in_container.sh: $1" >&2; exit 1; }
[ "$(id -u)" = 0 ] || stop "run it as root: a container with systemd needs that"
for tool in debootstrap systemd-nspawn mkfs.ext4; do
    command -v "$tool" > /dev/null || stop "$tool is not installed: apt-get install debootstrap systemd-container e2fsprogs"
done

leader=""
boot() {
    systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --private-network \
        --bind="$work/small:/mnt/small" --boot > "$work/console.log" 2>&1 9>&- &
    nspawn=$!
    for _ in $(seq 60); do
        leader=$(cat "/proc/$nspawn/task/$nspawn/children" 2> /dev/null | cut -d ' ' -f 1)
        if [ -n "$leader" ] && in_container systemctl is-system-running 2> /dev/null | grep -q 'running\|degraded'; then
            return
        fi
        sleep 1
    done
    stop "the container does not boot: see $work/console.log"
}
in_container() {
    nsenter -t "$leader" -m -u -i -n -p -C -- env -i HOME=/root LANG=C.UTF-8 \
        INSTALL_OPTIONS="${INSTALL_OPTIONS:-}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
halt() {
    [ -n "$leader" ] || return 0
    in_container systemctl poweroff > /dev/null 2>&1 || true
    timeout 120 tail --pid="$nspawn" -f /dev/null || kill -KILL "$nspawn"
    wait "$nspawn" 2> /dev/null || true
    leader=""
}
clean() {
    halt
    mountpoint -q "$work/small" && umount "$work/small"
    rm -rf "$root"
}

# Make a bundle with another release name; the second argument is a command that edits it.
variant() {
    local folder=$work/variant/classifyd-$1
    rm -rf "$work/variant" && mkdir -p "$work/variant"
    cp -a "$root"/root/test/bundle/classifyd-* "$folder"
    (cd "$folder" && sed -i "s/^RELEASE=.*/RELEASE=$1/" RELEASE && eval "$2" \
        && find . -type f ! -name SHA256SUMS -print0 | xargs -0 sha256sum > SHA256SUMS)
    tar -C "$work/variant" -cf "$root/root/test/$1.tar" "classifyd-$1"
    rm -rf "$work/variant"
}

prepare() {
    mkdir -p "$work/small"
    if [ ! -e "$base.complete" ]; then
        rm -rf "$base"
        debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,python3,python3-venv,sudo,curl,procps,openssl,nginx-light \
            "$suite" "$base"
        chroot "$base" systemctl disable nginx > /dev/null 2>&1
        touch "$base.complete"
    fi
    mountpoint -q "$work/small" && umount "$work/small"
    rm -rf "$root" && cp -a --reflink=auto "$base" "$root"
    mkfs.ext4 -q -F "$work/small.img" 64M
    mount -o loop "$work/small.img" "$work/small"
    mkdir -p "$root/root/test/bundle"
    cp "$here/load.py" "$here/steps.sh" "$root/root/test/"
    tar -C "$root/root/test/bundle" -xf "$bundle"
    # Its variants cannot be signed by the same key.
    rm -f "$root"/root/test/bundle/*/SHA256SUMS.sig
    case ${steps[*]} in *upgrade*) ;; *) return ;; esac
    variant 9.0-good true
    variant 9.1-broken "sed -i 's/^def create_app/raise RuntimeError(\"broken\")\n\n\ndef create_app/' release/app/factory.py"
    variant 9.2-badunit "sed -i 's/-m gunicorn\$/-m nothere/' release/deploy/classifyd.service"
    # The service cannot see the packages, but the check before the switch can.
    variant 9.3-blind "sed -i 's|^StateDirectory=|InaccessiblePaths=/var/lib/classifyd/weights\n&|' release/deploy/classifyd.service"
}

mkdir -p "$work"
exec 9> "$work/lock"
flock -n 9 || stop "another run uses $work"
trap clean EXIT
trap 'exit 130' INT TERM
prepare
boot
for step in "${steps[@]}"; do
    printf '\n== %s\n' "${step//_/ }"
    if [ "$step" = reboot ]; then
        halt
        boot
    elif ! in_container bash /root/test/steps.sh "$step"; then
        in_container journalctl --no-pager -q -u classifyd -n 30 -o cat || true
        stop "step $step failed"
    fi
done
printf '\nPassed: %s steps with %s\n' "${#steps[@]}" "$(basename "$bundle")"
