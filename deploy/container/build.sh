#!/usr/bin/env bash
# Build the container image from a bundle, without a network but for the base image.
# Usage: build.sh BUNDLE.tar [IMAGE]; run by make image, with BASE_IMAGE, DOCKER and DOCKER_ARGS.
set -euo pipefail

stop() { echo "build.sh: $1" >&2; exit 1; }
[ -f "${1:-}" ] || stop "there is no bundle ${1:-}: make bundle builds one"
bundle=$(realpath "$1") image=${2:-classifyd}
release=$(basename "$bundle") release=${release%.tar*} release=${release#classifyd-}
device=cpu
[ "${release##*-}" = cpu ] || device=cuda
tool=${DOCKER:-}
for candidate in docker podman buildah; do
    # Docker's client is of no use without its engine.
    [ -n "$tool" ] || ! "$candidate" info > /dev/null 2>&1 || tool=$candidate
done
[ -n "$tool" ] || stop "docker, podman or buildah is needed, and none of them works here"
arguments=(--network none --tag "$image:$release" --tag "$image:latest"
    --build-arg "BUNDLE=$(basename "$bundle")" --build-arg "RELEASE=$release"
    --build-arg "DEVICE=$device" ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"}
    --file "$(dirname "$(realpath "$0")")/Containerfile")
# OCI's own format has no health check.
[ "$tool" = docker ] || arguments+=(--format docker)
# shellcheck disable=SC2086 # DOCKER_ARGS is a list of words
"$tool" build ${DOCKER_ARGS:-} "${arguments[@]}" "$(dirname "$bundle")"
echo "$image:$release"
