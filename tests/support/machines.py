"""Recorded machines: the kernel's files that the fingerprint is read from."""

from pathlib import Path

CARD = "GPU-8f2a6c1e-0b3d-4e5f-9a7b-1c2d3e4f5a6b"

_CPU = "".join(
    f"processor\t: {index}\nmodel name\t: Intel(R) Xeon(R) Silver 4310 CPU @ 2.10GHz\n\n"
    for index in range(4)
)

_SERVER = {
    "etc/machine-id": "4f1c2b3a5d6e7f8091a2b3c4d5e6f708\n",
    "sys/class/dmi/id/product_uuid": "4c4c4544-0031-3510-8052-b4c04f4d3633\n",
    "proc/cpuinfo": _CPU,
    # A root on LVM on a partition of an NVMe disk.
    "proc/self/mountinfo": "22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw\n"
    "23 22 0:21 / /proc rw - proc proc rw\n",
    "sys/devices/nvme0n1/nvme0n1p3/partition": "3\n",
    "sys/devices/nvme0n1/device/serial": "S5GXNX0T123456 \n",
    "sys/devices/dm-0/size": "1\n",
    "sys/devices/card0/vendor": "0x8086\n",
    "sys/class/net/eno1/type": "1\n",
    "sys/class/net/eno1/addr_assign_type": "0\n",
    "sys/class/net/eno1/address": "b4:96:91:aa:bb:01\n",
    # A bridge has no device, and a container's pair has a random address.
    "sys/class/net/docker0/type": "1\n",
    "sys/class/net/docker0/addr_assign_type": "3\n",
    "sys/class/net/docker0/address": "02:42:ac:11:00:01\n",
    "sys/class/net/lo/type": "772\n",
    "sys/class/net/lo/addr_assign_type": "0\n",
    "sys/class/net/lo/address": "00:00:00:00:00:00\n",
}

_CARD_FILES = {
    "proc/driver/nvidia/gpus/0000:3b:00.0/information": "Model: \t\t NVIDIA A10\n"
    f"IRQ:   \t\t 120\nGPU UUID: \t {CARD}\nDevice Minor: \t 0\n"
}


def build_machine(root: Path, *, has_card: bool = False, **changes: str) -> Path:
    """Write a server's files under a root; a change is keyed by the fact that it changes.

    Args:
        root: the folder to fill.
        has_card: with one NVIDIA card.
        **changes: new content by fact: machine_id, board, cpu, disk, network.
    """
    files = _SERVER | (_CARD_FILES if has_card else {})
    files |= {PATHS[fact]: content for fact, content in changes.items()}
    _write(root, files)
    _link(root / "sys/dev/block/253:0", root / "sys/devices/dm-0")
    _link(root / "sys/devices/dm-0/slaves/nvme0n1p3", root / "sys/devices/nvme0n1/nvme0n1p3")
    _link(root / "sys/class/net/eno1/device", root / "sys/devices/card0")
    return root


_CONTAINER = {
    "proc/cpuinfo": _CPU,
    # As Podman shows it, without devices: /sys/dev/block is masked, and eth0 is one end of a pair.
    "proc/self/mountinfo": "1157 1091 0:88 / / ro,relatime - overlay overlay ro,lowerdir=/var/lib\n"
    "1170 1157 254:0 /state /var/lib/classifyd/state rw,relatime - ext4 /dev/vda rw\n",
    "etc/machine-id": "00000000000000000000000000000001\n",
    "sys/class/net/eth0/type": "1\n",
    "sys/class/net/eth0/addr_assign_type": "3\n",
    "sys/class/net/eth0/address": "7e:05:1c:22:31:9a\n",
}


def build_container(root: Path, marker: str) -> Path:
    """Write the files that a container on that server shows to an account other than root."""
    _write(root, _CONTAINER | {marker: ""})
    return root


def mount_host_facts(root: Path) -> None:
    """Mount the server's machine id and product UUID into the container, see docs/containers.md."""
    target = "/etc/machine-id"
    mount = f"1171 1157 254:0 {target} {target} ro,relatime - ext4 /dev/vda rw\n"
    _write(
        root,
        {
            "etc/machine-id": _SERVER["etc/machine-id"],
            "run/classifyd/product_uuid": _SERVER["sys/class/dmi/id/product_uuid"],
            "proc/self/mountinfo": _CONTAINER["proc/self/mountinfo"] + mount,
        },
    )


def _write(root: Path, files: dict[str, str]) -> None:
    for relative, content in files.items():
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


PATHS = {
    "machine_id": "etc/machine-id",
    "board": "sys/class/dmi/id/product_uuid",
    "cpu": "proc/cpuinfo",
    "disk": "sys/devices/nvme0n1/device/serial",
    "network": "sys/class/net/eno1/address",
}

CHANGED = {
    "machine_id": "00000000000000000000000000000001\n",
    "board": "11111111-2222-3333-4444-555555555555\n",
    "cpu": "processor\t: 0\nmodel name\t: another\n",
    "disk": "ANOTHERDISK\n",
    "network": "b4:96:91:aa:bb:02\n",
}


def change(*facts: str) -> dict[str, str]:
    """New content for these facts, as build_machine takes it."""
    return {fact: CHANGED[fact] for fact in facts}


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
