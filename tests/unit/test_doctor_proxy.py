"""What doctor reads from an nginx in front of the server."""

from pathlib import Path

import pytest

from app.cli.doctor.server import check_proxy
from app.settings import PROJECT_ROOT, Settings

SITE = "server {{ {limit} location / {{\n proxy_pass http://127.0.0.1:8000; }} }}\n"


@pytest.mark.parametrize(
    ("limit", "level"),
    [
        ("", "warning"),
        ("\nclient_max_body_size 1m;\n", "warning"),
        ("\nclient_max_body_size 40m;\n", "ok"),
        ("\nclient_max_body_size 0;\n", "ok"),
    ],
)
def test_a_body_limit_that_refuses_photos_is_found(tmp_path: Path, limit: str, level: str) -> None:
    (tmp_path / "site.conf").write_text(SITE.format(limit=limit))
    assert [finding.level for finding in check_proxy(Settings(), tmp_path)] == [level]


def test_the_example_of_the_project_is_well(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text((PROJECT_ROOT / "deploy/nginx.conf").read_text())
    assert [finding.level for finding in check_proxy(Settings(), tmp_path)] == ["ok"]
    assert list(check_proxy(Settings(port=9999), tmp_path)) == []


def test_the_limit_of_the_main_file_counts_where_a_site_sets_none(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("http {\n  client_max_body_size 64m;\n}\n")
    (tmp_path / "sites-enabled").mkdir()
    (tmp_path / "sites-enabled" / "site").write_text(SITE.format(limit=""))
    assert [finding.level for finding in check_proxy(Settings(), tmp_path)] == ["ok"]


def test_a_site_that_may_be_off_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "sites-available").mkdir()
    (tmp_path / "sites-available" / "site").write_text(SITE.format(limit=""))
    assert list(check_proxy(Settings(), tmp_path)) == []


def test_the_smallest_limit_of_a_site_counts(tmp_path: Path) -> None:
    limits = "\nclient_max_body_size 40m;\nlocation /a {\nclient_max_body_size 2m;\n}\n"
    (tmp_path / "site.conf").write_text(SITE.format(limit=limits))
    [finding] = check_proxy(Settings(), tmp_path)
    assert (finding.level, "2m" in finding.text) == ("warning", True)
