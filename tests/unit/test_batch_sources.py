"""Which photos a source of ``classifyd batch`` has, and how their rows are written."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.batch.photos import MAX_FILE_BYTES, Source, read_content, to_text
from app.batch.results import Plan, open_results
from app.batch.rows import FORMATS, Model, Row
from app.batch.sources import open_source
from app.errors import OperatorError
from app.settings import PROJECT_ROOT
from tests.support.tools import import_package

PHOTO = PROJECT_ROOT / "tests" / "photos" / "coffee.jpg"
NOWHERE = Path("/nonexistent")
MODEL = Model("colours", "1", "d1")


def names(source: Source) -> list[str]:
    return [photo.name for photo in source.photos]


def contents(source: Source) -> list[bytes | None]:
    source.reader.check()
    return [read().data for read in source.reader.read(source.photos)]


def test_a_folder_has_its_files_at_any_depth_without_hidden_and_foreign_ones(
    tmp_path: Path,
) -> None:
    for name in ("b.jpg", "a/c.png", "a/x\ny.jpg", ".hidden.jpg", ".git/d.jpg", "@eaDir/e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jpg")).write_bytes(b"raw")
    (tmp_path / "link.jpg").symlink_to("b.jpg")
    (tmp_path / "broken.jpg").symlink_to("nothing")
    (tmp_path / "circle").symlink_to(".")
    os.mkfifo(tmp_path / "pipe.jpg")
    source = open_source(str(tmp_path), NOWHERE)
    expected = ["a/c.png", "a/x\ny.jpg", "b.jpg", "broken.jpg", "link.jpg", "\udcff.jpg"]
    assert names(source) == expected
    assert to_text(expected[-1]) == r"\xff.jpg"
    assert source.passed_over == 5


def test_the_results_folder_is_no_part_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "part-000000.jsonl").write_bytes(b"{}")
    (tmp_path / "link").symlink_to("results")
    assert names(open_source(str(tmp_path), tmp_path / "link")) == ["a.jpg"]
    with pytest.raises(OperatorError, match="is the results folder too"):
        open_source(str(tmp_path), tmp_path)


def test_the_digest_of_a_source_changes_with_any_photo(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    before = open_source(str(tmp_path), NOWHERE).digest()
    assert open_source(str(tmp_path), NOWHERE).digest() == before
    (tmp_path / "a.jpg").write_bytes(b"b")
    assert open_source(str(tmp_path), NOWHERE).digest() != before


@pytest.mark.parametrize(
    "text", [b"a.jpg\nb c.jpg\r\n\na.jpg\nno.jpg", b"a.jpg\0b c.jpg\0no.jpg\0"]
)
def test_a_list_names_files_relative_to_itself_each_once(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "b c.jpg").write_bytes(b"b")
    (tmp_path / "list").write_bytes(text)
    source = open_source(str(tmp_path / "list"), NOWHERE)
    assert names(source) == ["a.jpg", "b c.jpg", "no.jpg"]
    reads = list(source.reader.read(source.photos))
    assert [read().data for read in reads[:2]] == [b"a", b"b"]
    with pytest.raises(FileNotFoundError):
        reads[2]()


def write_tar(path: Path, opener: Callable[..., tarfile.TarFile] = tarfile.open) -> None:
    with opener(path, "w") as archive:
        for name, data in (("../out.jpg", b"out"), ("a.jpg", b"old"), ("a.jpg", b"new")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, kind in (("hard.jpg", tarfile.LNKTYPE), ("soft.jpg", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.jpg"
            archive.addfile(member)
        member = tarfile.TarInfo("._a.jpg")
        archive.addfile(member)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_tar_is_read_in_place_and_a_path_outside_is_only_a_name(
    tmp_path: Path, compressed: bool
) -> None:
    path = tmp_path / "photos"
    write_tar(path)
    if compressed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    source = open_source(str(path), NOWHERE)
    assert sorted(zip(names(source), contents(source), strict=True)) == [
        ("../out.jpg", b"out"),
        ("a.jpg", b"new"),
        ("hard.jpg", b"new"),
    ]
    assert source.passed_over == 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kept", [512 * 3, 512 * 3 + 700, 512 * 4 + 2])
def test_a_cut_tar_is_refused(tmp_path: Path, kept: int, compressed: bool) -> None:
    path = tmp_path / "photos.tar"
    write_tar(path)
    data = path.read_bytes()[:kept]
    path.write_bytes(gzip.compress(data) if compressed else data)
    with pytest.raises(OperatorError, match="is damaged after"):
        open_source(str(path), NOWHERE)


def test_a_damaged_header_in_a_tar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.tar"
    write_tar(path)
    data = bytearray(path.read_bytes())
    data[1024 + 150] ^= 0xFF  # the checksum of the second member
    path.write_bytes(data)
    with pytest.raises(OperatorError, match=r"is damaged after '\.\./out\.jpg'"):
        open_source(str(path), NOWHERE)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "found no photos"),
        (PHOTO.read_bytes(), "is one photo"),
        (b"PK\x03\x04rest", "another kind of archive"),
        (b"a\0b", "neither a list of paths nor a tar"),
        (gzip.compress(b"text"), "is damaged at its beginning, or no tar"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "source").write_bytes(data)
    with pytest.raises(OperatorError, match=problem):
        open_source(str(tmp_path / "source"), NOWHERE)


def test_a_source_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OperatorError, match="cannot be read: No such file"):
        open_source("/nonexistent/photos", NOWHERE)


def test_a_folder_that_is_gone_is_not_a_folder_of_bad_photos(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a")
    source = open_source(str(folder), NOWHERE)
    read = next(source.reader.read(source.photos))
    folder.rename(tmp_path / "other")
    with pytest.raises(OperatorError, match="cannot be read"):
        read()
    folder.mkdir()
    with pytest.raises(OperatorError, match="another folder now"):
        read()


def test_a_file_that_is_too_large_has_its_digest_only() -> None:
    data = bytes(MAX_FILE_BYTES + 5)
    for expected_bytes in (-1, 10, len(data)):
        content = read_content(io.BytesIO(data), expected_bytes)
        assert (content.data, content.size) == (None, len(data))
        assert content.sha256 == hashlib.sha256(data).hexdigest()
        assert read_content(io.BytesIO(data[5:]), expected_bytes).data == data[5:]
    assert read_content(io.BytesIO(b"short"), 10).data == b"short"


ROWS = [
    Row('a,"b"\r\nc.jpg', "00ff", [{"name": "红色", "score": 0.30000001192092896}]),
    Row("bad.jpg", None, (), 336005, "no magic"),
]


@pytest.mark.parametrize("name", FORMATS)
def test_rows_are_read_back_from_each_format(tmp_path: Path, name: str) -> None:
    if name == "parquet":
        import_package("pyarrow")
    path = tmp_path / "rows"
    path.write_bytes(FORMATS[name].encode(ROWS, MODEL, 2))
    assert FORMATS[name].error_codes(path) == [None, 336005]


def test_scores_in_parquet_are_the_float32_of_the_model(tmp_path: Path) -> None:
    import_package("pyarrow")
    from pyarrow import parquet

    (tmp_path / "rows").write_bytes(FORMATS["parquet"].encode(ROWS, MODEL, 2))
    rows = parquet.read_table(tmp_path / "rows").to_pylist()
    assert rows[0]["results"] == ROWS[0].results
    assert (rows[0]["path"], rows[1]["sha256"]) == (ROWS[0].path, None)
    assert rows[0]["model_digest"] == "d1"


def test_csv_has_the_classes_in_columns() -> None:
    lines = FORMATS["csv"].encode(ROWS, MODEL, 2).decode()
    assert lines.startswith("path,sha256,error_code,error_detail,model,model_version,model_digest,")
    assert lines.endswith("bad.jpg,,336005,no magic,colours,1,d1,,,,\n")
    assert ",红色,0.30000001192092896,,\n" in lines


def make_plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "source": "/photos",
        "photos": 40,
        "listing": "l1",
        "package": "colours 1",
        "digest": "d1",
        "format": "jsonl",
        "top_num": 6,
        "engine": "auto",
        "precision": "float32",
        "device": "auto",
    }
    return Plan(**values | changes)  # type: ignore[arg-type]  # values of several types


def test_shards_cover_every_photo_once() -> None:
    for photos in (1, 15, 16, 17, 1000, 4096, 100_003):
        places = [place for shard in make_plan(photos=photos).shards() for place in shard]
        assert places == list(range(photos))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"photos": 41, "listing": "l2"}, "the source had 40 photos, and has 41 now"),
        ({"listing": "l2"}, "photos of the source have changed"),
        ({"source": "/other", "listing": "l2"}, "source was /photos, is /other now"),
        ({"digest": "d2", "top_num": 1}, "digest was d1, is d2 now; top_num was 6, is 1 now"),
    ],
)
def test_a_run_with_another_plan_is_refused_or_begins_anew(
    tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    with open_results(tmp_path) as folder:
        assert folder.begin(make_plan(), restart=False) == {}
        folder.write_shard(0, FORMATS["jsonl"].encode([ROWS[0]] * 16, MODEL, 6))
    with open_results(tmp_path) as folder:
        with pytest.raises(OperatorError, match=problem):
            folder.begin(make_plan(**changes), restart=False)
        assert list(folder.begin(make_plan(), restart=False)) == [0]
        assert folder.begin(make_plan(**changes), restart=True) == {}


def test_drafts_and_damaged_shards_are_made_again(tmp_path: Path) -> None:
    with open_results(tmp_path) as folder:
        folder.begin(make_plan(), restart=False)
        folder.write_shard(0, FORMATS["jsonl"].encode([ROWS[1]] * 16, MODEL, 6))
        folder.write_shard(1, FORMATS["jsonl"].encode([ROWS[0]] * 15, MODEL, 6))
        folder.write_shard(2, b'{"error_code": nu')
        (tmp_path / ".part-000001.jsonl.0123").write_bytes(b"{}")
    with open_results(tmp_path) as folder:
        assert folder.begin(make_plan(), restart=False) == {0: {336005: 16}}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "_lock",
        "_plan.json",
        "part-000000.jsonl",
    ]


def test_a_folder_of_others_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with open_results(tmp_path) as folder, pytest.raises(OperatorError, match="is not empty"):
        folder.begin(make_plan(), restart=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    refused = pytest.raises(OperatorError, match="another run is writing")
    with open_results(tmp_path), refused, open_results(tmp_path):
        pass
