"""Every command's help and messages against the same rules."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from app.cli.commands import cli
from app.cli.exits import STATUSES
from app.cli.licence.group import _describe_tolerance
from app.licence.licence import Tolerance
from app.settings import PROJECT_ROOT, Settings
from tests.support.commands import run_classifyd


def walk(command: click.Command, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from walk(below, *words, name)


ALL = dict(walk(cli))
COMMANDS = {
    words: command for words, command in ALL.items() if not isinstance(command, click.Group)
}
WITHOUT_JSON = {("serve",), ("help",), ("train",), ("package", "demo")}
"""They run for minutes or until they are stopped, and a person looks at what they print."""

SETTINGS = {"--" + setting.name.replace("_", "-") for setting in fields(Settings)}
OWN_SETTINGS = 10
"""More settings than any command uses, other than serve."""


def help_of(words: tuple[str, ...]) -> str:
    command = ALL[words]
    return command.get_help(click.Context(command, info_name=" ".join(("classifyd", *words))))


def options_of(words: tuple[str, ...]) -> list[click.Option]:
    return [each for each in ALL[words].params if isinstance(each, click.Option)]


def names(words_of: dict[tuple[str, ...], click.Command]) -> list[str]:
    return [" ".join(words) or "classifyd" for words in words_of]


@pytest.mark.parametrize("words", ALL, ids=names(ALL))
def test_help_has_an_example_of_the_command_that_is_right(words: tuple[str, ...]) -> None:
    text = help_of(words)
    assert re.search(r"^  Examples?:$", text, re.MULTILINE)
    lines = re.findall(r"^ +(?:sudo |.*\| )?(classifyd (?:[^\\\n]|\\\n)+)", text, re.MULTILINE)
    own = [line for line in lines if line.split()[1 : len(words) + 1] == list(words)]
    assert own, text
    known = {name for each in options_of(words) for name in each.opts}
    for line in own if words in COMMANDS else []:
        assert set(re.findall(r"(?<=\s)--[a-z-]+", line)) <= known, line


@pytest.mark.parametrize("words", ALL, ids=names(ALL))
def test_help_cuts_no_summary_and_shows_no_pattern(words: tuple[str, ...]) -> None:
    text = help_of(words)
    assert not re.search(r"^  \S+ .*\w\.\.\.$", text, re.MULTILINE)
    assert "matching" not in text
    assert not re.search(r"\[\^|\\[sdw]|\.\*", text)


@pytest.mark.parametrize("words", COMMANDS, ids=names(COMMANDS))
def test_every_option_that_is_shown_is_explained(words: tuple[str, ...]) -> None:
    assert [o.opts[0] for o in options_of(words) if not o.hidden and not o.help] == []


@pytest.mark.parametrize("words", COMMANDS, ids=names(COMMANDS))
def test_help_shows_the_settings_that_the_command_uses(words: tuple[str, ...]) -> None:
    shown = {o.opts[0] for o in options_of(words) if not o.hidden} & SETTINGS
    assert len(shown) < OWN_SETTINGS or words == ("serve",)


@pytest.mark.parametrize("words", COMMANDS, ids=names(COMMANDS))
def test_what_a_script_reads_can_be_json(words: tuple[str, ...]) -> None:
    has_json = any("--json" in option.opts for option in options_of(words))
    assert has_json != (words in WITHOUT_JSON)


@pytest.mark.parametrize("words", COMMANDS, ids=names(COMMANDS))
def test_the_file_that_a_command_writes_is_named_by_output(words: tuple[str, ...]) -> None:
    opts = {name for option in options_of(words) if not option.hidden for name in option.opts}
    assert not opts & {"--out", "--report", "--file-out"}
    assert "-o" not in opts or "--output" in opts


def test_every_command_is_in_a_section() -> None:
    text = help_of(())
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == [
        *("Options", "Serve", "Classify", "Models", "Operate", "Help"),
    ]
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in cli.commands)


def test_help_and_version_have_short_ways() -> None:
    assert run_classifyd("-V").stdout == run_classifyd("--version").stdout
    assert "Build a package" in run_classifyd("help", "package", "build").stdout
    assert "there is no command 'packag'" in run_classifyd("help", "packag", status=2).stderr


FAILURES = {
    ("usage", "predict"): (),
    ("usage", "settings"): ("--port", "zero"),
    ("refused", "package", "verify"): ("nobody",),
    ("refused", "licence", "show"): ("/nowhere",),
    ("unreachable", "predict"): ("--state-dir", "/nowhere", "photo.jpg"),
    ("unreachable", "bench"): ("http://127.0.0.1:9/a/ImageClassification",),
    ("failed", "logs"): ("--file", "/dev/null", "5"),
}


@pytest.mark.parametrize("failure", FAILURES, ids=[" ".join(words) for words in FAILURES])
def test_an_error_has_one_form_and_the_status_of_its_kind(failure: tuple[str, ...]) -> None:
    kind, *words = failure
    ended = run_classifyd(*words, *FAILURES[failure], "--json", status=STATUSES[kind])
    error = json.loads(ended.stdout)["error"]
    assert (error["kind"], sorted(error)) == (kind, ["kind", "message"])
    assert error["message"] in ended.stderr


@pytest.mark.parametrize("page", ["docs/commands.md", "docs/zh/commands.md"])
def test_the_table_of_exit_statuses_is_that_of_the_code(page: str) -> None:
    text = (PROJECT_ROOT / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `?(\w*)`? \|", text, re.MULTILINE)
    assert {kind: int(status) for status, kind in rows if kind} == STATUSES


def test_no_color_removes_every_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["doctor", "--state-dir", str(tmp_path), "--weights-dir", str(tmp_path)]
    colours = {}
    for value in ("", "1"):
        monkeypatch.setenv("NO_COLOR", value)
        colours[value] = _on_a_terminal(arguments)
    assert "\x1b[3" in colours[""]
    assert "\x1b[3" not in colours["1"]


def _on_a_terminal(arguments: list[str]) -> str:
    import os
    import pty
    import subprocess
    import sys

    master, slave = pty.openpty()
    command = [sys.executable, "-m", "app.cli", *arguments]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=slave, stderr=slave) as process:
        os.close(slave)
        parts = []
        while True:
            try:
                parts.append(os.read(master, 65536))
            except OSError:  # the other end is closed
                break
            if not parts[-1]:
                break
        process.wait()
    os.close(master)
    return b"".join(parts).decode()


def test_settings_stay_in_columns(tmp_path: Path) -> None:
    lines = run_classifyd("settings", "--state-dir", tmp_path).stdout.splitlines()
    values = {line.split()[0]: line for line in lines}
    assert set(values) == {setting.name for setting in fields(Settings)}
    assert values["workers"].split() == ["workers", "0", "default"]
    assert values["log_file"].split() == ["log_file", "-", "default"]
    starts = {
        line.rindex(source)
        for line in lines
        for source in ["command line", "default"]
        if line.endswith(source)
    }
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("facts", "tolerance", "text"),
    [
        (3, Tolerance(2, 2, 14), "2 of 3 facts must match; with fewer it is not valid"),
        (1, Tolerance(1, 1, 14), "1 of 1 fact must match; with fewer it is not valid"),
        (5, Tolerance(4, 3, 1), "4 of 5 facts must match; with 3 it stays valid for 1 day, with"),
    ],
)
def test_a_licence_says_how_much_may_change(facts: int, tolerance: Tolerance, text: str) -> None:
    assert _describe_tolerance(tolerance, facts).startswith(text)


COUNTED = re.compile(r"\{len\([^{}]*\)\} (?!of\b)[a-z]+s\b")


def test_no_message_counts_without_a_singular() -> None:
    found = [
        f"{path.relative_to(PROJECT_ROOT)}: {match[0]}"
        for path in sorted((PROJECT_ROOT / "app").rglob("*.py"))
        for match in COUNTED.finditer(path.read_text(encoding="utf-8"))
        if path.name != "demo.py"  # always 1000 classes
    ]
    assert found == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--bind", "127.0.0.1:8123"), "without a port, which is the setting port"),
        (("--bind", "203.0.113.7"), "this machine does not have this address"),
        (("--bind", "no.such.host.invalid"), "this name has no address"),
    ],
)
def test_a_wrong_address_is_explained(options: tuple[str, ...], told: str, weights: Path) -> None:
    where = ("--weights-dir", weights, "--state-dir", weights.parent / "state")
    ended = run_classifyd("serve", *where, *options, status=2)
    assert told in ended.stderr
    assert "stop" not in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.fixture
def weights(colour_weights: Path, tmp_path: Path) -> Path:
    link = tmp_path / "weights"
    link.symlink_to(colour_weights)
    return link
