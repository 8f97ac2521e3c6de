#!/usr/bin/env bash
# Install, break, upgrade and remove a bundle in a Debian container under a real systemd, without
# a network. Needs root, debootstrap and systemd-container; takes about ten minutes.
# Usage: in_container.sh BUNDLE.tar [ROOT]
set -euo pipefail

bundle=$1 root=${2:-/var/tmp/classifyd-container}
here=$(cd "$(dirname "$0")" && pwd)
[ -d "$root/etc" ] || debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,dbus,python3,python3-venv bookworm "$root"

boot() {
    setsid systemd-nspawn -q -D "$root" --register=no --keep-unit --private-network --boot \
        > "$root.log" 2>&1 &
    nspawn=$!
    for _ in $(seq 60); do
        leader=$(pgrep -P "$(pgrep -f "systemd-nspawn -q -D $root " | head -n 1)" 2>/dev/null | head -n 1) || true
        [ -n "$leader" ] && in_container 'systemctl is-system-running' 2>/dev/null | grep -q 'running\|degraded' && return
        sleep 1
    done
    echo "the container does not boot: $root.log" >&2
    exit 1
}
in_container() {
    nsenter -t "$leader" -m -u -i -n -p -C -- env -i HOME=/root LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -eo pipefail -c "$1"
}
halt() { in_container 'systemctl poweroff' || true; wait "$nspawn" 2>/dev/null || true; }
step() { printf '\n== %s\n' "$1"; }
# A bundle with another release name; the second argument edits its unpacked folder.
variant() {
    local work
    work=$(mktemp -d -p /var/tmp)
    tar -C "$work" -xf "$bundle"
    mv "$work"/* "$work/classifyd-$1"
    (cd "$work/classifyd-$1" && sed -i "s/^RELEASE=.*/RELEASE=$1/" RELEASE && eval "$2" && rm SHA256SUMS \
        && find . -type f -print0 | xargs -0 sha256sum > "$work/sums" && mv "$work/sums" SHA256SUMS)
    tar -C "$work" -cf "$root/root/$1.tar" "classifyd-$1"
    rm -rf "$work"
}

rm -rf "$root"/root/*
tar -C "$root/root" -xf "$bundle"
cp "$here/load.py" "$root/root/"
variant 9.0-good true
variant 9.1-broken "sed -i 's/^def create_app/raise RuntimeError(\"broken\")\ndef create_app/' release/app/factory.py"
variant 9.2-badunit "sed -i 's/-m gunicorn\$/-m nothere/' release/deploy/classifyd.service"
boot
trap halt EXIT

step "install"
in_container 'if [ -x /usr/local/bin/classifydctl ]; then classifydctl uninstall --purge; fi'
in_container 'cd /root/classifyd-* && ./install.sh --yes'
in_container 'systemd-analyze security classifyd | tail -n 1'
step "kill -9 of the worker, then of the master"
in_container 'main=$(systemctl show -p MainPID --value classifyd); kill -9 $(cat /proc/$main/task/$main/children)
    classifydctl verify | tail -n 1; kill -9 $(systemctl show -p MainPID --value classifyd); classifydctl verify | tail -n 1'
step "reload and reboot"
in_container 'systemctl reload classifyd && classifydctl verify | tail -n 1'
halt
boot
in_container 'classifydctl verify | tail -n 1'
step "a full disk under the log"
in_container 'mount -t tmpfs -o size=2m tmpfs /var/log && mkdir /var/log/journal && systemctl restart systemd-journald
    dd if=/dev/zero of=/var/log/fill bs=64k 2>/dev/null || true; classifydctl verify | tail -n 1
    systemctl restart classifyd; classifydctl verify | tail -n 1; umount -l /var/log; systemctl restart systemd-journald'
step "upgrade and rollback under load"
in_container 'rm -f /run/stop; python3 /root/load.py /run/stop > /run/load & sleep 2
    classifydctl upgrade /root/9.0-good.tar | tail -n 1; classifydctl rollback | tail -n 1; classifydctl rollback | tail -n 1
    touch /run/stop; wait; cat /run/load; grep -q "answers {.0.: [0-9]*}" /run/load'
step "broken releases come back by themselves, under load"
in_container 'rm -f /run/stop; python3 /root/load.py /run/stop > /run/load & sleep 2
    for release in 9.1-broken 9.2-badunit; do if classifydctl upgrade /root/$release.tar > /run/upgrade 2>&1; then exit 1; fi; tail -n 1 /run/upgrade; done
    classifydctl status | head -n 2; touch /run/stop; wait; cat /run/load; grep -q "answers {.0.: [0-9]*}" /run/load'
step "doctor"
in_container 'classifyd doctor'
step "uninstall, twice"
in_container 'classifydctl uninstall; ls -d /etc/classifyd /var/lib/classifyd; cd /root/classifyd-* && ./install.sh --yes | tail -n 1
    classifydctl uninstall --purge
    ls -d /opt/classifyd /etc/classifyd /var/lib/classifyd /usr/local/bin/classifyd* /etc/systemd/system/classifyd* 2>/dev/null && exit 1; getent passwd classifyd && exit 1; true'
