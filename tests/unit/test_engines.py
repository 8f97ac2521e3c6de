"""Engines: agreement, selection, memory, and no connections to the outside."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.errors import PackageError
from app.inference.engines import openvino
from app.inference.engines.base import Engine, EngineError, FloatArray
from app.inference.engines.cuda import CudaEngine
from app.inference.engines.torchscript import PlainTorchScript, TorchScriptEngine
from app.inference.queue import InferenceQueue
from app.inference.tuning.candidates import CUDA, OPENVINO, Candidates
from app.inference.tuning.comparison import select_engine
from app.inference.tuning.loader import TunedLoader, load_exact
from app.inference.tuning.reference import probe_batch
from app.inference.tuning.selection import (
    FORMAT,
    EngineRequirements,
    EngineSelection,
    Measurement,
    SelectionStore,
    give_to_owner,
)
from app.inference.tuning.tuner import tune
from app.packages.package import Package, load_package
from app.serving.registry import ModelRegistry
from tests.support.packages import (
    build_colour_package,
    build_failing_package,
    build_pooling_package,
)
from tests.support.program import run_program

needs_openvino = pytest.mark.skipif(not openvino.is_installed(), reason="needs openvino")
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
    tune(package, AUTO, state)
    return state


def select(package: Package, requirements: EngineRequirements, folder: Path) -> EngineSelection:
    return select_engine(package, requirements, folder, lambda _: None)


def test_every_candidate_agrees_with_the_plain_module(package: Package, tmp_path: Path) -> None:
    inputs = probe_batch(package)
    expected = PlainTorchScript(package.model_path).infer(inputs)
    candidates = Candidates(package, AUTO, tmp_path)
    for name in candidates.names():
        candidates.prepare(name)
        for max_batch in (1, 8):
            engine = candidates.load(name, max_batch)
            for batch in (inputs[:1], inputs):
                found = engine.infer(batch)
                assert np.abs(found - expected[: len(batch)]).max() < 1e-4, (name, max_batch)
        latency_engine = candidates.load_latency_engine(name)
        if latency_engine:
            assert np.abs(latency_engine.infer(inputs) - expected).max() < 1e-4, name


def test_model_that_the_optimised_module_cannot_run_is_served_frozen(tmp_path: Path) -> None:
    package = load_package(build_pooling_package(tmp_path, "pooling"))
    engine = load_exact(package).engine
    images = np.random.default_rng(1).random((2, 3, 32, 32), np.float32)
    plain = PlainTorchScript(package.model_source()).infer(images)
    assert np.abs(engine.infer(images) - plain).max() < 1e-5


def test_probes_differ_from_each_other_and_are_the_same_each_time(package: Package) -> None:
    first, second = probe_batch(package), probe_batch(package)
    assert np.array_equal(first, second)
    assert len({probe.tobytes() for probe in first}) == len(first)


def test_the_fastest_is_selected_and_stored(package: Package, tuned: Path) -> None:
    selection = SelectionStore(tuned, package, AUTO).read()
    assert selection is not None
    usable = [row for row in selection.measurements if not row.problem]
    best_ms = min(row.ms for row in usable)
    selected = (selection.engine, selection.max_batch)
    (row,) = [row for row in usable if (row.engine, row.batch) == selected]
    assert row.ms <= best_ms / 0.95
    assert {row.engine for row in usable} == set(Candidates(package, AUTO, tuned).names())


def test_load_on_the_machine_that_ends_makes_no_batch_look_faster(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image takes the same time, and half of that from the first larger batch on."""
    rounds: list[int] = []

    def measure(_engine: Engine, _inputs: FloatArray, batch: int, *_: object) -> float:
        rounds.append(batch)
        return 10.0 if max(rounds) == 1 else 5.0

    monkeypatch.setattr("app.inference.tuning.comparison.ms_per_image", measure)
    selection = select(package, AUTO, tmp_path)
    assert set(rounds) == set(Candidates(package, AUTO, tmp_path).batch_sizes())
    assert selection.max_batch == 1
    assert {row.ms for row in selection.measurements} == {10.0}


