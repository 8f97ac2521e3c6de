"""The facts of a machine, read from recorded trees of the kernel's files."""

from pathlib import Path

import pytest

from app.errors import LicenceError
from app.licence.facts import gpu_models, read_facts
from app.licence.fingerprint import fingerprint_bytes, read_fingerprint, take_fingerprint
from tests.support.machines import (
    CARD,
    PATHS,
    build_container,
    build_machine,
    mount_host_facts,
)


def test_facts_of_a_server_are_the_stable_ones(tmp_path: Path) -> None:
    assert read_facts(build_machine(tmp_path)) == {
        "machine_id": ("4f1c2b3a5d6e7f8091a2b3c4d5e6f708",),
        "board": ("product_uuid=4c4c4544-0031-3510-8052-b4c04f4d3633",),
        "cpu": ("4 x Intel(R) Xeon(R) Silver 4310 CPU @ 2.10GHz",),
        "disk": ("S5GXNX0T123456",),
        "network": ("b4:96:91:aa:bb:01",),
    }


def test_gpus_are_read_from_the_driver(tmp_path: Path) -> None:
    root = build_machine(tmp_path, has_card=True)
    assert read_facts(root)["gpu"] == (CARD,)
    assert gpu_models(root) == {CARD: "NVIDIA A10"}


def test_an_address_that_changes_on_reboot_is_left_out(tmp_path: Path) -> None:
    root = build_machine(tmp_path)
    (root / "sys/class/net/eno1/addr_assign_type").write_text("1\n")
    assert "network" not in read_facts(root)


def test_a_bonded_interface_keeps_its_permanent_address(tmp_path: Path) -> None:
    root = build_machine(tmp_path)
    (root / "sys/class/net/eno1/addr_assign_type").write_text("3\n")
    (root / "sys/class/net/eno1/bonding_slave").mkdir()
    (root / "sys/class/net/eno1/bonding_slave/perm_hwaddr").write_text("b4:96:91:aa:bb:09\n")
    assert read_facts(root)["network"] == ("b4:96:91:aa:bb:09",)


@pytest.mark.parametrize("marker", [".dockerenv", "run/.containerenv"])
def test_the_machine_id_of_a_container_image_is_left_out(tmp_path: Path, marker: str) -> None:
    root = build_machine(tmp_path)
    (root / marker).parent.mkdir(exist_ok=True)
    (root / marker).touch()
    assert "machine_id" not in read_facts(root)


@pytest.mark.parametrize("marker", [".dockerenv", "run/.containerenv"])
def test_facts_of_a_container_are_those_that_its_host_shows(tmp_path: Path, marker: str) -> None:
    server = read_facts(build_machine(tmp_path / "server"))
    root = build_container(tmp_path / "container", marker)
    assert read_facts(root) == {"cpu": server["cpu"]}
    mount_host_facts(root)
    assert read_facts(root) == {kind: server[kind] for kind in ("machine_id", "board", "cpu")}


@pytest.mark.parametrize(
    "text",
    [
        "To Be Filled By O.E.M.\n",
        "00000000-0000-0000-0000-000000000000\n",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n",
        "03000200-0400-0500-0006-000700080009\n",
    ],
)
def test_a_placeholder_of_the_firmware_is_no_fact(tmp_path: Path, text: str) -> None:
    assert "board" not in read_facts(build_machine(tmp_path, board=text))


def test_a_board_that_only_root_may_read_is_found_where_the_unit_copied_it(tmp_path: Path) -> None:
    root = build_machine(tmp_path)
    runtime = root / "run/classifyd"
    runtime.mkdir(parents=True)
    before = read_facts(root)["board"]
    (root / PATHS["board"]).rename(runtime / "product_uuid")
    assert read_facts(root)["board"] == before


def test_the_serial_of_a_scsi_disk_is_read_from_its_vpd_page(tmp_path: Path) -> None:
    root = build_machine(tmp_path)
    (root / PATHS["disk"]).unlink()
    (root / "sys/devices/nvme0n1/device/vpd_pg80").write_bytes(b"\x00\x80\x00\x08WD-12345")
    assert read_facts(root)["disk"] == ("WD-12345",)


def test_a_fingerprint_reveals_no_fact_of_the_machine(tmp_path: Path) -> None:
    root = build_machine(tmp_path, has_card=True)
    taken = take_fingerprint(read_facts(root), gpu_models(root), bytes(32))
    text = fingerprint_bytes(taken).decode().lower()
    for values in read_facts(root).values():
        for value in values:
            assert value.lower() not in text
    again = take_fingerprint(read_facts(root), gpu_models(root), bytes(32))
    assert again.facts != taken.facts


def test_a_damaged_fingerprint_is_refused(tmp_path: Path) -> None:
    taken = take_fingerprint(read_facts(build_machine(tmp_path / "root")), {}, bytes(32))
    path = tmp_path / "fingerprint.json"
    path.write_bytes(fingerprint_bytes(taken))
    assert read_fingerprint(path) == taken
    path.write_bytes(fingerprint_bytes(taken).replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(LicenceError, match=r"fingerprint\.json"):
        read_fingerprint(path)
