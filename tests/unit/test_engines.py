"""Engines: agreement, choice, memory, and no word to anybody outside."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.errors import PackageError
from app.inference.engines import openvino
from app.inference.engines.base import Engine, EngineError, FloatArray
from app.inference.engines.cuda import infer_in_halves
from app.inference.engines.torchscript import PlainTorchScript, TorchScriptEngine
from app.inference.queue import InferenceQueue
from app.inference.tuning import candidates
from app.inference.tuning.loader import ExactLoader, TunedLoader
from app.inference.tuning.reference import probe_batch
from app.inference.tuning.selection import (
    EngineRequirements,
    EngineSelection,
    Measurement,
    SelectionStore,
)
from app.inference.tuning.tuner import measure_candidates, tune
from app.packages.package import Package, load_package
from app.serving.registry import ModelRegistry
from tests.support.packages import (
    build_colour_package,
    build_failing_package,
    build_pooling_package,
)
from tests.support.program import run_program

needs_openvino = pytest.mark.skipif(not openvino.is_installed(), reason="an optional extra")
AUTO = EngineRequirements(
    engine="auto", precision="float32", device="cpu", threads=2, tolerance=0.001
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = build_colour_package(tmp_path_factory.mktemp("w"), "colours", ["red", "green", "blue"])
    return load_package(folder)


@pytest.fixture(scope="module")
def tuned(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("state")
    tune(package, AUTO, SelectionStore(state))
    return state


def test_every_candidate_agrees_with_the_plain_module(package: Package, tmp_path: Path) -> None:
    inputs = probe_batch(package)
    wanted = PlainTorchScript(package.model_path).infer(inputs)
    for name in candidates.candidate_names(AUTO):
        candidates.prepare(name, package, AUTO, tmp_path)
        for max_batch in (1, 8):
            engine = candidates.load(name, package, AUTO, tmp_path, max_batch)
            for batch in (inputs[:1], inputs):
                found = engine.infer(batch)
                assert np.abs(found - wanted[: len(batch)]).max() < 1e-4, (name, max_batch)
        alone = candidates.load_latency_engine(name, package, AUTO, tmp_path)
        if alone:
            assert np.abs(alone.infer(inputs) - wanted).max() < 1e-4, name


def test_model_that_the_optimised_form_cannot_run_is_served_all_the_same(tmp_path: Path) -> None:
    package = load_package(build_pooling_package(tmp_path, "pooling"))
    engine = ExactLoader().load(package).engine
    images = np.random.default_rng(1).random((2, 3, 32, 32), np.float32)
    plain = PlainTorchScript(package.model_source()).infer(images)
    assert np.abs(engine.infer(images) - plain).max() < 1e-5


def test_probes_differ_from_each_other_and_are_the_same_each_time(package: Package) -> None:
    first, second = probe_batch(package), probe_batch(package)
    assert np.array_equal(first, second)
    assert len({probe.tobytes() for probe in first}) == len(first)


def test_the_fastest_is_chosen_and_remembered(package: Package, tuned: Path) -> None:
    choice = SelectionStore(tuned).read(package, AUTO)
    assert choice is not None
    usable = [row for row in choice.measurements if not row.problem]
    best = min(row.ms for row in usable)
    (chosen,) = [r for r in usable if (r.engine, r.batch) == (choice.engine, choice.max_batch)]
    assert chosen.ms <= best / 0.95
    assert {row.engine for row in usable} == set(candidates.candidate_names(AUTO))


def test_busy_machine_that_comes_to_rest_makes_no_batch_look_better(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image takes the same time, and half of that from the first larger batch on."""
    rounds: list[int] = []

    def measure(_engine: Engine, _inputs: FloatArray, batch: int, *_: object) -> float:
        rounds.append(batch)
        return 10.0 if max(rounds) == 1 else 5.0

    monkeypatch.setattr("app.inference.tuning.tuner.ms_per_image", measure)
    choice = measure_candidates(package, AUTO, tmp_path, lambda _: None)
    assert set(rounds) == set(candidates.batches_of(AUTO))
    assert choice.max_batch == 1
    assert {row.ms for row in choice.measurements} == {10.0}


