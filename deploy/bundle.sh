#!/usr/bin/env bash
# Build the bundle, one archive for offline installation: application, wheels, packages, installer,
# licences, checksums. The same commit and the same wheels always give the same bytes.
# Usage: bundle.sh PYTHON OUT_DIR WEIGHTS_DIR [FLAVOUR]; run by make bundle, with PIP_ARGS, PYTHONS
# (versions of Python, such as "3.11 3.12") and KEY (a private key that signs the checksums).
set -euo pipefail
umask 022

python=$1 out=$2 weights=$3 flavour=${4:-cpu} pythons=${PYTHONS:-3.11 3.12 3.13} key=${KEY:-}
if [ "$flavour" = cpu ]; then extras=${BUNDLE_EXTRAS-openvino}; else extras=${BUNDLE_EXTRAS-}; fi
root=$(cd "$(dirname "$0")/.." && pwd)
parts=(app docs deploy wsgi.py gunicorn.conf.py setup.cfg setup.py pyproject.toml constraints.txt LICENSE
    README.md README.zh-CN.md tests/photos/coffee.jpg)
version=$(sed -n 's/^version = //p' "$root/setup.cfg")
commit=$(git -C "$root" rev-parse --short=8 HEAD 2>/dev/null || echo local)
time=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
# Uncommitted changes get a new release name each time: an upgrade rejects the running release.
[ -z "$(git -C "$root" status --porcelain -- "${parts[@]}" 2>/dev/null)" ] || commit="$commit-$(date +%Y%m%d%H%M%S)"
release="$version-$commit-$flavour"
name="classifyd-$release"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle="$work/$name"
mkdir -p "$bundle/release" "$bundle/packages"

if [ -n "$key" ]; then
    # The bytes before an Ed25519 key in DER: RFC 8410.
    [ "$(openssl pkey -in "$key" -pubout -outform DER 2>/dev/null | head -c 12 | od -An -tx1 | tr -d ' ')" \
        = 302a300506032b6570032100 ] || {
        echo "bundle.sh: KEY=$key: expected an Ed25519 private key; classifyd licence keygen --key FILE creates one" >&2
        exit 1
    }
fi

echo "Collecting $name"
# The sample photo verifies an installation; setup.cfg uses README.md as the description.
if git -C "$root" rev-parse 2>/dev/null; then
    git -C "$root" ls-files -z --cached --others --exclude-standard -- "${parts[@]}" > "$work/files"
else
    (cd "$root" && find "${parts[@]}" -name __pycache__ -prune -o -type f -print0) > "$work/files" || true
fi
tar -C "$root" --null --files-from="$work/files" -cf - | tar -C "$bundle/release" -xf -
[ ! -e "$root/app/manual" ] || cp -r "$root/app/manual" "$bundle/release/app/"
[ -e "$bundle/release/README.md" ] || echo "classifyd" > "$bundle/release/README.md"
echo "$commit" > "$bundle/release/app/commit.txt"
cp "$root/deploy/install.sh" "$bundle/install.sh"

echo "Collecting the wheels"
"$python" "$root/deploy/bundle_wheels.py" "$bundle" --pythons "$pythons" --flavour "$flavour" --extras "$extras"

echo "Collecting the packages"
for manifest in "$weights"/*/*/manifest.json; do
    [ -e "$manifest" ] || continue
    folder=$(dirname "$manifest")
    target="$bundle/packages/$(basename "$(dirname "$folder")")"
    mkdir -p "$target"
    cp -r "$folder" "$target/"
    # Printed, because an open model that was delivered by mistake cannot be taken back.
    kind=open
    grep -q '"publisher_key"' "$manifest" && kind=sealed
    echo "  $(basename "$(dirname "$folder")")/$(basename "$folder"), $kind"
    [ -e "$folder/../ACTIVE" ] && cp "$folder/../ACTIVE" "$target/"
done

printf 'RELEASE=%s\nFLAVOUR=%s\nEXTRAS=%s\nARCHITECTURE=%s\n' \
    "$release" "$flavour" "${extras// /,}" "$(uname -m)" > "$bundle/RELEASE"
SOURCE_DATE_EPOCH=$time PYTHONPATH="$root" "$python" "$root/deploy/bundle_sbom.py" "$bundle"
[ -z "$key" ] || openssl pkey -in "$key" -pubout -out "$bundle/publisher.pem"
(cd "$bundle" && find . -type f ! -name SHA256SUMS -print0 | LC_ALL=C sort -z | xargs -0 sha256sum > SHA256SUMS)
mkdir -p "$out"
if [ -n "$key" ]; then
    openssl pkeyutl -sign -rawin -inkey "$key" -in "$bundle/SHA256SUMS" -out "$bundle/SHA256SUMS.sig"
    cp "$bundle/publisher.pem" "$out/publisher.pem"
    echo "Signed by the key $(openssl pkey -in "$key" -pubout -outform DER | tail -c 32 | sha256sum | cut -d ' ' -f 1)," \
        "whose public half is $out/publisher.pem"
else
    echo "Not signed: KEY=FILE signs the bundle"
fi
tar -C "$work" --format=gnu --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX -cf "$out/$name.tar" "$name"
(cd "$out" && sha256sum "$name.tar" > "$name.tar.sha256")
echo "$out/$name.tar: $(du -m --apparent-size "$out/$name.tar" | cut -f 1) MB"
