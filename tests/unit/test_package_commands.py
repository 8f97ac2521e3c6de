"""``classifyd package`` as a script sees it: output, status and files."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli.commands import cli
from app.errors import PackageError
from tests.support.commands import run_classifyd
from tests.support.packages import build_colour_package

LABELS = ["red", "green", "blue"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    for version in ("1", "2"):
        build_colour_package(folder, "pets", LABELS, version)
    return folder


def run(weights: Path, *arguments: str) -> str:
    """Run a subcommand and return what it printed; a failure raises as it leaves the command."""
    result = CliRunner().invoke(
        cli, ["package", *arguments, "--weights-dir", str(weights)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def run_json(weights: Path, *arguments: str) -> Any:
    return json.loads(run(weights, *arguments, "--json"))


def test_list_marks_the_active_version_and_says_what_is_wrong(weights: Path) -> None:
    (weights / "empty").mkdir()
    lines = run(weights, "list").splitlines()
    assert "* pets/1" in lines
    assert "  pets/2" in lines
    assert any("found no version" in line for line in lines)
    rows = run_json(weights, "list")
    assert [row["version"] for row in rows if row["active"]] == ["1"]


def test_a_version_travels_from_one_store_to_another(weights: Path, tmp_path: Path) -> None:
    other, file = tmp_path / "other", tmp_path / "pets-2.tar"
    written = run_json(weights, "archive", "pets", "2", "-o", str(file))
    assert written == {"file": str(file), "bytes": file.stat().st_size}
    installed = run_json(other, "install", str(file))
    assert installed["active"] is True
    assert installed["signature_checked"] is False
    assert (
        run_json(other, "info", "pets")["digest"] == run_json(weights, "info", "pets/2")["digest"]
    )


def test_info_without_a_version_is_about_the_active_one(weights: Path) -> None:
    run(weights, "activate", "pets", "2")
    row = run_json(weights, "info", "pets")
    assert (row["version"], row["active"], row["previous"]) == ("2", True, ["1"])
    assert row["signed_by"] == "nobody"
    assert run_json(weights, "info", "pets/1")["active"] is False


def test_rollback_and_remove(weights: Path) -> None:
    run(weights, "activate", "pets", "2")
    assert run_json(weights, "rollback", "pets") == {"name": "pets", "version": "1"}
    assert run_json(weights, "remove", "pets", "2") == {"removed": "pets/2"}
    with pytest.raises(PackageError, match="is the active version"):
        run(weights, "remove", "pets", "1")
    assert run_json(weights, "remove", "pets", "--all") == {"removed": "pets"}
    assert run_json(weights, "list") == []


@pytest.mark.parametrize("arguments", [["pets"], ["pets", "1", "--all"]])
def test_remove_requires_a_version_or_all(weights: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["package", "remove", *arguments])
    assert result.exit_code == 2
    assert "give either VERSION or --all" in result.output


def test_unsigned_archives_are_refused_where_keys_are_named(weights: Path, tmp_path: Path) -> None:
    file, keys = tmp_path / "pets-2.tar", tmp_path / "keys"
    run(weights, "archive", "pets", "2", "-o", str(file))
    keys.mkdir()
    with pytest.raises(PackageError, match="is not signed"):
        run(tmp_path / "other", "install", str(file), "--trusted-keys", str(keys))


def test_an_unusable_path_gives_no_traceback() -> None:
    ended = run_classifyd("package", "verify", "n" * 300, status=1)
    assert ended.stderr.startswith("classifyd: nnn")
    assert ended.stderr.endswith("File name too long\n")
