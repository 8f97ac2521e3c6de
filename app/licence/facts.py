"""Stable facts about this machine's hardware, read from the kernel's own files.

Left out on purpose: host names and container ids, virtual and randomised network addresses,
and whatever else another boot or another container changes. Every reader takes the root of
the file system, so that a recorded tree is read by the same code.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")

RUNTIME_DIR = "run/classifyd"
"""Where the systemd unit, as root, copies the board's identifiers for the service's account."""

NVIDIA_SMI_TIMEOUT_S = 20

_PLACEHOLDERS = frozenset(
    {
        "",
        "0",
        "none",
        "default string",
        "not specified",
        "not applicable",
        "to be filled by o.e.m.",
        "system serial number",
        "base board serial number",
        # The firmware vendor's sample value, which whole series of boards were sold with.
        "03000200-0400-0500-0006-000700080009",
    }
)

Facts = dict[str, tuple[str, ...]]
"""For each kind of fact its values on this machine; a kind that cannot be read is absent."""


def read_facts(root: Path = ROOT) -> Facts:
    """Read every fact that this account can read.

    Args:
        root: of the file system; another one holds a recorded tree.
    """
    readers = {
        "machine_id": _machine_id,
        "board": _board,
        "cpu": _cpu,
        "disk": _disk,
        "network": _network,
        "gpu": _gpu,
    }
    facts = {kind: tuple(sorted(set(read(root)))) for kind, read in readers.items()}
    return {kind: values for kind, values in facts.items() if values}


def gpu_models(root: Path = ROOT) -> dict[str, str]:
    """List the NVIDIA cards: for each UUID the model's name."""
    cards: dict[str, str] = {}
    for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        text = _read(path)
        uuid = re.search(r"^GPU UUID:\s*(GPU-[0-9a-f-]{36})$", text, re.MULTILINE)
        model = re.search(r"^Model:\s*(.+)$", text, re.MULTILINE)
        if uuid:
            cards[uuid[1]] = model[1].strip() if model else "unknown"
    # The driver's file hides the UUID from some accounts; its own tool knows it then.
    return cards or (_cards_of_nvidia_smi() if root == ROOT else {})


def _machine_id(root: Path) -> Iterator[str]:
    """Yield systemd's machine id; in a Docker or Podman container it is the image's."""
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return
    text = _read(root / "etc/machine-id").strip()
    if re.fullmatch(r"[0-9a-f]{32}", text):
        yield text


def _board(root: Path) -> Iterator[str]:
    """Yield the firmware's product UUID or the board's serial, which only root can read."""
    for name in ("product_uuid", "board_serial"):
        for folder in ("sys/class/dmi/id", RUNTIME_DIR):
            text = _read(root / folder / name).strip().lower()
            if text not in _PLACEHOLDERS and text.strip("0-f"):
                yield f"{name}={text}"
                return


def _cpu(root: Path) -> Iterator[str]:
    text = _read(root / "proc/cpuinfo")
    count = len(re.findall(r"^processor\s*:", text, re.MULTILINE))
    model = re.search(r"^(?:model name|CPU part)\s*:\s*(.+)$", text, re.MULTILINE)
    if model and count:
        yield f"{count} x {model[1].strip()}"


def _disk(root: Path) -> Iterator[str]:
    """Yield the serial of the disk, or of each member, that the root file system lies on."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        # ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ... - TYPE SOURCE (proc(5), mountinfo)
        parts = line.split()
        if len(parts) > 9 and parts[4] == "/":
            by_number = root / "sys/dev/block" / parts[2]
            source = parts[parts.index("-") + 2]
            by_name = root / "sys/class/block" / Path(source).name
            device = by_number if by_number.exists() else by_name
            if device.exists():
                yield from _serials(device.resolve())


def _serials(device: Path) -> Iterator[str]:
    """Go from a partition to its disk, and from LVM, LUKS or RAID down to the members."""
    if (device / "partition").exists():
        device = device.parent
    for member in sorted((device / "slaves").glob("*")):
        yield from _serials(member.resolve())
    for name in ("serial", "device/serial", "device/vpd_pg80", "wwid", "device/wwid"):
        text = "".join(re.findall(r"[\x21-\x7e]+", _read(device / name)))
        if text.lower() not in _PLACEHOLDERS:
            yield text
            return


def _network(root: Path) -> Iterator[str]:
    """Yield the permanent addresses of cards with a device behind them."""
    for interface in sorted((root / "sys/class/net").glob("*")):
        if not (interface / "device").exists() or _read(interface / "type").strip() != "1":
            continue
        # In a bond the card answers with the bond's address and keeps its own here.
        bonded = _read(interface / "bonding_slave/perm_hwaddr").strip()
        is_permanent = _read(interface / "addr_assign_type").strip() == "0"
        address = bonded or (_read(interface / "address").strip() if is_permanent else "")
        if address.strip("0:"):
            yield address.lower()


def _gpu(root: Path) -> Iterator[str]:
    yield from gpu_models(root)


def _cards_of_nvidia_smi() -> dict[str, str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    try:
        listing = subprocess.run(  # noqa: S603 - the driver's own tool, no foreign arguments
            [tool, "-L"], capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    cards = re.findall(r"^GPU \d+: (.+) \(UUID: (GPU-[0-9a-f-]{36})\)$", listing, re.MULTILINE)
    return {uuid: model for model, uuid in cards}


def _read(path: Path) -> str:
    """A small file's text, empty when it is not there or not ours to read."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
