"""``package optimise``: the candidates, the version that is written, and who may not serve it."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image
from scipy.stats import binomtest

from app.errors import OperatorError, PackageError
from app.evaluation.dataset import read_dataset
from app.evaluation.intervals import drop_interval, share_interval
from app.inference.classifier import deadline_after, load_classifier
from app.inference.engines import openvino
from app.inference.local import LocalClassifier
from app.inference.queue import InferenceQueue
from app.inference.tuning.comparison import select_engine
from app.inference.tuning.loader import TunedLoader
from app.inference.tuning.selection import EngineRequirements
from app.licence.issue import seal_package
from app.licence.keys import content_key
from app.optimisation.candidates import Candidate, make_candidates
from app.optimisation.optimisation import write_version
from app.optimisation.photos import Photos, prepare_photos
from app.optimisation.scoring import divergence, judge, pick, score_inputs
from app.packages.openvino_file import read_openvino_file
from app.packages.package import Package, load_package
from app.settings import PROJECT_ROOT
from tests.support.batch import batch_options, read_rows
from tests.support.commands import run_classifyd
from tests.support.images import PHOTOS
from tests.support.licences import CONTACT
from tests.support.models import build_sharp_package, classifyd
from tests.support.program import run_program

FLOAT32 = EngineRequirements("auto", "float32", "cpu", 1, 0.001)
pytestmark = pytest.mark.skipif(
    not (openvino.is_installed() and find_spec("nncf")), reason="needs nncf and openvino"
)


def make_photos(folder: Path, package: Package) -> Path:
    """Write crops of photos, in a folder for each label that the package itself gives them."""
    classifier = LocalClassifier(package)
    generator = np.random.default_rng(0)
    for path in sorted((PROJECT_ROOT / "tests/photos").glob("*.jpg"))[:6]:
        picture = Image.open(path).convert("RGB").resize((300, 300))
        for number in range(8):
            left, top = (int(offset) for offset in generator.integers(0, 150, 2))
            file = folder / f"{path.stem}-{number}.png"
            folder.mkdir(parents=True, exist_ok=True)
            picture.crop((left, top, left + 150, top + 150)).save(file)
            label = str(classifier.classify(file.read_bytes(), 1)[0]["name"])
            (folder / label).mkdir(exist_ok=True)
            file.rename(folder / label / file.name)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Package, Path, Photos]:
    folder = tmp_path_factory.mktemp("optimise")
    package = load_package(build_sharp_package(folder / "weights"))
    data = make_photos(folder / "photos", package)
    samples = read_dataset(data, package.labels, "single_label")
    return package, data, prepare_photos(package, samples)


@pytest.fixture(scope="module")
def candidates(made: tuple[Package, Path, Photos]) -> dict[str, Candidate]:
    package, _, photos = made
    model = openvino.convert(package)
    output = package.manifest.output
    found = list(make_candidates(model, photos, output, lambda _: None))
    return {candidate.name: candidate for candidate in found}


@pytest.fixture(scope="module")
def int8(made: tuple[Package, Path, Photos], candidates: dict[str, Candidate]) -> Package:
    package, _, photos = made
    return write_version(package, candidates["int8"], photos, {"n": 1}, True, lambda _: None)


def test_both_halves_have_all_labels_and_no_photo_twice(made: tuple[Package, Path, Photos]) -> None:
    _, _, photos = made
    assert not set(photos.calibration) & set(photos.unseen)
    assert len(photos.calibration) + len(photos.unseen) == 48
    counts = [
        [sum(s.labels == label for s in pick(photos.samples, half)) for half in _halves(photos)]
        for label in {sample.labels for sample in photos.samples}
    ]
    assert all(abs(one - other) <= 1 for one, other in counts)


def _halves(photos: Photos) -> tuple[Any, Any]:
    return photos.calibration, photos.unseen


def test_a_sensitive_layer_in_float32_brings_the_scores_closer(
    made: tuple[Package, Path, Photos], candidates: dict[str, Candidate]
) -> None:
    package, _, photos = made
    spec = package.manifest.output
    names = ["float32", "bfloat16", "int8", "int8, 1 layer in float32"]
    assert list(candidates) == names
    scores = [score_inputs(candidates[name].load(), photos.inputs, spec) for name in names]
    moved = [divergence(scores[0], found) for found in scores]
    assert moved[0] == 0
    assert moved[3] < moved[2]
    half = pick(photos.samples, photos.unseen)
    quality = judge(package, half, scores[0][photos.unseen], scores[0][photos.unseen])
    assert (quality.top1.share, quality.agreement.share, quality.drop.share) == (1, 1, 0)


def test_a_version_holds_the_model_and_gives_the_scores_that_were_measured(
    made: tuple[Package, Path, Photos], int8: Package, tmp_path: Path
) -> None:
    source, _, _ = made
    model = int8.manifest.model
    assert (int8.manifest.version, model.format, model.precision) == ("2", "openvino", "int8")
    assert (int8.manifest.scaled_decode, int8.manifest.optimisation) == (True, {"n": 1})
    # Quantised: the scores are not those of the source.
    assert source.golden is not None
    assert int8.golden is not None
    assert np.abs(source.golden.scores - int8.golden.scores).max() > 0.001
    queue = InferenceQueue(1)
    try:
        classifier = load_classifier(int8, TunedLoader(FLOAT32, tmp_path).load, queue)
        assert classifier.engine.name == "openvino-int8"
        assert classifier.worst_difference == 0
        image = np.zeros((3, 64, 64), np.float32)
        assert classifier.infer(image, deadline_after(10_000)).scores.sum() == pytest.approx(1)
    finally:
        queue.close()
    assert LocalClassifier(int8).name == "openvino-int8"


def test_batch_records_the_precision_of_the_version(int8: Package, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(PHOTOS / "china.jpg", tmp_path / "photos")
    out = tmp_path / "results"
    more = ("--engine", "openvino", "--precision", "bfloat16")
    arguments = batch_options(int8.folder.parent, str(int8.folder), out, *more)
    run_classifyd("batch", tmp_path / "photos", *arguments)
    assert json.loads((out / "_plan.json").read_bytes())["precision"] == "int8"
    assert read_rows(out)[0]["model_version"] == "2"


@pytest.mark.parametrize("change", [{"engine": "torchscript"}, {"device": "cuda:0"}], ids=str)
def test_other_engines_are_refused_with_what_to_do(
    int8: Package, tmp_path: Path, change: dict[str, str]
) -> None:
    requirements = replace(FLOAT32, **change)  # type: ignore[arg-type]  # by name
    with pytest.raises(PackageError, match="optimised for OpenVINO on a CPU .* activate the ver"):
        select_engine(int8, requirements, tmp_path, lambda _: None)


def test_a_server_without_openvino_says_what_to_install(int8: Package) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "sys.modules['openvino'] = None\n"
        "from app.errors import PackageError\n"
        "from app.inference.tuning.loader import load_exact\n"
        "from app.packages.package import load_package\n"
        "try: load_exact(load_package(Path(sys.argv[1])))\n"
        "except PackageError as exc: print(exc)\n"
    )
    assert "pip install 'classifyd[openvino]'" in run_program(program, int8.folder)


def test_another_kind_of_processor_is_the_likely_cause(int8: Package) -> None:
    assert int8.golden is not None
    other = replace(int8, golden=replace(int8.golden, scores=int8.golden.scores * 0.9))
    with pytest.raises(PackageError, match="optimise here, or activate the version"):
        LocalClassifier(other)


def test_an_optimised_version_can_be_sealed_and_a_sealed_one_not_optimised(
    int8: Package, made: tuple[Package, Path, Photos], tmp_path: Path
) -> None:
    publisher = Ed25519PrivateKey.generate()
    sealed = seal_package(int8.folder, tmp_path / "w", publisher, CONTACT)
    assert sealed.model_path.name == "model.zip.sealed"
    assert b"</layer>" not in sealed.model_path.read_bytes()
    opened = replace(sealed, content_key=content_key(publisher, "sharp"))
    assert LocalClassifier(opened).name == "openvino-int8"
    arguments = ("--data", made[1], "--weights-dir", tmp_path / "w")
    refused = classifyd("package", "optimise", "sharp", *arguments)
    assert "only its publisher can change it" in str(refused.exception)


def test_an_optimised_version_is_not_optimised_again(
    int8: Package, made: tuple[Package, Path, Photos]
) -> None:
    arguments = ("--data", made[1], "--weights-dir", int8.folder.parent.parent)
    refused = classifyd("package", "optimise", "sharp/2", *arguments)
    assert "is optimised already" in str(refused.exception)


def test_a_damaged_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_bytes(b"PK")
    with pytest.raises(PackageError, match=r"expected a zip archive of model\.xml and model\.bin"):
        read_openvino_file(tmp_path / "model.zip")


def test_the_command_reports_and_activates_nothing(
    made: tuple[Package, Path, Photos], tmp_path: Path
) -> None:
    source, data, _ = made
    weights = source.folder.parent.parent
    report = tmp_path / "o.html"
    result = classifyd(
        *("package", "optimise", "sharp/1", "--data", data, "--weights-dir", weights),
        *("--max-drop", 100, "-o", report, "--json"),
    )
    document = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    names = [row["name"] for row in document["candidates"]]
    assert names[:3] == ["float32", "bfloat16", "int8"]
    assert document["photos"] == {"calibration": 25, "unseen": 23, "rejected": 0}
    # So small a model may not be faster in int8 on every processor.
    assert (result.exit_code == 0) == (document["version"] is not None)
    active = classifyd("package", "info", "sharp", "--weights-dir", weights, "--json")
    assert json.loads(active.stdout)["version"] == "1"
    assert "http" not in report.read_text(encoding="utf-8")


def test_too_few_photos_are_refused(made: tuple[Package, Path, Photos]) -> None:
    package, _, photos = made
    with pytest.raises(OperatorError, match="found 10 photos, at least 40 are needed"):
        prepare_photos(package, photos.samples[:10])


def test_intervals_are_those_of_the_literature() -> None:
    for right, count in ((0, 10), (7, 10), (10, 10), (470, 500)):
        expected = binomtest(right, count).proportion_ci(0.95, "wilson")
        assert share_interval(right, count) == pytest.approx((expected.low, expected.high))
    low, high = drop_interval(5, 2, 500)
    assert low < 3 / 500 < high
    assert high - low == pytest.approx(0.0221, abs=0.001)
