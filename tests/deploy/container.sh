#!/usr/bin/env bash
# Build the image from a bundle, and try it as docs/containers.md promises it.
# Run by make test-container; needs root, podman, buildah, runc, debootstrap and 6 GB in
# CONTAINER_DIR and /var/lib/containers, and takes about ten minutes. No network is needed once the
# base image is there.
# Usage: container.sh BUNDLE.tar [STEP ...]    (the steps are the functions below)
set -Eeuo pipefail

bundle=$(realpath "$1")
shift
steps=(
    build_image any_user limits_are_respected variables_of_kubernetes health_check
    stop_under_load state_outlives_the_container licence_outlives_the_container
    few_facts_of_a_container volume_missing_or_closed volume_full memory_under_load
)
[ $# = 0 ] || steps=("$@")
here=$(cd "$(dirname "$0")" && pwd) root=$(cd "$(dirname "$0")/../.." && pwd)
work=${CONTAINER_DIR:-/tmp/classifyd-image}
BASE=localhost/classifyd-test-base IMAGE=localhost/classifyd-test
STATE=/var/lib/classifyd/state
# Where the control groups of version 1 and 2 are mounted together, crun fails, and runc must not
# raise the limits.
LIMITS=(--ulimit nofile=1024:1024 --ulimit nproc=4096:4096)

stop() { echo "container.sh: $1" >&2; exit 1; }
wrong() { echo "  wrong: $*" >&2; exit 1; }
say() { printf '  %s\n' "$*"; }
trap 'echo "  line $LINENO: $BASH_COMMAND" >&2' ERR
[ "$(id -u)" = 0 ] || stop "run it as root"
for tool in podman buildah runc debootstrap curl; do
    command -v "$tool" > /dev/null || stop "$tool is not installed: apt-get install podman buildah runc debootstrap curl"
done

# Without systemd on the host, podman complains about the timer of the health check.
podman() { command podman --runtime runc --log-level fatal "$@"; }
# Everything that a hardened platform takes away: /tmp and /dev/shm too.
hardened() {
    podman run "${LIMITS[@]}" --read-only --read-only-tmpfs=false --ipc none --network none \
        --cap-drop all --security-opt no-new-privileges "$@"
}
start() { hardened --detach --name classifyd-test "$@" > /dev/null; }
inside() { podman exec classifyd-test "$@"; }
healthy() {
    for _ in $(seq 120); do
        podman healthcheck run classifyd-test > /dev/null 2>&1 && return
        [ "$(podman inspect -f '{{.State.Running}}' classifyd-test)" = true ] || break
        sleep 0.5
    done
    podman logs classifyd-test >&2
    wrong "the container is not healthy"
}
photos=/opt/classifyd/lib/python3.11/site-packages/app/packages/photos
classifies() {
    inside classifyd predict "$photos/coffee.jpg" --top-num 1 > "$work/answer" || wrong "$(cat "$work/answer")"
    grep -q espresso "$work/answer" || wrong "$(cat "$work/answer")"
}
stops() {
    podman stop --time 40 classifyd-test > /dev/null
    [ "$(podman inspect -f '{{.State.ExitCode}}' classifyd-test)" = 0 ] || wrong "$(podman logs classifyd-test 2>&1 | tail)"
}
remove() { podman rm --force --ignore --time 40 classifyd-test > /dev/null; }
new_volume() {
    podman volume rm --force classifyd-test > /dev/null 2>&1 || true
    podman volume create classifyd-test > /dev/null
}
# The command must fail, and say the first argument.
refused() {
    local wanted=$1
    shift
    if ("$@") > "$work/said" 2>&1; then wrong "$* succeeded"; fi
    grep -q -- "$wanted" "$work/said" || wrong "'$wanted' is not in: $(cat "$work/said")"
    say "refused: $(grep -m 1 -- "$wanted" "$work/said")"
}

build_image() {
    if ! podman image exists "$BASE"; then
        rm -rf "$work/base"
        debootstrap --variant=minbase --include=python3,python3-venv bookworm "$work/base" > "$work/debootstrap.log"
        tar -C "$work/base" -c . | podman import - "$BASE" > /dev/null
        rm -rf "$work/base"
    fi
    BASE_IMAGE=$BASE DOCKER=buildah DOCKER_ARGS="--runtime $(command -v runc) ${LIMITS[*]}" \
        "$root/deploy/container/build.sh" "$bundle" "$IMAGE"
    podman images "$IMAGE" --format '  {{.Tag}}: {{.Size}}'
}

any_user() {
    local user
    for user in "" 12345:0 54321:54321; do
        new_volume
        start ${user:+--user $user} --volume "classifyd-test:$STATE" "$IMAGE"
        healthy
        classifies
        say "user ${user:-of the image}: $(inside id),$(tail -n 1 "$work/answer")"
        refused "Read-only file system" inside sh -c 'echo > /tmp/file'
        # The tools of an operator, with nothing but the volume to write to.
        inside classifyd doctor > "$work/said" || wrong "$(cat "$work/said")"
        inside classifyd predict --package imagenet "$photos" > /dev/null
        stops
        podman logs classifyd-test 2>&1 | grep -E '"level":"(warning|error)"' && wrong "the log has warnings"
        remove
    done
}

limits_are_respected() {
    local sizes
    new_volume
    start --cpus 1 --memory 1500m --volume "classifyd-test:$STATE" "$IMAGE"
    healthy
    sizes=$(inside python -c '
from app.settings import Settings
from app.system.cpus import usable_cpus, usable_memory_mb
from app.system.sizing import cpus_per_worker, worker_count
print(usable_cpus(), usable_memory_mb(), worker_count(Settings()), cpus_per_worker(Settings()))')
    [ "$sizes" = "1 1572 1 1" ] || wrong "CPUs, MB, workers, CPUs for each: $sizes"
    say "--cpus 1 --memory 1500m: CPUs, MB, workers, CPUs for each: $sizes"
    remove
}

variables_of_kubernetes() {
    start --env CLASSIFYD_SERVICE_HOST=10.96.4.7 --env CLASSIFYD_SERVICE_PORT=8000 \
        --env CLASSIFYD_PORT=tcp://10.96.4.7:8000 --env CLASSIFYD_PORT_8000_TCP=tcp://10.96.4.7:8000 \
        --env CLASSIFYD_PORT_8000_TCP_PROTO=tcp --volume "classifyd-test:$STATE" "$IMAGE"
    healthy
    classifies
    say "$(podman logs classifyd-test 2>&1 | grep -o 'ignored, because[^;]*')"
    remove
}

health_check() {
    start --env CLASSIFYD_PORT=8123 --volume "classifyd-test:$STATE" "$IMAGE"
    refused "" podman healthcheck run classifyd-test
    healthy
    say "healthy on another port"
    inside sh -c 'kill -STOP $(cat /proc/1/task/1/children)'
    refused "" podman healthcheck run classifyd-test
    inside sh -c 'kill -CONT $(cat /proc/1/task/1/children)'
    healthy
    remove
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -keyout "$work/key.pem" -out "$work/cert.pem" \
        -subj /CN=www.example.com -addext subjectAltName=DNS:www.example.com 2> /dev/null
    chmod 0644 "$work/key.pem"
    start --volume "$work/cert.pem:/etc/classifyd/cert.pem:ro" --volume "$work/key.pem:/etc/classifyd/key.pem:ro" \
        --env CLASSIFYD_TLS_CERTIFICATE=/etc/classifyd/cert.pem --env CLASSIFYD_TLS_KEY=/etc/classifyd/key.pem \
        --volume "classifyd-test:$STATE" "$IMAGE"
    healthy
    say "healthy with TLS"
    remove
}

stop_under_load() {
    local pid
    start --volume "classifyd-test:$STATE" "$IMAGE"
    healthy
    pid=$(podman inspect -f '{{.State.Pid}}' classifyd-test)
    nsenter --net="/proc/$pid/ns/net" python3 "$here/container_load.py" \
        "$root/app/packages/photos/coffee.jpg" > "$work/load" &
    sleep 3
    podman kill --signal TERM classifyd-test > /dev/null
    wait $! || { cat "$work/load"; wrong "requests were lost"; }
    say "$(cat "$work/load")"
    [ "$(podman wait classifyd-test)" = 0 ] || wrong "it did not end by itself"
    remove
}

state_outlives_the_container() {
    local before after
    new_volume
    start --volume "classifyd-test:$STATE" "$IMAGE"
    healthy
    before=$(inside cat $STATE/log_id_block)
    podman logs classifyd-test 2>&1 | grep -q "measuring engines" || wrong "it did not measure the engines"
    stops
    remove
    start --volume "classifyd-test:$STATE" "$IMAGE"
    healthy
    after=$(inside cat $STATE/log_id_block)
    podman logs classifyd-test 2>&1 | grep -q "measuring engines" && wrong "it measured the engines again"
    [ "$after" -gt "$before" ] || wrong "log_id block $before, then $after"
    say "log_id block $((10#$before)), then $((10#$after)); the engines were measured once"
    remove
}

facts=(--volume "$work/host/machine-id:/etc/machine-id:ro" --volume "$work/host/board:/run/classifyd:ro")
licensed() {
    start "${facts[@]}" --volume "$work/sealed:/var/lib/classifyd/weights:ro" \
        --volume "$work/licences:/etc/classifyd/licences:ro" --volume "classifyd-test:$STATE" "$@"
}
publisher() {
    hardened --rm --user 0 --volume "$work:/work" "$IMAGE" licence "$@" > "$work/said" 2>&1 || wrong "$(cat "$work/said")"
}
licence_outlives_the_container() {
    new_volume
    rm -rf "$work"/{host,sealed,licences,publisher.key}
    mkdir -p "$work"/{host/board,sealed,licences}
    # In place of the host's own, which not every machine has.
    echo 4f1c2b3a5d6e7f8091a2b3c4d5e6f708 > "$work/host/machine-id"
    echo 4c4c4544-0031-3510-8052-b4c04f4d3633 > "$work/host/board/product_uuid"
    publisher keygen --key /work/publisher.key
    publisher seal /var/lib/classifyd/weights/imagenet/1 --key /work/publisher.key \
        --contact "Example <licence@example.com>" --weights-dir /work/sealed
    chmod -R a+rX "$work/sealed"
    licensed "$IMAGE"
    healthy
    refused "serves no model yet" classifies
    inside classifyd licence fingerprint --output $STATE/fingerprint.json > "$work/said"
    say "$(tr '\n' ' ' < "$work/said")"
    inside cat $STATE/fingerprint.json > "$work/fingerprint.json"
    publisher issue /work/fingerprint.json --key /work/publisher.key --licensee Example --name imagenet \
        --permanent --output /work/licences/imagenet.licence
    chmod a+r "$work/licences/imagenet.licence"
    for _ in $(seq 30); do
        (classifies) 2> /dev/null && break
        sleep 1
    done
    classifies
    inside classifyd licence check
    stops
    remove
    # Another id, host name and address; then another image.
    licensed --hostname another "$IMAGE"
    healthy
    classifies
    remove
    printf 'FROM %s\nLABEL org.opencontainers.image.version=next\n' "$IMAGE" \
        | buildah build --format docker --tag "$IMAGE-next" --file - "$work/host" > /dev/null 2>&1
    licensed "$IMAGE-next"
    healthy
    classifies
    inside classifyd licence check > "$work/said" || wrong "$(cat "$work/said")"
    say "recreated, and from another image: $(head -n 1 "$work/said")"
    remove
}

few_facts_of_a_container() {
    start --volume "classifyd-test:$STATE" "$IMAGE"
    healthy
    inside classifyd licence fingerprint --output $STATE/fingerprint.json > "$work/said"
    grep -q "1 fact and 0 GPUs" "$work/said" || wrong "$(cat "$work/said")"
    say "$(tr '\n' ' ' < "$work/said")"
    remove
}

volume_missing_or_closed() {
    mkdir -p "$work/closed" && chmod 0755 "$work/closed"
    refused "cannot be written by user ID 10001: Read-only file system; .*mount a volume there" hardened --rm "$IMAGE"
    refused "cannot be written by user ID 54321: Permission denied; .*mount a volume there" \
        hardened --rm --user 54321:54321 --volume "$work/closed:$STATE" "$IMAGE"
}

volume_full() {
    mkdir -p "$work/small"
    mountpoint -q "$work/small" && umount "$work/small"
    mkfs.ext4 -q -F -m 0 "$work/small.img" 64M > /dev/null
    mount -o loop "$work/small.img" "$work/small"
    chmod 0777 "$work/small"
    start --volume "$work/small:$STATE" "$IMAGE"
    healthy
    # ext4 finds some more blocks each time.
    inside sh -c "for n in 1 2 3 4 5; do cat /dev/zero > $STATE/ballast.\$n; done" 2> /dev/null || true
    refused "No space left" inside sh -c "head -c 1M /dev/zero > $STATE/more"
    classifies
    inside sh -c 'kill -KILL $(cat /proc/1/task/1/children)'
    sleep 1
    healthy
    classifies
    say "serves on a full volume, also after kill -9 of its worker"
    remove
    # Started on the full volume.
    start --volume "$work/small:$STATE" "$IMAGE"
    sleep 10
    if podman healthcheck run classifyd-test > /dev/null 2>&1; then
        say "starts on a full volume"
    else
        say "on a full volume: $(podman logs classifyd-test 2>&1 | tail -n 1)"
    fi
    podman logs classifyd-test 2>&1 | grep -q "No space left on device" || wrong "$(podman logs classifyd-test 2>&1)"
    remove
    umount "$work/small"
}

memory_under_load() {
    local pid peak
    new_volume
    start --cpus 2 --memory 1500m --memory-swap 1500m --volume "classifyd-test:$STATE" "$IMAGE"
    healthy
    pid=$(podman inspect -f '{{.State.Pid}}' classifyd-test)
    # The largest image that the API takes, from many callers at once.
    python3 - "$work/large.bmp" <<'PY'
import struct, sys
width, height = 1400, 740
pixels = bytes(range(256)) * (width * 3 * height // 256 + 1)
head = b"BM" + struct.pack("<IHHI", 54 + width * 3 * height, 0, 0, 54)
info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
open(sys.argv[1], "wb").write(head + info + pixels[: width * 3 * height])
PY
    nsenter --net="/proc/$pid/ns/net" python3 "$here/container_load.py" "$work/large.bmp" 48 20 > "$work/load" || { cat "$work/load"; wrong "requests were lost"; }
    say "$(cat "$work/load")"
    peak=$(cat "/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' "/proc/$pid/cgroup")/memory.max_usage_in_bytes" 2> /dev/null || echo 0)
    say "memory at most $((peak / 1000000)) MB, killed for memory: $(podman inspect -f '{{.State.OOMKilled}}' classifyd-test)"
    healthy
    podman logs classifyd-test 2>&1 | grep -q SIGKILL && wrong "a worker was killed"
    remove
}

mkdir -p "$work"
exec 9> "$work/lock"
flock -n 9 || stop "another run uses $work"
clean() {
    remove || true
    mountpoint -q "$work/small" && umount "$work/small"
    podman volume rm --force classifyd-test > /dev/null 2>&1 || true
}
trap clean EXIT
trap 'exit 130' INT TERM
remove
podman volume create classifyd-test > /dev/null 2>&1 || true
for step in "${steps[@]}"; do
    printf '\n== %s\n' "${step//_/ }"
    "$step"
done
printf '\nPassed: %s steps with %s\n' "${#steps[@]}" "$(basename "$bundle")"
