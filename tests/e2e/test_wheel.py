"""The wheel in an environment of its own: other folders, other accounts, foreign code beside."""

import os
import shutil
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.settings import PROJECT_ROOT
from tests.support.images import RED
from tests.support.server import Server, wait_for_second_master
from tests.support.waiting import wait_until
from tests.support.wheel import build_wheel, install_wheel

ACCOUNT = 12345
"""Has no entry in /etc/passwd."""

CAPABILITIES = "-all,+dac_read_search"
"""Reading stays allowed everywhere, as the interpreter may be in root's home folder."""

ACCOUNTS = [
    None,
    pytest.param(
        ACCOUNT,
        marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the account"),
    ),
]

FOREIGN = (
    *("app/__init__.py", "wsgi.py", "gunicorn.conf.py", "gunicorn.py", "json.py"),
    *("multiprocessing.py", "openvino.py", "torch.py", "sitecustomize.py"),
)
"""Modules that the program, its libraries or Python itself would import by these names."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment with the wheel."""
    return install_wheel(wheel, tmp_path_factory.mktemp("environment"))


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A user's folder whose own code must not run."""
    folder = tmp_path / "foreign"
    for name in FOREIGN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"raise SystemExit('foreign code ran: {name}')\n")
    return folder


def _as_account(account: int | None, command: list[str]) -> list[str]:
    if account is None:
        return command
    rights = [f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}"]
    return ["setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups", *rights] + (
        command
    )


def _run(
    account: int | None, command: list[str], folder: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    ended = subprocess.run(
        _as_account(account, command),
        cwd=folder,
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended


def test_wheel_contains_one_package_with_its_files(wheel: Path) -> None:
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    information = {name.parts[0] for name in names if name.parts[0].endswith(".dist-info")}
    assert {name.parts[0] for name in names} - information == {"app"}
    sources = (path for path in (PROJECT_ROOT / "app").rglob("*") if path.is_file())
    expected = {path.relative_to(PROJECT_ROOT) for path in sources if path.suffix != ".pyc"}
    assert expected - names == set()


@pytest.mark.parametrize("account", ACCOUNTS)
def test_predict_runs_in_a_folder_of_foreign_code(
    commands: Path, colour_weights: Path, foreign: Path, account: int | None
) -> None:
    # Copied, because pytest's folders are closed to other accounts.
    shutil.copy(PROJECT_ROOT / "tests/photos/coffee.jpg", foreign)
    shutil.copytree(colour_weights / "colours", foreign / "colours")
    command = [str(commands / "classifyd"), "predict", "--package", "colours/1", "coffee.jpg"]
    ended = _run(account, command, foreign)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "red" in ended.stdout


class InstalledServer(Server):
    """``classifyd serve`` of the wheel, in a folder of foreign code."""

    def __init__(
        self, commands: Path, folder: Path, account: int | None, weights: Path, state: Path
    ) -> None:
        super().__init__(weights, state)
        # Relative paths are those of the folder in which the command runs.
        self._environment["CLASSIFYD_STATE_DIR"] = os.path.relpath(state, folder)
        self._commands, self._account, self.folder = commands, account, folder

    def command(self) -> list[str]:
        return _as_account(self._account, [str(self._commands / "classifyd"), "serve"])


@pytest.mark.parametrize("account", ACCOUNTS)
def test_serve_never_runs_the_code_of_the_current_folder(
    commands: Path, colour_weights: Path, foreign: Path, tmp_path: Path, account: int | None
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    if account is not None:
        os.chown(state, account, account)
    with InstalledServer(commands, foreign, account, colour_weights, state) as server:
        assert psutil.Process(server.running.pid).uids().real == (account or os.getuid())
        assert server.classify("colours", {"image": RED}).json["results"][0]["name"] == "red"
        for path in ("/", "/docs", "/openapi.json", "/static/console.js"):
            assert server.request("GET", path).status == 200, path
        before = set(server.worker_pids())
        server.running.send_signal(signal.SIGHUP)
        wait_until(lambda: before.isdisjoint(server.worker_pids()), server)
        assert server.classify("colours", {"image": RED}).code == 0
        server.running.send_signal(signal.SIGUSR2)
        second = wait_for_second_master(server.running.pid)
        assert server.stop() == 0
        assert server.classify("colours", {"image": RED}).code == 0
        assert "app/server/gunicorn_conf.py" in second.cmdline()[-1]
        second.terminate()
        second.wait(60)
    assert "foreign code" not in server.log_text()
    assert (state / "log_id_block").exists()


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder; pytest's folders are closed to other accounts."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_defaults_of_a_person_follow_xdg(
    commands: Path, home: Path, tmp_path: Path, account: int | None
) -> None:
    if account is not None:
        os.chown(home, account, account)
    command = [str(commands / "classifyd"), "settings"]
    variables = {"XDG_STATE_HOME": str(home / "state"), "XDG_CONFIG_HOME": "relative"}
    values = _defaults(account, command, tmp_path, HOME=str(home), **variables)
    if (account or os.geteuid()) == 0:
        assert values == SYSTEM
        return
    assert values == {
        "weights_dir": f"{home}/.local/share/classifyd/weights",
        "state_dir": f"{home}/state/classifyd",
        "trusted_keys": f"{home}/.config/classifyd/trusted-keys",
        "licence_dir": f"{home}/.config/classifyd/licences",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the account")
def test_defaults_of_an_account_without_a_home_are_those_of_the_system(
    commands: Path, tmp_path: Path
) -> None:
    command = [str(commands / "classifyd"), "settings"]
    assert _defaults(ACCOUNT, command, tmp_path) == SYSTEM
    assert _defaults(ACCOUNT, command, tmp_path, HOME="/root") == SYSTEM


SYSTEM = {
    "weights_dir": "/var/lib/classifyd/weights",
    "state_dir": "/var/lib/classifyd/state",
    "trusted_keys": "/etc/classifyd/trusted-keys",
    "licence_dir": "/etc/classifyd/licences",
}


def _defaults(
    account: int | None, command: list[str], folder: Path, **environment: str
) -> dict[str, str]:
    lines = _run(account, command, folder, **environment).stdout.splitlines()
    rows = [line.split() for line in lines]
    return {row[0]: row[1] for row in rows if row[0] in SYSTEM and row[-1] == "default"}


def test_a_server_without_packages_says_how_to_get_one(commands: Path, tmp_path: Path) -> None:
    command = [str(commands / "classifyd"), "serve", "--weights-dir", "nowhere"]
    ended = _run(None, command, tmp_path)
    assert ended.returncode == 3
    assert f"{tmp_path}/nowhere: this folder does not exist; classifyd package" in ended.stderr
    assert list(tmp_path.iterdir()) == []
