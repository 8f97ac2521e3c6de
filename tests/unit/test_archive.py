"""Archives: the same bytes each time, and nothing unexpected is unpacked."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from app.errors import OperatorError, PackageError, SettingsError
from app.packages.archive import install_archive, write_archive
from app.packages.signing import TrustedKeys, read_private_key, read_trusted_keys
from app.packages.staging import LOCK_FILE
from tests.support.keys import write_key
from tests.support.packages import build_colour_package

Change = Callable[[tarfile.TarInfo], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tmp_path_factory.mktemp("weights")
    return build_colour_package(weights, "pets", ["red", "green", "blue"])


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    write_archive(folder, tmp_path / "pets.tar")
    return tmp_path / "pets.tar"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def trust(folder: Path) -> TrustedKeys:
    trusted = read_trusted_keys(folder, Path("/nowhere"))
    assert trusted is not None
    return trusted


def rewrite(archive: Path, change: Change, extra: str = "", only: str = "") -> None:
    """Write the archive again with changed headers and an extra file."""
    with tarfile.open(archive) as old:
        files = {member.name: old.extractfile(member) for member in old}
        contents = {name: stream.read() for name, stream in files.items() if stream}
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as new:
        for name, data in [*contents.items(), *([(extra, b"extra")] if extra else [])]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if only in {"", name}:
                change(info)
            new.addfile(info, io.BytesIO(data) if info.isreg() else None)


def test_the_same_package_gives_the_same_bytes(folder: Path, archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "pets" / "1"
    shutil.copytree(folder, copy)
    (copy / "notes.txt").write_text("not in the manifest")
    write_archive(copy, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_an_archive_installs_as_the_same_package(folder: Path, archive: Path, store: Path) -> None:
    package = install_archive(archive, store, None)
    assert package.folder == store / "pets" / "1"
    names = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in package.folder.iterdir()) == names
    for name in names:
        assert (package.folder / name).read_bytes() == (folder / name).read_bytes()


def test_an_installed_version_is_not_installed_again(archive: Path, store: Path) -> None:
    install_archive(archive, store, None)
    with pytest.raises(PackageError, match="exists already"):
        install_archive(archive, store, None)


def test_an_archive_is_not_written_over_a_file(folder: Path, archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(PackageError, match="exists already"):
        write_archive(folder, archive)
    assert archive.read_bytes() == before


def set_type(kind: bytes) -> Change:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, "/etc/passwd"
        info.size = 0

    return change


def nothing(info: tarfile.TarInfo) -> None:
    """Leave the header unchanged."""


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "extra.txt", "labels.txt"])
def test_a_file_not_in_the_manifest_or_there_twice_is_refused(
    archive: Path, store: Path, name: str
) -> None:
    rewrite(archive, nothing, extra=name)
    with pytest.raises(PackageError, match="which is not in the manifest or comes twice"):
        install_archive(archive, store, None)
    assert [path.name for path in store.iterdir()] == [LOCK_FILE]
    assert not (store.parent / "evil").exists()


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
    ],
)
def test_only_regular_files_are_accepted(archive: Path, store: Path, kind: bytes) -> None:
    rewrite(archive, set_type(kind), only="labels.txt")
    with pytest.raises(PackageError, match="which is not a regular file"):
        install_archive(archive, store, None)
    assert not store.exists()


def test_a_file_over_the_limit_is_refused_before_it_is_read(archive: Path, store: Path) -> None:
    info = tarfile.TarInfo("manifest.json")
    info.size = 8 * 1024**3 - 1
    archive.write_bytes(info.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(PackageError, match="at most 4194304 allowed"):
        install_archive(archive, store, None)
    info.size = 2**40
    archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(PackageError, match="holds more than 8589934592 bytes"):
        install_archive(archive, store, None)


def test_a_truncated_archive_is_refused(archive: Path, store: Path) -> None:
    whole = archive.read_bytes()
    cuts = [*range(0, 4096, 256), *range(4096, len(whole.rstrip(b"\0")), 2048)]
    for cut in cuts:
        archive.write_bytes(whole[:cut])
        with pytest.raises(PackageError, match=r"pets\.tar"):
            install_archive(archive, store, None)
        assert not (store / "pets").exists()


def test_a_changed_byte_is_detected_anywhere(archive: Path, store: Path) -> None:
    whole = archive.read_bytes()
    for position in range(0, len(whole.rstrip(b"\0")), 1499):
        changed = bytearray(whole)
        changed[position] ^= 0x55
        archive.write_bytes(changed)
        try:
            install_archive(archive, store, None)
        except PackageError:
            assert not (store / "pets").exists()
        else:
            raise AssertionError(f"byte {position} was changed and nobody noticed")


def test_data_after_the_end_is_refused(archive: Path, store: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"\0" * 4096 + b"more")
    with pytest.raises(PackageError, match="has data after its end"):
        install_archive(archive, store, None)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"\xff" * 2048])
def test_a_file_of_another_format_is_refused(tmp_path: Path, store: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(PackageError, match="is not a package archive, or is damaged"):
        install_archive(tmp_path / "other", store, None)


def test_a_missing_archive_is_named(tmp_path: Path, store: Path) -> None:
    with pytest.raises(OperatorError, match="missing.tar cannot be read: No such file"):
        install_archive(tmp_path / "missing.tar", store, None)


def test_a_signed_archive_is_installed_and_written_again_with_its_signature(
    folder: Path, tmp_path: Path, store: Path
) -> None:
    key = write_key(tmp_path / "ours", tmp_path / "trusted")
    write_archive(folder, tmp_path / "signed.tar", key)
    package = install_archive(tmp_path / "signed.tar", store, trust(tmp_path / "trusted"))
    write_archive(package.folder, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "signed.tar").read_bytes()


def test_without_a_valid_signature_of_a_trusted_key_nothing_is_installed(
    folder: Path, archive: Path, tmp_path: Path, store: Path
) -> None:
    foreign = write_key(tmp_path / "foreign", tmp_path / "others")
    ours = write_key(tmp_path / "ours", tmp_path / "trusted")
    trusted = trust(tmp_path / "trusted")
    with pytest.raises(PackageError, match="is not signed, but trusted_keys"):
        install_archive(archive, store, trusted)
    write_archive(folder, tmp_path / "foreign.tar", foreign)
    with pytest.raises(PackageError, match="is signed with the key .* which is not in"):
        install_archive(tmp_path / "foreign.tar", store, trusted)
    write_archive(folder, tmp_path / "ours.tar", ours)
    changed = (tmp_path / "ours.tar").read_bytes().replace(b'"logits"', b'"logit2"', 1)
    (tmp_path / "ours.tar").write_bytes(changed)
    with pytest.raises(PackageError, match="was changed after it was signed"):
        install_archive(tmp_path / "ours.tar", store, trusted)
    assert not store.exists()


def test_files_that_are_not_keys_are_refused(tmp_path: Path) -> None:
    private = generate_private_key(SECP256R1())
    wrong = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    secret = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    for content in (b"", b"no key", wrong, secret):
        (tmp_path / "key.pem").write_bytes(content)
        with pytest.raises(SettingsError, match="expected an Ed25519 private key"):
            read_private_key(tmp_path / "key.pem")
        with pytest.raises(SettingsError, match="expected an Ed25519 public key"):
            read_trusted_keys(tmp_path, Path("/nowhere"))
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_private_key(tmp_path / "missing.pem")


def test_a_configured_trusted_folder_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "trusted"
    assert read_trusted_keys(missing, default=missing) is None
    with pytest.raises(SettingsError, match="expected a folder"):
        read_trusted_keys(missing, default=tmp_path)
