"""Parts of a few lines: log_ids, scores, devices, CPUs, the code table, log lines."""

import io
import json
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from app.errors import REGISTRY, ApiError, InternalError, OperatorError, SettingsError
from app.evaluation.comparison import Side, compare
from app.evaluation.dataset import Sample
from app.evaluation.metrics import compute_metrics
from app.evaluation.outcomes import DistinctLabels, make_outcome
from app.inference.engines.devices import resolve_device
from app.inference.scores import rank, to_scores
from app.observability.log_format import JsonFormatter, TextFormatter
from app.observability.log_ids import COUNTER_FILE, MAX_NODE, LogIds, node_number, origin_of
from app.packages.manifest import OutputSpec
from app.server.preflight import free_slot
from app.system.cpus import usable_cpus

CONTRACT = {
    336000: ("Internal error", 500),
    336001: ("Invalid Argument", 400),
    336002: ("JSON不合法", 400),
    336003: ("Base64解码失败", 400),
    336004: ("输入文件大小不合法", 413),
    336005: ("图片解码失败", 415),
    336006: ("缺失必要参数", 400),
    336100: ("model temporarily unavailable", 503),
    337000: ("Auth check failed", 403),
}


def test_registry_is_the_published_table() -> None:
    assert {code: (leaf.error_msg, leaf.status) for code, leaf in REGISTRY.items()} == CONTRACT


def test_codes_that_sdks_react_to_are_never_there() -> None:
    assert {110, 111}.isdisjoint(REGISTRY)
    assert all(issubclass(leaf, ApiError) for leaf in REGISTRY.values())


def test_log_ids_are_unique_over_threads_and_instances(tmp_path: Path) -> None:
    sources = [LogIds(tmp_path, 1) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda index: sources[index % 4].take(), range(4000)))
    assert len(set(taken)) == 4000
    assert all(0 < log_id < 2**53 for log_id in taken)


def test_log_ids_of_nodes_that_start_in_the_same_second_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.observability.log_ids.time.time", lambda: 1.8e9)
    taken = set()
    for node in (1, 2, MAX_NODE):
        (state := tmp_path / str(node)).mkdir()
        source = LogIds(state, node)
        # More than two blocks of each, so that it is ahead of the clock.
        ids = [source.take() for _ in range(5000)]
        assert ids == sorted(ids)
        assert {origin_of(log_id) for log_id in ids} == {(node, 1.8e9 + n) for n in range(3)}
        taken |= set(ids)
    assert len(taken) == 15000
    assert max(taken) < 2**53


def test_node_number_is_set_or_that_of_the_machine_and_the_state_folder(tmp_path: Path) -> None:
    assert node_number(7, tmp_path) == 7
    numbers = [node_number(0, tmp_path / str(index)) for index in range(2000)]
    assert numbers == [node_number(0, tmp_path / str(index)) for index in range(2000)]
    assert min(numbers) >= 1
    assert max(numbers) <= MAX_NODE
    assert len(set(numbers)) > 800  # of 1023, evenly drawn: 878 are expected


def test_log_ids_go_on_above_when_the_clock_steps_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = LogIds(tmp_path, 1).take()
    monkeypatch.setattr("app.observability.log_ids.time.time", lambda: 1000.0)
    assert LogIds(tmp_path, 1).take() > before


def test_log_ids_go_on_when_the_disk_is_lost(tmp_path: Path) -> None:
    lost = LogIds(tmp_path / "gone", 1)
    taken = [lost.take() for _ in range(5000)]
    assert len(set(taken)) == 5000
    assert all(0 < log_id < 2**53 for log_id in taken)


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"9" * 30, b"\xff"])
def test_damaged_counter_file_is_survived(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / COUNTER_FILE).write_bytes(damage)
    assert 0 < LogIds(tmp_path, MAX_NODE).take() < 2**53


@pytest.mark.parametrize(
    ("device", "slot", "count", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("cpu", 1, 4, "cpu"),
        ("auto", 1, 2, "cuda:1"),
        ("cuda", 5, 2, "cuda:1"),
        ("cuda:1", 0, 2, "cuda:1"),
    ],
)
def test_device_is_chosen_by_slot(device: str, slot: int, count: int, expected: str) -> None:
    assert resolve_device(device, slot, count) == expected


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_absent_cuda_is_never_a_silent_cpu(device: str, count: int) -> None:
    with pytest.raises(SettingsError, match=device):
        resolve_device(device, 0, count)


def test_replacement_takes_the_slot_of_the_worker_before() -> None:
    assert [free_slot(taken) for taken in ([], [0, 1, 2], [0, 2], [1])] == [0, 3, 1, 0]


def _output(values: list[float]) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.array(values, np.float32)


