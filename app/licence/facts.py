"""Stable facts about this machine's hardware, from files of the kernel.

Host names, container ids, virtual and randomised network addresses and everything else that
changes with a boot or a container are left out. Every reader takes the root of the file
system, so that tests can use a recorded tree.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from app.system.files import read_regular

ROOT = Path("/")

RUNTIME_DIR = "run/classifyd"
"""The systemd unit copies the board's identifiers here, as only root can read them."""

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
        # The firmware vendor's sample value, on whole series of boards.
        "03000200-0400-0500-0006-000700080009",
    }
)

Facts = dict[str, tuple[str, ...]]
"""The values of each kind of fact on this machine; unreadable kinds are absent."""


def read_facts(root: Path = ROOT) -> Facts:
    """Read the facts that are readable for this account, under a root of the file system."""
    readers: dict[str, Callable[[Path], Iterable[str]]] = {
        "machine_id": _machine_id,
        "board": _board,
        "cpu": _cpu,
        "disk": _disk,
        "network": _network,
        "gpu": gpu_models,
    }
    facts = {kind: tuple(sorted(set(read(root)))) for kind, read in readers.items()}
    return {kind: values for kind, values in facts.items() if values}


def gpu_models(root: Path = ROOT) -> dict[str, str]:
    """Find the NVIDIA GPUs: their model names by UUID."""
    cards: dict[str, str] = {}
    for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        text = _read(path)
        uuid = re.search(r"^GPU UUID:\s*(GPU-[0-9a-f-]{36})$", text, re.MULTILINE)
        model = re.search(r"^Model:\s*(.+)$", text, re.MULTILINE)
        if uuid:
            cards[uuid[1]] = model[1].strip() if model else "unknown"
    # The driver's file hides the UUID from some accounts; nvidia-smi shows it to all.
    return cards or (_cards_of_nvidia_smi() if root == ROOT else {})


def is_container(root: Path = ROOT) -> bool:
    """Whether this is a container of Docker or Podman."""
    return (root / ".dockerenv").exists() or (root / "run/.containerenv").exists()


def _machine_id(root: Path) -> Iterator[str]:
    """Yield systemd's machine id; in a container only if it is mounted, as the image's is shared.

    The image made by ``deploy/container`` has none, so that this holds in Kubernetes too.
    """
    if is_container(root) and not any(mount[4] == "/etc/machine-id" for mount in _mounts(root)):
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
    """Yield the serial of each disk of the root file system."""
    for mount in _mounts(root):
        if mount[4] == "/":
            by_number = root / "sys/dev/block" / mount[2]
            source = mount[mount.index("-") + 2]
            by_name = root / "sys/class/block" / Path(source).name
            device = by_number if by_number.exists() else by_name
            if device.exists():
                yield from _serials(device.resolve())


def _mounts(root: Path) -> list[list[str]]:
    """List the mounts: ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ... - TYPE SOURCE, see proc(5)."""
    lines = _read(root / "proc/self/mountinfo").splitlines()
    return [parts for parts in map(str.split, lines) if len(parts) > 9]


def _serials(device: Path) -> Iterator[str]:
    """Follow a partition to its disk, and LVM, LUKS or RAID to the members."""
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
    """Yield the permanent addresses of physical network interfaces."""
    for interface in sorted((root / "sys/class/net").glob("*")):
        if not (interface / "device").exists() or _read(interface / "type").strip() != "1":
            continue
        # An interface in a bond has the address of the bond; its own is here.
        bonded = _read(interface / "bonding_slave/perm_hwaddr").strip()
        is_permanent = _read(interface / "addr_assign_type").strip() == "0"
        address = bonded or (_read(interface / "address").strip() if is_permanent else "")
        if address.strip("0:"):
            yield address.lower()


def _cards_of_nvidia_smi() -> dict[str, str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    try:
        listing = subprocess.run(  # noqa: S603 - the driver's own tool with fixed arguments
            [tool, "-L"], capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    cards = re.findall(r"^GPU \d+: (.+) \(UUID: (GPU-[0-9a-f-]{36})\)$", listing, re.MULTILINE)
    return {uuid: model for model, uuid in cards}


def _read(path: Path) -> str:
    """Read a small file, empty if it does not exist or is not readable."""
    try:
        return read_regular(path).decode("utf-8", "replace")
    except OSError:
        return ""
