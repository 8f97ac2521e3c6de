"""The settings: defaults < TOML file < environment < command line, read once.

Each setting is a field of :class:`Settings`; its metadata says what it means and which
values it takes, and the environment names and command line options follow from the field.
``docs/settings.md`` explains each, which a test checks.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from app.errors import SettingsError
from app.folders import FOLDERS
from app.folders import PROJECT_ROOT as PROJECT_ROOT

ENVIRONMENT_PREFIX = "CLASSIFYD_"
CONFIG_KEY = "CLASSIFYD_CONFIG"
TOKEN_KEY = "CLASSIFYD_TOKEN"  # noqa: S105 - the name of a variable
"""The access token of the commands that call a server; no setting."""

DEFAULT_CONFIG = FOLDERS.config / "classifyd.toml"

_SERVICE_LINK = re.compile(
    r"CLASSIFYD(_[A-Z0-9_]+)?_(SERVICE_HOST=.+|SERVICE_PORT(_[A-Z0-9_]+)?=\d+|"
    r"PORT=(tcp|udp|sctp)://.+|"
    r"PORT_\d+_(TCP|UDP|SCTP)(=(tcp|udp|sctp)://.+|_PROTO=(tcp|udp|sctp)|_PORT=\d+|_ADDR=.+))"
)
"""The variables of a Kubernetes Service named ``classifyd`` or ``classifyd-NAME``, which every
pod of its namespace gets (Kubernetes documentation, "Service", "Environment variables")."""


def _setting(
    default: Any,
    help_text: str,
    *,
    minimum: int | None = None,
    maximum: int | None = None,
    pattern: str | None = None,
    expected: str = "",
) -> Any:
    metadata = {
        "help": help_text,
        "minimum": minimum,
        "maximum": maximum,
        "pattern": pattern,
        "expected": expected,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of the server, with its default."""

    bind: str = _setting(
        "127.0.0.1",
        "address to listen on; 0.0.0.0 is every address of this machine",
        pattern=r"[^\s/:\[\]]+|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(%\w+)?",
        expected="an address such as 127.0.0.1 or ::1, without a port, which is the setting port",
    )
    port: int = _setting(8000, "port to listen on", minimum=1, maximum=65535)
    weights_dir: Path = _setting(FOLDERS.weights, "folder of the model packages")
    state_dir: Path = _setting(
        FOLDERS.state, "folder for what must outlive a restart, such as the log_id counter"
    )
    node_id: int = _setting(
        0,
        "number of this node among several, which its log_ids contain; 0 = one made from the "
        "machine, its host name and state_dir",
        minimum=0,
        maximum=1023,
    )
    trusted_keys: Path = _setting(
        FOLDERS.config / "trusted-keys",
        "folder of public keys, *.pem; where it is, archives must be signed with one of them",
    )
    licence_dir: Path = _setting(
        FOLDERS.config / "licences", "folder of the licence files, which end with .licence"
    )
    device: str = _setting(
        "auto",
        "where the model runs; cuda is spread over the GPUs",
        pattern=r"auto|cpu|cuda(:\d+)?",
        expected="auto, cpu, cuda or cuda:N",
    )
    workers: int = _setting(
        0,
        "worker processes, 0 = one for every two usable CPUs, or one where a card computes",
        minimum=0,
        maximum=256,
    )
    inference_threads: int = _setting(
        0,
        "concurrent inferences in a worker, 0 = the usable CPUs shared by the workers",
        minimum=0,
        maximum=1024,
    )
    engine: Literal["auto", "torchscript", "openvino", "onnxruntime"] = _setting(
        "auto",
        "what computes on a CPU; auto takes the fastest that agrees with the unoptimised model, "
        "measured once for a package and machine",
    )
    precision: Literal["float32", "bfloat16", "float16", "int8"] = _setting(
        "float32",
        "arithmetic of the model; below float32 scores move, float16 is for CUDA, int8 for "
        "OpenVINO on packages with golden samples",
    )
    score_tolerance_permille: int = _setting(
        1,
        "thousandths by which a score may differ from the unoptimised model's, where the package "
        "has no golden samples",
        minimum=0,
        maximum=1000,
    )
    max_in_flight: int = _setting(
        80, "requests in a worker before 336100 is answered", minimum=1, maximum=10000
    )
    deadline_ms: int = _setting(
        8000,
        "milliseconds that a request may wait for the model before 336100 is answered",
        minimum=1,
        maximum=3_600_000,
    )
    decode_memory_mb: int = _setting(
        512,
        "megabytes that images take while they are decoded, all requests of a worker together",
        minimum=256,
        maximum=65536,
    )
    hang_timeout_s: int = _setting(
        60,
        "seconds after which an inference counts as hung and its worker is replaced",
        minimum=1,
        maximum=3600,
    )
    body_memory_mb: int = _setting(
        256,
        "megabytes of memory for request bodies, all connections of a worker together",
        minimum=64,
        maximum=65536,
    )
    head_timeout_s: int = _setting(
        10,
        "seconds a client may take for a TLS handshake or a request head",
        minimum=1,
        maximum=3600,
    )
    read_timeout_s: int = _setting(
        30, "seconds a client may pause while it sends a body", minimum=1, maximum=3600
    )
    body_timeout_s: int = _setting(
        120, "seconds a client may take to send a whole body", minimum=1, maximum=36000
    )
    write_timeout_s: int = _setting(
        30, "seconds a client may take to read an answer", minimum=1, maximum=3600
    )
    grace_period_s: int = _setting(
        30, "seconds that a stop waits for the requests in flight", minimum=1, maximum=3600
    )
    start_timeout_s: int = _setting(
        120,
        "seconds after which a silent worker is replaced; loading the models counts",
        minimum=5,
        maximum=3600,
    )
    http_status: Literal["compat", "rest"] = _setting(
        "compat", "compat answers 200 to every call of the API, rest the status of the error"
    )
    error_detail: Literal["header", "body"] = _setting(
        "header", "body adds what exactly was wrong to the answer as a fourth key"
    )
    console: Literal["on", "off"] = _setting(
        "on", "off removes the page at / on which a person tries the models"
    )
    cors_origins: str = _setting(
        "off",
        "web pages that may call",
        pattern=r"off|\*|https?://[^\s,/]+(,https?://[^\s,/]+)*",
        expected="off, * or origins such as https://till.example.com, separated by commas",
    )
    access_tokens: Literal["off", "on"] = _setting(
        "off", "on answers 337000 to calls without a valid access token"
    )
    tokens_file: Path | None = _setting(
        None, "file of the access tokens; without it tokens.json in state_dir"
    )
    tls_certificate: Path | None = _setting(
        None, "PEM file with the certificate and its chain; with tls_key the server speaks HTTPS"
    )
    tls_key: Path | None = _setting(None, "PEM file with the certificate's private key")
    log_format: Literal["auto", "text", "json"] = _setting(
        "auto", "auto is text on a terminal and JSON otherwise"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "least severe level that is logged; a request's line is info"
    )
    log_file: Path | None = _setting(
        None,
        "file of the log; without it the log goes to standard error, and to classifyd.log in "
        "state_dir unless the systemd journal keeps it",
    )
    log_file_max_mib: int = _setting(
        0,
        "size at which log_file is renamed to NAME.1, 0 = never, or 16 without log_file",
        minimum=0,
        maximum=1_048_576,
    )
    log_file_keep: int = _setting(5, "how many files renamed so are kept", minimum=1, maximum=1000)

    def tokens_path(self) -> Path:
        """The tokens file: the one named, else the one in the state folder."""
        return self.tokens_file or self.state_dir / "tokens.json"

    def log_path(self) -> Path:
        """The log file: the one named, else the copy of the log in the state folder."""
        return self.log_file or self.state_dir / "classifyd.log"