def test_logits_become_probabilities_without_overflow() -> None:
    single = OutputSpec(kind="logits", task="single_label", classes=2)
    multi = OutputSpec(kind="logits", task="multi_label", classes=2)
    assert to_scores(_output([1e4, -1e4]), single).tolist() == [1, 0]
    assert to_scores(_output([1e4, -1e4]), multi).tolist() == [1, 0]
    assert to_scores(_output([0, 0]), multi).tolist() == [0.5, 0.5]
    assert to_scores(_output([1, 2]), single).dtype == np.float32


def test_probabilities_are_left_alone() -> None:
    spec = OutputSpec(kind="probabilities", task="multi_label", classes=2)
    assert to_scores(_output([0.25, 0.5]), spec).tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("values", "task", "told"),
    [
        ([1.2, 0.1], "multi_label", "a score is 1.2000, outside 0 to 1"),
        ([-0.2, 1.2], "single_label", "a score is"),
        ([-0.3, 0.9], "multi_label", "a score is -0.3000, outside 0 to 1"),
        ([0.5, 0.4], "single_label", "the scores of an image sum to 0.9000, not to 1"),
        ([0.7, 0.7], "single_label", "the scores of an image sum to 1.4000, not to 1"),
    ],
)
def test_probabilities_that_are_none_are_an_internal_error(
    values: list[float], task: Literal["single_label", "multi_label"], told: str
) -> None:
    with pytest.raises(InternalError, match=told):
        to_scores(_output(values), OutputSpec(kind="probabilities", task=task, classes=2))


def test_probabilities_may_be_rounded() -> None:
    spec = OutputSpec(kind="probabilities", task="single_label", classes=2)
    assert to_scores(_output([1.0005, -0.0005]), spec).tolist() == [1, 0]
    assert to_scores(_output([0.75, 0.2471]), spec).tolist() == _output([0.75, 0.2471]).tolist()


@pytest.mark.parametrize(
    "values", [[float("nan"), 1], [float("inf"), 1], [1, float("-inf")], [1], []]
)
def test_output_that_is_no_score_is_an_internal_error(values: list[float]) -> None:
    with pytest.raises(InternalError):
        to_scores(_output(values), OutputSpec(kind="logits", task="single_label", classes=2))


def test_rank_keeps_duplicate_names_and_index_order() -> None:
    ranked = rank(_output([0.1, 0.4, 0.1, 0.4]), ["a", "b", "c", "b"], 9)
    assert [entry["name"] for entry in ranked] == ["b", "b", "a", "c"]


def test_cpus_follow_the_cgroup(tmp_path: Path) -> None:
    affinity = len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cpus(tmp_path) == affinity
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert usable_cpus(tmp_path) == 1


def _logged(formatter: logging.Formatter, **fields: object) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.info("request", extra={"fields": fields})
    return stream.getvalue()


def test_json_line_holds_the_fields() -> None:
    line = json.loads(_logged(JsonFormatter(), log_id=5, top="猫"))
    assert (line["log_id"], line["top"], line["level"]) == (5, "猫", "info")


UNPRINTABLE = "\x00\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066\ufeff\U000e0041"


def test_no_line_has_a_character_that_a_terminal_acts_on() -> None:
    for formatter in (JsonFormatter(), TextFormatter(colour=False)):
        text = _logged(formatter, path=f"/{UNPRINTABLE}猫", facts={"disk": UNPRINTABLE})
        assert text[:-1].isprintable()
        assert "猫" in text
    line = json.loads(_logged(JsonFormatter(), path=UNPRINTABLE))
    assert line["path"] == UNPRINTABLE


def test_messages_and_tracebacks_are_escaped_too() -> None:
    for formatter in (JsonFormatter(), TextFormatter(colour=False)):
        record = logging.LogRecord("test", logging.ERROR, "", 0, f"a{UNPRINTABLE}\nb", (), None)
        try:
            raise ValueError(f"{UNPRINTABLE}\udcff")
        except ValueError:
            record.exc_info = sys.exc_info()
        lines = formatter.format(record).split("\n")
        assert all(line.isprintable() for line in lines)
        assert not any(line.startswith("b") for line in lines)


def test_client_cannot_forge_a_log_line() -> None:
    for formatter in (JsonFormatter(), TextFormatter(colour=False)):
        text = _logged(formatter, path="/x\nforged code=0")
        assert text.count("\n") == 1


def test_versions_that_accept_no_image_in_common_cannot_be_compared() -> None:
    labels, scores = DistinctLabels(("crane", "blue")), np.array([0.9, 0.1], np.float32)
    samples = [Sample(Path(name), ("crane",)) for name in ("1.png", "2.png")]
    one, two = (make_outcome(sample, labels, scores, False) for sample in samples)
    metrics = compute_metrics([one], labels.names)
    this, other = (Side(name, "torchscript", 1.0, metrics) for name in ("equal/1", "equal/2"))
    with pytest.raises(OperatorError, match=r"rejected by equal/1 or by equal/2; .* to see why$"):
        compare(this, other, [one], [two])
    assert compare(this, other, [one, two], [two]).images == 1
