"""Settings: the order of the sources and what is refused."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.settings import PROJECT_ROOT, Settings, read_settings

NOWHERE = Path("/nowhere.toml")


def test_later_sources_win_and_are_named(tmp_path: Path) -> None:
    config = tmp_path / "classifyd.toml"
    config.write_text("port = 1111\nworkers = 2\ndeadline_ms = 5\n")
    environment = {"CLASSIFYD_CONFIG": str(config), "CLASSIFYD_PORT": "2222", "HOME": "/x"}
    environment["CLASSIFYD_WORKERS"] = "3"
    resolved = read_settings(environment, {"port": "3333"})
    assert (resolved.settings.port, resolved.sources["port"]) == (3333, "command line")
    assert (resolved.settings.workers, resolved.sources["workers"]) == (3, "CLASSIFYD_WORKERS")
    assert (resolved.settings.deadline_ms, resolved.sources["deadline_ms"]) == (5, str(config))
    assert resolved.sources["device"] == "default"


def test_relative_path_in_a_file_is_relative_to_the_file(tmp_path: Path) -> None:
    config = tmp_path / "classifyd.toml"
    config.write_text('weights_dir = "models"\n')
    settings = read_settings({}, default_config=config).settings
    assert settings.weights_dir == tmp_path / "models"


def test_defaults_are_valid_values() -> None:
    given = {f.name: str(f.default) for f in fields(Settings) if f.default is not None}
    assert read_settings({}, given, NOWHERE).settings == Settings()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("port", "0", "a whole number from 1 to 65535"),
        ("port", "http", "a whole number"),
        ("port", "8000.0", "a whole number"),
        ("bind", "", "an address"),
        ("bind", "127.0.0.1:8123", "without a port, which is the setting port"),
        ("bind", "[::1]:8123", "without a port"),
        ("device", "gpu", "auto, cpu, cuda or cuda:N"),
        ("device", "cuda:", "auto, cpu, cuda or cuda:N"),
        ("http_status", "REST", "one of compat, rest"),
        ("weights_dir", "", "a path"),
    ],
)
def test_wrong_value_is_named_with_what_was_expected(key: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({f"CLASSIFYD_{key.upper()}": value}, default_config=NOWHERE)
    text = str(caught.value)
    assert f"setting {key} = {value!r} (from CLASSIFYD_{key.upper()})" in text
    assert expected in text


def test_toml_value_of_another_type_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "classifyd.toml"
    for line in ("workers = true", "port = 80.5", "bind = 5", "device = ['cpu']"):
        config.write_text(line)
        with pytest.raises(SettingsError, match=line.split()[0]):
            read_settings({}, default_config=config)


@pytest.mark.parametrize("source", ["file", "environment", "command line"])
def test_unknown_key_is_refused(tmp_path: Path, source: str) -> None:
    config = tmp_path / "classifyd.toml"
    config.write_text("thraeds = 4\n" if source == "file" else "")
    environment = {"CLASSIFYD_THRAEDS": "4"} if source == "environment" else {}
    command_line = {"thraeds": "4"} if source == "command line" else {}
    with pytest.raises(SettingsError, match="unknown setting 'thraeds'.*known are:.*workers"):
        read_settings(environment, command_line, config)


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe"])
def test_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    config = tmp_path / "classifyd.toml"
    config.write_bytes(content)
    with pytest.raises(SettingsError, match=str(config)):
        read_settings({"CLASSIFYD_CONFIG": str(config)})


def test_every_setting_is_documented() -> None:
    text = (PROJECT_ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for setting in fields(Settings):
        assert f"`{setting.name}`" in text


SERVICE = {
    "CLASSIFYD_SERVICE_HOST": "10.96.4.7",
    "CLASSIFYD_SERVICE_PORT": "8000",
    "CLASSIFYD_SERVICE_PORT_HTTP": "8000",
    "CLASSIFYD_PORT": "tcp://10.96.4.7:8000",
    "CLASSIFYD_PORT_8000_TCP": "tcp://10.96.4.7:8000",
    "CLASSIFYD_PORT_8000_TCP_PROTO": "tcp",
    "CLASSIFYD_PORT_8000_TCP_PORT": "8000",
    "CLASSIFYD_PORT_8000_TCP_ADDR": "10.96.4.7",
}
"""What Kubernetes sets in every pod beside a Service named classifyd with a port named http."""


def test_variables_of_a_kubernetes_service_are_ignored_and_named() -> None:
    canary = {name.replace("CLASSIFYD", "CLASSIFYD_CANARY"): SERVICE[name] for name in SERVICE}
    environment = {**SERVICE, **canary, "CLASSIFYD_WORKERS": "3"}
    resolved = read_settings(environment, default_config=NOWHERE)
    assert resolved.settings == replace(Settings(), workers=3)
    assert set(resolved.ignored) == {*SERVICE, *canary}
    assert resolved.sources["port"] == "default"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CLASSIFYD_PORT", "http://10.96.4.7:8000", "setting port"),
        ("CLASSIFYD_PORT", "tcp", "setting port"),
        ("CLASSIFYD_SERVICE_PORT", "http", "unknown setting 'service_port'"),
        ("CLASSIFYD_SERVICE", "10.96.4.7", "unknown setting 'service'"),
        ("CLASSIFYD_PORT_8000", "8000", "unknown setting 'port_8000'"),
        ("CLASSIFYD_PORT_8000_TCP_USER", "8000", "unknown setting 'port_8000_tcp_user'"),
    ],
)
def test_a_name_that_is_only_similar_to_a_services_is_refused(
    name: str, value: str, told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        read_settings({**SERVICE, name: value}, default_config=NOWHERE)