@dataclass(frozen=True)
class ResolvedSettings:
    """The settings in force and where each came from.

    Attributes:
        settings: the values.
        sources: for each name ``default``, the file's path, the environment variable or
            ``command line``.
        ignored: the environment variables of a Kubernetes Service of the server's name.
    """

    settings: Settings
    sources: dict[str, str]
    ignored: tuple[str, ...] = ()


def read_settings(
    environment: Mapping[str, str],
    command_line: Mapping[str, str] | None = None,
    default_config: Path = DEFAULT_CONFIG,
) -> ResolvedSettings:
    """Join the four sources into the settings in force.

    Args:
        environment: the process environment; ``CLASSIFYD_CONFIG`` names the TOML file.
        command_line: option values as text, by setting name.
        default_config: the TOML file that is read when it exists and none is named.

    Raises:
        SettingsError: an unknown key, a wrong value, or a file that cannot be read; the
            text names the source, the key, the value and what was expected.
    """
    values: dict[str, Any] = {}
    ignored = tuple(filter(partial(_is_service_link, environment), sorted(environment)))
    environment = {name: text for name, text in environment.items() if name not in ignored}
    sources = dict.fromkeys((f.name for f in fields(Settings)), "default")
    layers = [
        *_file_layer(environment, default_config),
        *_environment_layer(environment),
        *(("command line", key, text, Path.cwd()) for key, text in (command_line or {}).items()),
    ]
    for source, key, raw, base in layers:
        values[key] = _parse(_field(key, source), raw, source, base)
        sources[key] = source
    return ResolvedSettings(Settings(**values), sources, ignored)


