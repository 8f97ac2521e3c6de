#!/usr/bin/env bash
# Build the bundle, one archive for offline installation: application, wheels, packages, installer,
# checksums.
# Usage: bundle.sh PYTHON OUT_DIR WEIGHTS_DIR [FLAVOUR]; run by make bundle, with PIP_ARGS.
set -euo pipefail

python=$1 out=$2 weights=$3 flavour=${4:-cpu}
if [ "$flavour" = cpu ]; then extras=${BUNDLE_EXTRAS-openvino}; else extras=${BUNDLE_EXTRAS-}; fi
root=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^version = //p' "$root/setup.cfg")
commit=$(git -C "$root" rev-parse --short=8 HEAD 2>/dev/null || echo local)
# Uncommitted changes get a new release name each time: an upgrade rejects the running release.
git -C "$root" diff --quiet HEAD 2>/dev/null || commit="$commit-$(date +%Y%m%d%H%M%S)"
release="$version-$commit-$flavour"
name="classifyd-$release"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle="$work/$name"
mkdir -p "$bundle/wheels" "$bundle/release/tests/photos" "$bundle/packages"

echo "Collecting $name"
cp -a "$root"/{app,docs,deploy,wsgi.py,gunicorn.conf.py,setup.cfg,setup.py,pyproject.toml,constraints.txt,LICENSE} \
    "$bundle/release/"
# setup.cfg uses README.md as the description; the sample photo verifies an installation.
for file in README.md README.zh-CN.md; do
    [ -e "$root/$file" ] && cp "$root/$file" "$bundle/release/"
done
[ -e "$bundle/release/README.md" ] || echo "classifyd" > "$bundle/release/README.md"
cp "$root/tests/photos/coffee.jpg" "$bundle/release/tests/photos/"
echo "$commit" > "$bundle/release/app/commit.txt"
find "$bundle/release" -name __pycache__ -prune -exec rm -rf {} +
cp "$root/deploy/install.sh" "$bundle/install.sh"

echo "Collecting the wheels"
requirements=$("$python" - "$root/setup.cfg" "$extras" <<'PY'
import configparser
import sys

config = configparser.ConfigParser()
config.read(sys.argv[1])
lists = [config["options"]["install_requires"]]
lists += [config["options.extras_require"][extra] for extra in sys.argv[2].split()]
print("\n".join(line for text in lists for line in text.split("\n") if line.strip()))
PY
)
# torch has the same name for every flavour; PIP_ARGS selects the index with the right one.
printf '%s\n' "$requirements" "setuptools>=77" > "$work/requirements.txt"
# shellcheck disable=SC2086 # PIP_ARGS is a list of words
"$python" -m pip download --quiet --disable-pip-version-check --only-binary :all: \
    --constraint "$root/constraints.txt" --requirement "$work/requirements.txt" \
    --dest "$bundle/wheels" ${PIP_ARGS:-} 2> "$work/pip.log" || { cat "$work/pip.log" >&2; exit 1; }
cuda=$(find "$bundle/wheels" -name 'nvidia_*.whl' -o -name 'cuda_*.whl' -o -name 'torch-*+cu*.whl')
if [ "$flavour" = cpu ] && [ -n "$cuda" ]; then
    echo "bundle.sh: this index gives the CUDA build of torch, $(du -sm "$bundle/wheels" | cut -f1) MB" \
        "of wheels: name one with the CPU build (make bundle PIP_ARGS='--extra-index-url URL')" \
        "or WHEELS=FOLDER; servers with a GPU take FLAVOUR=cuda" >&2
    exit 1
elif [ "$flavour" != cpu ] && [ -z "$cuda" ]; then
    echo "bundle.sh: FLAVOUR=$flavour, but torch is not a CUDA build: run make bundle" \
        "FLAVOUR=$flavour PIP_ARGS='--extra-index-url URL' with an index of CUDA wheels" >&2
    exit 1
fi

echo "Collecting the packages"
for manifest in "$weights"/*/*/manifest.json; do
    [ -e "$manifest" ] || continue
    folder=$(dirname "$manifest")
    target="$bundle/packages/$(basename "$(dirname "$folder")")"
    mkdir -p "$target"
    cp -a "$folder" "$target/"
    # Printed, because an open model that was delivered by mistake cannot be taken back.
    kind=open
    grep -q '"publisher_key"' "$manifest" && kind=sealed
    echo "  $(basename "$(dirname "$folder")")/$(basename "$folder"), $kind"
    [ -e "$folder/../ACTIVE" ] && cp "$folder/../ACTIVE" "$target/"
done

{
    echo "RELEASE=$release"
    echo "FLAVOUR=$flavour"
    echo "EXTRAS=${extras// /,}"
    echo "ARCHITECTURE=$(uname -m)"
    "$python" -c 'import sys; print(f"PYTHON_VERSION={sys.version_info[0]}.{sys.version_info[1]}")'
    echo "INSTALLED_MB=$(( $(du -sm "$bundle" | cut -f1) * 5 ))"
} > "$bundle/RELEASE"
(cd "$bundle" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum > SHA256SUMS)
mkdir -p "$out"
tar -C "$work" --owner=0 --group=0 --mode=u=rwX,go=rX -cf "$out/$name.tar" "$name"
(cd "$out" && sha256sum "$name.tar" > "$name.tar.sha256")
echo "$out/$name.tar: $(du -m "$out/$name.tar" | cut -f1) MB"