def test_batch_that_gains_is_chosen_at_its_smallest_worthwhile_size(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {1: 10.0, 2: 8.0, 4: 6.2, 8: 6.0}
    monkeypatch.setattr(
        "app.inference.tuning.tuner.ms_per_image", lambda _engine, _inputs, batch, *_: times[batch]
    )
    choice = measure_candidates(package, AUTO, tmp_path, lambda _: None)
    assert choice.max_batch == 4
    assert {(row.batch, round(row.ms, 3)) for row in choice.measurements} == set(times.items())


def test_remembered_choice_is_loaded_and_not_measured_again(
    package: Package, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = SelectionStore(tuned).read(package, AUTO)
    assert choice is not None
    monkeypatch.setattr("subprocess.run", None)
    loaded = TunedLoader(AUTO, tuned).load(package)
    assert loaded.engine.name == choice.engine
    assert loaded.max_batch == choice.max_batch


def test_choice_is_forgotten_when_what_it_depends_on_changes(
    package: Package, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SelectionStore(tuned)
    assert store.read(replace(package, digest="0" * 64), AUTO) is None
    assert store.read(package, replace(AUTO, precision="bfloat16")) is None
    assert store.read(package, replace(AUTO, threads=3)) is None
    monkeypatch.setattr("app.inference.tuning.selection.cpu_model", lambda: "another processor")
    assert store.read(package, AUTO) is None
    monkeypatch.undo()
    monkeypatch.setattr("app.inference.tuning.selection.library_versions", lambda _: {"torch": "0"})
    assert store.read(package, AUTO) is None


def test_damaged_choice_is_measured_again(package: Package, tmp_path: Path) -> None:
    store = SelectionStore(tmp_path)
    store.write(
        package,
        AUTO,
        EngineSelection("torchscript", 1, None, (Measurement("torchscript", 1, 1, 0, ""),)),
    )
    (store.folder(package, AUTO) / "choice.json").write_text('{"engine": ')
    assert store.read(package, AUTO) is None
    loaded = TunedLoader(AUTO, tmp_path).load(package)
    assert store.read(package, AUTO) is not None
    assert loaded.engine.infer(probe_batch(package)).shape == (16, 3)


def test_precision_that_moves_scores_too_far_is_refused_with_the_difference(
    package: Package, tmp_path: Path
) -> None:
    requirements = replace(AUTO, engine="torchscript", precision="bfloat16", tolerance=0.0)
    with pytest.raises(PackageError, match=r"differs by 0\.\d+ .*score_tolerance_permille"):
        measure_candidates(package, requirements, tmp_path, lambda _: None)
    choice = measure_candidates(
        package, replace(requirements, tolerance=0.2), tmp_path, lambda _: None
    )
    assert all(0 < row.difference <= 0.2 for row in choice.measurements)


def test_model_that_fails_on_probes_is_named(tmp_path: Path) -> None:
    package = load_package(build_failing_package(tmp_path / "w", "failing"))
    broken = replace(package, model_path=tmp_path / "none.pt")
    with pytest.raises(PackageError, match=r"none\.pt"):
        measure_candidates(broken, AUTO, tmp_path, lambda _: None)


def test_engine_that_was_named_needs_no_measuring(package: Package, tmp_path: Path) -> None:
    loader = TunedLoader(replace(AUTO, engine="torchscript"), tmp_path)
    assert isinstance(loader.load(package).engine, TorchScriptEngine)
    assert loader._store.read(package, loader.requirements) is None


@needs_openvino
@pytest.mark.parametrize(("ms", "off_by", "chosen"), [(6.0, 0, 1), (9.8, 0, 0), (6.0, 1, 0)])
def test_an_image_alone_gets_all_cores_where_that_is_faster_and_agrees(
    package: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ms: float,
    off_by: float,
    chosen: bool,
) -> None:
    spread: list[Engine] = []

    class Off:
        """An engine whose output for one class is off."""

        name, device = "off", "cpu"

        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def infer(self, batch: FloatArray) -> FloatArray:
            return self._engine.infer(batch) + np.array([off_by, 0, 0], np.float32)

    def load_latency_engine(*arguments: Any) -> Engine:
        engine = load(*arguments)
        assert engine is not None
        spread.append(Off(engine))
        return spread[-1]

    load = candidates.load_latency_engine
    monkeypatch.setattr(candidates, "load_latency_engine", load_latency_engine)
    monkeypatch.setattr(
        "app.inference.tuning.tuner.ms_per_image",
        lambda engine, *_: ms if engine in spread else 10.0,
    )
    requirements = replace(AUTO, engine="openvino")
    choice = tune(package, requirements, SelectionStore(tmp_path))
    assert choice.latency is not None
    assert (
        choice.latency.cores,
        choice.latency.ms,
        choice.latency.one_core_ms,
    ) == (2, ms, 10.0)
    assert (choice.latency.difference > AUTO.tolerance) == bool(off_by)
    assert choice.latency.chosen == chosen
    monkeypatch.undo()
    assert SelectionStore(tmp_path).read(package, requirements) == choice
    loaded = TunedLoader(requirements, tmp_path).load(package)
    assert bool(loaded.latency_engine) == chosen


@needs_openvino
def test_no_image_is_spread_where_that_gains_nothing(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in candidates.candidate_names(AUTO):
        candidates.prepare(name, package, AUTO, tmp_path)
        engine = candidates.load_latency_engine(name, package, AUTO, tmp_path)
        assert bool(engine) == (name == candidates.OPENVINO)
        assert (
            candidates.load_latency_engine(name, package, replace(AUTO, threads=1), tmp_path)
            is None
        )
    monkeypatch.setattr(openvino, "MAX_COPIES_BYTES", 1)
    assert candidates.load_latency_engine(candidates.OPENVINO, package, AUTO, tmp_path) is None


@needs_openvino
def test_only_the_compiled_code_of_the_chosen_form_is_kept(
    package: Package, tmp_path: Path
) -> None:
    requirements, store = replace(AUTO, engine="openvino"), SelectionStore(tmp_path)
    tune(package, requirements, store)
    compiled = store.folder(package, requirements) / "compiled"
    assert list(compiled.iterdir()) == []
    TunedLoader(requirements, tmp_path, max_batch=1).load(package)
    assert len(list(compiled.iterdir())) == 1


@needs_openvino
def test_openvino_never_loads_its_telemetry(package: Package, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from app.inference.tuning.candidates import prepare\n"
        "from app.inference.tuning.selection import EngineRequirements\n"
        "from app.inference.engines.openvino import OpenVinoEngine\n"
        "from app.packages.package import load_package\n"
        "package, folder = load_package(Path(sys.argv[1])), Path(sys.argv[2])\n"
        "prepare('openvino', package, Demand('auto', 'float32', 'cpu', 1, 0.001), folder)\n"
        "OpenVinoEngine(folder / 'model.xml', 'float32', 1)\n"
        "print([n for n, m in sys.modules.items() if 'openvino_telemetry' in n and m])"
    )
    environment = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    (tmp_path / "home").mkdir()
    printed = run_program(program, package.folder, tmp_path, environment=environment)
    assert printed.strip() == "[]"
    # Where its telemetry runs it leaves a client number here.
    assert not list((tmp_path / "home").iterdir())


@needs_openvino
def test_openvino_opens_no_socket(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    candidates.prepare(candidates.OPENVINO, package, AUTO, tmp_path)
    engine = openvino.OpenVinoEngine(tmp_path / "model.xml", "float32", 1)
    assert engine.infer(np.ones((2, 3, 32, 32), np.float32)).shape == (2, 3)


@pytest.fixture(scope="module")
def eight_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that outlive the engines which they compute with, as a server's do."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


@needs_openvino
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    ("max_batch", "room_for", "copies"),
    [(1, 0, 1), (1, 2, 2), (1, 4, 2), (8, 0, 1), (8, 2, 2), (8, 4, 4)],
)
def test_openvino_answers_more_callers_than_it_has_threads(
    package: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eight_threads: ThreadPoolExecutor,
    max_batch: int,
    room_for: int,
    copies: int,
    size: int,
) -> None:
    candidates.prepare(candidates.OPENVINO, package, AUTO, tmp_path)
    weight_bytes = (tmp_path / "model.bin").stat().st_size
    monkeypatch.setattr(openvino, "MAX_COPIES_BYTES", room_for * weight_bytes)
    engine = openvino.OpenVinoEngine(tmp_path / "model.xml", "float32", 2, max_batch)
    forms = {form for form in (engine._single, engine._batches) if form}
    assert sum(len(form._models) for form in forms) == copies
    plain = PlainTorchScript(package.model_source())
    generator = np.random.default_rng(0)
    batches = [generator.random((size, 3, 32, 32), np.float32) for _ in range(64)]
    for batch, output in zip(batches, eight_threads.map(engine.infer, batches), strict=True):
        np.testing.assert_allclose(output, plain.infer(batch), atol=1e-5)
    assert all(len(form._idle) == 2 for form in forms)


@needs_openvino
def test_openvino_names_what_it_cannot_take(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="compile"):
        openvino.OpenVinoEngine(tmp_path / "model.xml", "float32", 1)
    with pytest.raises(EngineError, match="float16"):
        openvino.OpenVinoEngine(tmp_path / "model.xml", "float16", 1)


def test_batch_too_large_for_the_card_is_run_in_parts_and_in_order() -> None:
    sizes: list[int] = []

    def run(batch: FloatArray) -> FloatArray:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError
        return batch.reshape(len(batch), -1) * 2

    freed: list[bool] = []
    batch = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    found = infer_in_halves(run, batch, lambda: freed.append(True))
    assert found.tolist() == [[2.0 * value] for value in range(10)]
    assert max(size for size in sizes if size <= 3) == 3
    assert len(freed) == sum(size > 3 for size in sizes)


def test_single_image_that_does_not_fit_fails() -> None:
    def run(_: FloatArray) -> FloatArray:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        infer_in_halves(run, np.zeros((4, 1, 1, 1), np.float32), lambda: None)


def test_unknown_engine_is_not_a_candidate_of_a_card() -> None:
    assert candidates.candidate_names(replace(AUTO, device="cuda:0")) == [candidates.CUDA]


def test_hung_inference_makes_every_model_unready(package: Package) -> None:
    models = ModelRegistry(
        package.folder.parent.parent, ExactLoader(), InferenceQueue(1), lambda _: None
    )
    assert models.problems() == {}
    models.queue.abandon()
    assert "hangs" in models.problems()["colours"]
    models.queue.close()