_Layer = list[tuple[str, str, Any, Path]]


def _file_layer(environment: Mapping[str, str], default_config: Path) -> _Layer:
    named = environment.get(CONFIG_KEY)
    path = Path(named) if named else default_config
    if not named and not path.exists():
        return []
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise SettingsError(f"settings file {path} cannot be read: {reason}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"settings file {path} is not TOML: {exc}") from exc
    return [(str(path), key, value, path.resolve().parent) for key, value in table.items()]


def _is_service_link(environment: Mapping[str, str], name: str) -> bool:
    return _SERVICE_LINK.fullmatch(f"{name}={environment[name]}") is not None


def _environment_layer(environment: Mapping[str, str]) -> _Layer:
    return [
        (name, name.removeprefix(ENVIRONMENT_PREFIX).lower(), text, Path.cwd())
        for name, text in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in (CONFIG_KEY, TOKEN_KEY)
    ]


def _field(key: str, source: str) -> "Field[Any]":
    for candidate in fields(Settings):
        if candidate.name == key:
            return candidate
    known = ", ".join(f.name for f in fields(Settings))
    raise SettingsError(f"unknown setting {key!r} (from {source}); known are: {known}")


def _parse(setting: "Field[Any]", raw: Any, source: str, base: Path) -> Any:
    """Turn a TOML value or a text into the field's type, within the field's bounds."""
    value = _convert(setting, raw)
    if value is None or not _within_bounds(setting, value):
        raise SettingsError(
            f"setting {setting.name} = {raw!r} (from {source}) is wrong: "
            f"expected {describe_expected(setting)}"
        )
    return (base / value).resolve() if isinstance(value, Path) else value


def _convert(setting: "Field[Any]", raw: Any) -> Any:
    """The raw value in the field's type, or None when it has none."""
    if get_origin(setting.type) is Literal:
        return raw if raw in get_args(setting.type) else None
    if setting.type is int:
        if isinstance(raw, str) and re.fullmatch(r"-?[0-9]{1,12}", raw):
            return int(raw)
        return raw if isinstance(raw, int) and not isinstance(raw, bool) else None
    if not isinstance(raw, str) or not raw:
        return None
    return Path(raw) if is_path(setting) else raw


def is_path(setting: "Field[Any]") -> bool:
    """Whether a setting names a file or a folder."""
    return setting.type in (Path, Path | None)


def _within_bounds(setting: "Field[Any]", value: Any) -> bool:
    minimum, maximum = setting.metadata["minimum"], setting.metadata["maximum"]
    pattern = setting.metadata["pattern"]
    return (
        (minimum is None or value >= minimum)
        and (maximum is None or value <= maximum)
        and (pattern is None or re.fullmatch(pattern, value) is not None)
    )


def describe_expected(setting: "Field[Any]") -> str:
    """Say in words which values a setting takes."""
    if get_origin(setting.type) is Literal:
        return "one of " + ", ".join(get_args(setting.type))
    if setting.type is int:
        return f"a whole number from {setting.metadata['minimum']} to {setting.metadata['maximum']}"
    if is_path(setting):
        return "a path"
    return str(setting.metadata["expected"])
