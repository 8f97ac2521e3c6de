"""``classifyd batch`` with photos in S3, and on a Ray cluster of two nodes."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.batch import batch_options, read_rows
from tests.support.commands import run_classifyd
from tests.support.images import PHOTOS
from tests.support.tools import import_package

TOP_2 = ("--top-num", "2")
FILES = sorted(path for path in PHOTOS.iterdir() if path.suffix != ".md")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket ``photos`` of a service with S3's interface, which the environment names."""
    server = import_package("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    boto3 = import_package("boto3")
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    yield client
    server.stop()


def test_photos_in_s3_have_the_rows_of_a_folder(
    bucket: Any, colour_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in FILES:
        shutil.copy(path, folder)
        bucket.upload_file(str(path), "photos", f"2026/{path.name}")
    bucket.put_object(Bucket="photos", Key="2026/.hidden", Body=b"x")
    bucket.put_object(Bucket="photos", Key="other/a.jpg", Body=b"x")
    far, near = tmp_path / "far", tmp_path / "near"
    run_classifyd(
        "batch",
        "s3://photos/2026",
        *batch_options(colour_weights, "colours", far, *TOP_2),
    )
    run_classifyd("batch", folder, *batch_options(colour_weights, "colours", near, *TOP_2))
    assert read_rows(far) == read_rows(near)
    assert len(read_rows(far)) == len(FILES)
    missing = run_classifyd(
        "batch",
        "s3://nobody/2026",
        *batch_options(colour_weights, "colours", tmp_path / "no", *TOP_2),
        status=3,
    )
    assert "s3://nobody/2026 cannot be" in missing.stderr
    assert missing.stderr.count("\n") == 1