def test_the_smallest_batch_near_the_fastest_is_selected(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {1: 10.0, 2: 8.0, 4: 6.2, 8: 6.0}
    monkeypatch.setattr(
        "app.inference.tuning.comparison.ms_per_image",
        lambda _engine, _inputs, batch, *_: times[batch],
    )
    selection = select(package, AUTO, tmp_path)
    assert selection.max_batch == 4
    assert {(row.batch, round(row.ms, 3)) for row in selection.measurements} == set(times.items())


def test_stored_selection_is_loaded_and_not_measured_again(
    package: Package, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = SelectionStore(tuned, package, AUTO).read()
    assert selection is not None
    monkeypatch.setattr("subprocess.run", None)
    loaded = TunedLoader(AUTO, tuned).load(package)
    assert loaded.engine.name == selection.engine
    assert loaded.max_batch == selection.max_batch


def test_selection_is_not_found_when_what_it_depends_on_changes(
    package: Package, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SelectionStore(tuned, package, AUTO).read() is not None
    assert SelectionStore(tuned, replace(package, digest="0" * 64), AUTO).read() is None
    assert SelectionStore(tuned, package, replace(AUTO, precision="bfloat16")).read() is None
    assert SelectionStore(tuned, package, replace(AUTO, threads=3)).read() is None
    selection = "app.inference.tuning.selection"
    for name, value in [
        (f"{selection}.cpu_model", lambda: "another processor"),
        (f"{selection}.library_versions", lambda _: {"torch": "0"}),
        (f"{selection}.FORMAT", FORMAT - 1),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert SelectionStore(tuned, package, AUTO).read() is None, name


def test_damaged_selection_is_measured_again(package: Package, tmp_path: Path) -> None:
    store = SelectionStore(tmp_path, package, AUTO)
    store.write(EngineSelection("torchscript", 1, None, (Measurement("torchscript", 1, 1, 0, ""),)))
    assert store.read() is not None
    (store.folder / "selection.json").write_text('{"engine": ')
    assert store.read() is None
    loaded = TunedLoader(AUTO, tmp_path).load(package)
    assert store.read() is not None
    assert loaded.engine.infer(probe_batch(package)).shape == (16, 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_account_of_the_server_able_to_measure(
    package: Package, tmp_path: Path
) -> None:
    os.chown(tmp_path, 12345, 12345)
    give_to_owner(tmp_path)  # nothing was measured
    store = SelectionStore(tmp_path, package, AUTO)
    store.write(EngineSelection("torchscript", 1, None, ()))
    give_to_owner(tmp_path)
    paths = (store.folder / "selection.json", store.folder, store.folder.parent)
    assert {path.stat().st_uid for path in paths} == {12345}


def test_precision_that_moves_scores_too_far_is_refused_with_the_difference(
    package: Package, tmp_path: Path
) -> None:
    requirements = replace(AUTO, engine="torchscript", precision="bfloat16", tolerance=0.0)
    with pytest.raises(PackageError, match=r"differs by 0\.\d+ .*score_tolerance_permille"):
        select(package, requirements, tmp_path)
    selection = select(package, replace(requirements, tolerance=0.2), tmp_path)
    assert all(0 < row.difference <= 0.2 for row in selection.measurements)


def test_model_that_fails_on_probes_is_named(tmp_path: Path) -> None:
    package = load_package(build_failing_package(tmp_path / "w", "failing"))
    broken = replace(package, model_path=tmp_path / "none.pt")
    with pytest.raises(PackageError, match=r"none\.pt"):
        select(broken, AUTO, tmp_path)


def test_engine_that_was_named_needs_no_measuring(package: Package, tmp_path: Path) -> None:
    requirements = replace(AUTO, engine="torchscript")
    loaded = TunedLoader(requirements, tmp_path).load(package)
    assert isinstance(loaded.engine, TorchScriptEngine)
    assert SelectionStore(tmp_path, package, requirements).read() is None


@needs_openvino
@pytest.mark.parametrize(("ms", "off_by", "chosen"), [(6.0, 0, 1), (9.8, 0, 0), (6.0, 1, 0)])
def test_an_uncontended_image_gets_all_cores_where_that_is_faster_and_agrees(
    package: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ms: float,
    off_by: float,
    chosen: bool,
) -> None:
    latency_engines: list[Engine] = []

    class Off:
        """An engine whose output for one class is off."""

        name, device = "off", "cpu"

        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def infer(self, batch: FloatArray) -> FloatArray:
            return self._engine.infer(batch) + np.array([off_by, 0, 0], np.float32)

    def load_latency_engine(self: Candidates, name: str) -> Engine:
        engine = load(self, name)
        assert engine is not None
        latency_engines.append(Off(engine))
        return latency_engines[-1]

    load = Candidates.load_latency_engine
    monkeypatch.setattr(Candidates, "load_latency_engine", load_latency_engine)
    monkeypatch.setattr(
        "app.inference.tuning.comparison.ms_per_image",
        lambda engine, *_: ms if engine in latency_engines else 10.0,
    )
    requirements = replace(AUTO, engine="openvino")
    selection = tune(package, requirements, tmp_path)
    latency = selection.latency
    assert latency is not None
    assert (latency.cores, latency.ms, latency.one_core_ms) == (2, ms, 10.0)
    assert (latency.difference > AUTO.tolerance) == bool(off_by)
    assert latency.chosen == chosen
    monkeypatch.undo()
    assert SelectionStore(tmp_path, package, requirements).read() == selection
    loaded = TunedLoader(requirements, tmp_path).load(package)
    assert bool(loaded.latency_engine) == chosen


@needs_openvino
def test_there_is_no_latency_engine_where_it_gains_nothing(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = Candidates(package, AUTO, tmp_path)
    with_one_thread = Candidates(package, replace(AUTO, threads=1), tmp_path)
    for name in candidates.names():
        candidates.prepare(name)
        assert bool(candidates.load_latency_engine(name)) == (name == OPENVINO)
        assert with_one_thread.load_latency_engine(name) is None
    monkeypatch.setattr(openvino, "MAX_COPIES_BYTES", 1)
    assert candidates.load_latency_engine(OPENVINO) is None


@needs_openvino
def test_only_the_selected_compiled_model_is_cached(package: Package, tmp_path: Path) -> None:
    requirements = replace(AUTO, engine="openvino")
    tune(package, requirements, tmp_path)
    compiled = SelectionStore(tmp_path, package, requirements).folder / "compiled"
    assert list(compiled.iterdir()) == []
    TunedLoader(requirements, tmp_path, max_batch=1).load(package)
    assert len(list(compiled.iterdir())) == 1


@needs_openvino
def test_openvino_never_loads_its_telemetry(package: Package, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from app.inference.tuning.candidates import Candidates\n"
        "from app.inference.tuning.selection import EngineRequirements\n"
        "from app.inference.engines.openvino import OpenVinoEngine\n"
        "from app.packages.package import load_package\n"
        "package, folder = load_package(Path(sys.argv[1])), Path(sys.argv[2])\n"
        "requirements = EngineRequirements('auto', 'float32', 'cpu', 1, 0.001)\n"
        "Candidates(package, requirements, folder).prepare('openvino')\n"
        "OpenVinoEngine(folder / 'model.xml', 'float32', 1)\n"
        "print([n for n, m in sys.modules.items() if 'openvino_telemetry' in n and m])"
    )
    environment = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    (tmp_path / "home").mkdir()
    printed = run_program(program, package.folder, tmp_path, environment=environment)
    assert printed.strip() == "[]"
    # The telemetry would write a client number here.
    assert not list((tmp_path / "home").iterdir())


@needs_openvino
def test_openvino_opens_no_socket(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    Candidates(package, AUTO, tmp_path).prepare(OPENVINO)
    engine = openvino.OpenVinoEngine(tmp_path / "model.xml", "float32", 1)
    assert engine.infer(np.ones((2, 3, 32, 32), np.float32)).shape == (2, 3)


@pytest.fixture(scope="module")
def eight_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that outlive the engines that they use, as a server's do."""
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
    Candidates(package, AUTO, tmp_path).prepare(OPENVINO)
    weight_bytes = (tmp_path / "model.bin").stat().st_size
    monkeypatch.setattr(openvino, "MAX_COPIES_BYTES", room_for * weight_bytes)
    engine = openvino.OpenVinoEngine(tmp_path / "model.xml", "float32", 2, max_batch)
    compiled = {each for each in (engine._single, engine._batches) if each}
    assert sum(len(each._models) for each in compiled) == copies
    plain = PlainTorchScript(package.model_source())
    generator = np.random.default_rng(0)
    batches = [generator.random((size, 3, 32, 32), np.float32) for _ in range(64)]
    for batch, output in zip(batches, eight_threads.map(engine.infer, batches), strict=True):
        np.testing.assert_allclose(output, plain.infer(batch), atol=1e-5)
    assert all(len(each._idle) == 2 for each in compiled)


@needs_openvino
def test_openvino_names_what_it_does_not_support(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="compile"):
        openvino.OpenVinoEngine(tmp_path / "model.xml", "float32", 1)
    with pytest.raises(EngineError, match="float16"):
        openvino.OpenVinoEngine(tmp_path / "model.xml", "float16", 1)


class SmallGpu(CudaEngine):
    """Doubles images, up to a number of them at once."""

    def __init__(self, max_images: int) -> None:
        self.max_images = max_images
        self.sizes: list[int] = []

    def _run(self, batch: FloatArray) -> FloatArray:
        self.sizes.append(len(batch))
        if len(batch) > self.max_images:
            raise torch.OutOfMemoryError
        return batch.reshape(len(batch), -1) * 2


def test_batch_too_large_for_the_gpu_is_run_in_parts_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    freed: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    engine = SmallGpu(3)
    found = engine.infer(np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1))
    assert found.tolist() == [[2.0 * value] for value in range(10)]
    assert max(size for size in engine.sizes if size <= 3) == 3
    assert len(freed) == sum(size > 3 for size in engine.sizes)


def test_single_image_that_does_not_fit_fails() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        SmallGpu(0).infer(np.zeros((4, 1, 1, 1), np.float32))


def test_a_gpu_has_one_candidate(package: Package, tmp_path: Path) -> None:
    assert Candidates(package, replace(AUTO, device="cuda:0"), tmp_path).names() == [CUDA]


def test_hung_inference_makes_every_model_unready(package: Package) -> None:
    models = ModelRegistry(
        package.folder.parent.parent, load_exact, InferenceQueue(1), lambda _: None
    )
    assert models.problems() == {}
    models.queue.abandon()
    assert "hangs" in models.problems()["colours"]
    models.queue.close()
