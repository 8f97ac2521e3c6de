"""``classifyd package build``: build a package from a model, labels and preprocessing."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from app.cli.options import json_option, options_of, renamed, resolve_options
from app.cli.output import print_result, report_progress
from app.cli.package.verify import summarise, verify_package
from app.imaging.steps import ColorOrder, Filter, Resampling, Rounding
from app.reporting.counts import pluralise

if TYPE_CHECKING:
    from app.packages.build.builder import BuildRequest
    from app.packages.build.models import Module, Source
    from app.packages.build.presets import Preset
    from app.packages.build.recipes import Recipe
    from app.packages.package import Package

SOURCE_OPTIONS = (
    "torchscript",
    "onnx",
    "pt2",
    "torchvision",
    "factory",
    "huggingface",
    "ultralytics",
)
PRESET_OPTIONS = ("preprocess", "weights_enum", "timm_config")
"""Mutually exclusive; without them, the preprocessing options apply."""

RESIZE_OPTIONS = ("resize", "resize_shortest", "letterbox")
STEP_OPTIONS = (
    *("color", "crop_fraction", *RESIZE_OPTIONS, "crop", "rounding", "filter", "antialias"),
    *("pad", "scale", "mean", "std"),
)
"""They describe the whole preprocessing, so nothing else may describe it too."""

_SCALES = {"unit": (1 / 255, 0.0), "symmetric": (1 / 127.5, -1.0), "none": (1.0, 0.0)}
_FILE = click.Path(exists=True, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def _numbers(_: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as exc:
        raise click.BadParameter(f"{text!r}: expected numbers separated by commas") from exc


def _levels(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    return tuple(int(level) for level in _numbers(context, parameter, text))


def _size(_: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, width = [*text.lower().split("x", 1), ""][:2]
    if not height.isdigit() or not (width or height).isdigit():
        raise click.BadParameter(f"{text!r}: expected pixels, N or HEIGHTxWIDTH")
    return int(height), int(width or height)


def _scale(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, float]:
    if text in _SCALES:
        return _SCALES[text]
    values = _numbers(context, parameter, text)
    if len(values) != 2:
        raise click.BadParameter(f"{text!r}: expected unit, symmetric, none or MULTIPLY,ADD")
    return values[0], values[1]


def _arguments(_: click.Context, parameter: click.Parameter, text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is not JSON: {exc}") from exc
    if not isinstance(arguments, dict):
        raise click.BadParameter("expected a JSON object of names and values")
    return arguments


@click.command(context_settings=renamed(output="output-kind"))
@click.argument("name")
@click.argument("version")
@click.option("--torchscript", type=_FILE, metavar="FILE", help="source: a TorchScript file")
@click.option("--onnx", type=_FILE, metavar="FILE", help="source: an ONNX file")
@click.option("--pt2", type=_FILE, metavar="FILE", help="source: a file of torch.export.save")
@click.option("--torchvision", metavar="ARCH", help="source: an architecture of torchvision")
@click.option("--factory", metavar="MODULE:FUNCTION", help="source: returns an nn.Module")
@click.option(
    "--factory-args", metavar="JSON", default="{}", callback=_arguments, help="its arguments"
)
@click.option("--huggingface", type=_FOLDER, metavar="FOLDER", help="source: model and processor")
@click.option("--ultralytics", type=_FILE, metavar="FILE", help="source: written by yolo export")
@click.option("--checkpoint", type=_FILE, metavar="FILE", help="state_dict with the weights")
@click.option("--checkpoint-key", metavar="KEY", help="key of the state_dict in the checkpoint")
@click.option("--checkpoint-prefix", metavar="PREFIX", help="of the names in the state_dict")
@click.option("--labels", type=_FILE, metavar="PATH", help="text, JSON or ImageFolder")
@click.option(
    "--label-order",
    type=click.Choice(["text", "natural"]),
    help="of an ImageFolder: text: 1, 10, 2, as torchvision; natural: 1, 2, 10, as timm",
)
@click.option("--preprocess", type=_FILE, metavar="FILE", help="steps in YAML or JSON")
@click.option("--weights-enum", metavar="NAME", help="transforms of a torchvision weights enum")
@click.option("--timm-config", metavar="model|FILE", help="data configuration of timm")
@click.option(
    "--color",
    type=click.Choice(get_args(ColorOrder)),
    default="RGB",
    help="channel order of the model",
)
@click.option("--crop-fraction", type=float, help="share of the shortest side, before resizing")
@click.option("--resize", metavar="N|HxW", callback=_size, help="ignores the aspect ratio")
@click.option(
    "--resize-shortest", type=int, metavar="N", help="keeps the aspect ratio; requires --crop"
)
@click.option("--letterbox", metavar="N|HxW", callback=_size, help="whole image, rest --pad")
@click.option("--crop", metavar="N|HxW", callback=_size, help="centre crop, after resizing")
@click.option(
    "--rounding",
    type=click.Choice(get_args(Rounding)),
    default="half_even",
    show_default=True,
    help="of where a crop starts: half_even as torchvision; floor as transformers and fastai",
)
@click.option(
    "--filter",
    type=click.Choice(get_args(Filter)),
    default="bilinear",
    show_default=True,
    help="of the resizing",
)
@click.option("--antialias/--no-antialias", default=True, show_default=True, help="of the resizing")
@click.option(
    "--resampling",
    type=click.Choice(get_args(Resampling)),
    default="fast",
    show_default=True,
    help="exact: bit-exact with Pillow; fast: differs by at most 2 levels",
)
@click.option(
    "--orientation",
    type=click.Choice(["exif", "ignore"]),
    default="exif",
    show_default=True,
    help="exif: training turned photos upright; ignore: it did not, as torchvision's ImageFolder",
)
@click.option("--scaled-decode", is_flag=True, help="large jpgs may be decoded smaller, faster")
@click.option("--pad", default="0", callback=_levels, help="fill value, one or one per channel")
@click.option(
    "--scale",
    default="unit",
    show_default=True,
    callback=_scale,
    metavar="NAME|MUL,ADD",
    help="unit: 0 to 1, symmetric: -1 to 1, none: 0 to 255",
)
@click.option("--mean", callback=_numbers, metavar="A,B,C", help="applied after --scale")
@click.option("--std", callback=_numbers, metavar="A,B,C", help="applied after --scale")
@click.option(
    "--output-kind",
    "kind",
    type=click.Choice(["logits", "probabilities"]),
    help="what the model returns; by default logits, which are checked not to be probabilities",
)
@click.option("--output-key", metavar="KEY", help="name or index of one of several outputs")
@click.option(
    "--layout",
    type=click.Choice(["NCHW", "NHWC"]),
    help="of the input of an ONNX file, where its shape does not tell",
)
@click.option("--positive", metavar="LABEL", help="what the one output of a binary model scores")
@click.option(
    "--task",
    type=click.Choice(["single_label", "multi_label"]),
    help="whether one or several labels can be true of an image; by default one",
)
@click.option("--trace/--script", default=True, show_default=True, help="conversion to TorchScript")
@click.option("--golden", multiple=True, metavar="[LABEL=]FILE", help="a golden sample")
@click.option(
    "--golden-scores",
    type=_FILE,
    metavar="FILE",
    help="CSV or JSON: images with the scores, or the top class, of your training code",
)
@click.option("--tolerance", type=click.FloatRange(0, 1, min_open=True), help="of their scores")
@click.option("--training", type=_FILE, metavar="FILE", help="JSON for people: how it was trained")
@json_option
@options_of("weights_dir")
def build(
    name: str,
    version: str,
    as_json: bool,
    config: str | None,
    weights_dir: str | None,
    **options: Any,
) -> None:
    """Build a package NAME/VERSION, and check that it gives the scores of the original model.

    The source of the model is --torchscript, --onnx, --pt2, --torchvision, --factory,
    --huggingface or --ultralytics; the last two bring labels and preprocessing along. Otherwise the
    preprocessing is defined by --preprocess, --weights-enum or --timm-config, or by the other
    options.

    \b
    Example:
        classifyd package build pets 1 --torchscript pets.pt --labels labels.txt \\
            --resize-shortest 256 --crop 224 --golden cat=photos/cat.jpg
    """
    from app.packages.build.builder import build_package
    from app.packages.schema import is_identifier

    for what, text in (("NAME", name), ("VERSION", version)):
        if not is_identifier(text):
            raise click.UsageError(f"{what} {text!r}: expected 1 to 64 of A-Z a-z 0-9 _ . -")
    settings = resolve_options({"config": config, "weights_dir": weights_dir}).settings
    verified: dict[str, Any] = {}

    def check(package: "Package") -> None:
        verified.update(verify_package(package))

    request = _request(name, version, options)
    built = build_package(settings.weights_dir, request, check, report_progress)
    verified["verified_against_training"], remark = _describe_proof(request)
    text = f"{built.folder}: built, {pluralise(len(built.labels), 'class')}, {summarise(verified)}"
    print_result(verified, f"{text}\n  {remark}", as_json)


def _describe_proof(request: "BuildRequest") -> tuple[str, str]:
    """Say what the user's own results have proved, in a word for a script and in a sentence."""
    if request.golden_scores and all(i.scores is not None for i in request.golden_scores):
        return "scores", "the scores are those of --golden-scores, within the tolerance"
    if request.golden_scores or any("=" in argument for argument in request.golden):
        return (
            "top classes",
            "the top classes are those that you gave; not verified: the exact scores, which a "
            "slightly different preprocessing would move (--golden-scores with all scores)",
        )
    return (
        "nothing",
        "not verified: whether preprocessing, order of the labels and kind of output are those of "
        "the training, as the reference follows the same options; give --golden-scores with "
        "results of your training code",
    )


def _request(name: str, version: str, options: dict[str, Any]) -> "BuildRequest":
    from app.packages.build.builder import BuildRequest
    from app.packages.build.golden_scores import read_golden_scores
    from app.packages.build.labels import read_label_source, read_object

    recipe = _recipe(options)
    _refuse_unused(recipe)
    if options["labels"]:
        labels = read_label_source(options["labels"], options["label_order"])
    elif recipe:
        labels = recipe.labels()
    else:
        raise click.UsageError(
            "--labels is missing: only --huggingface and --ultralytics bring labels along"
        )
    scores_file = options["golden_scores"]
    return BuildRequest(
        name=name,
        version=version,
        source=recipe.source if recipe else _source(options),
        labels=labels,
        preset=lambda model: _preset(options, recipe, model),
        kind=options["kind"] or (recipe.kind if recipe else None),
        task=options["task"] or (recipe.task if recipe else "single_label"),
        method="trace" if options["trace"] else "script",
        golden=options["golden"],
        golden_scores=read_golden_scores(scores_file, labels) if scores_file else (),
        tolerance=options["tolerance"],
        positive=options["positive"],
        output_key=options["output_key"],
        orientation=options["orientation"],
        training=read_object(options["training"]) if options["training"] else None,
        scaled_decode=options["scaled_decode"],
    )


def _recipe(options: dict[str, Any]) -> "Recipe | None":
    """What a source says about itself, if it is one that does."""
    given = [name for name in SOURCE_OPTIONS if options[name]]
    if len(given) != 1:
        *others, last = (f"--{name}" for name in SOURCE_OPTIONS)
        raise click.UsageError(f"give one of {', '.join(others)} and {last}")
    from app.packages.build import recipes

    if options["checkpoint"] and given[0] not in {"torchvision", "factory"}:
        raise click.UsageError(f"--{given[0]} contains its weights; omit --checkpoint")
    if options["huggingface"]:
        return recipes.huggingface_recipe(options["huggingface"])
    if options["ultralytics"]:
        return recipes.ultralytics_recipe(options["ultralytics"])
    return None


def _refuse_unused(recipe: "Recipe | None") -> None:
    """Refuse options that describe what another option describes completely."""
    context = click.get_current_context()
    given = {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name
        and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }
    steps = [given[name] for name in STEP_OPTIONS if name in given]
    presets = [given[name] for name in PRESET_OPTIONS if name in given]
    if len(presets) > 1:
        raise click.UsageError("give one of --preprocess, --weights-enum and --timm-config")
    if recipe and not presets and not any(name in given for name in RESIZE_OPTIONS):
        presets = [recipe.option]
    if presets and steps:
        raise click.UsageError(
            f"{presets[0]} describes the whole preprocessing; omit {', '.join(steps)}"
        )
    if "preprocess" in given and "resampling" in given:
        raise click.UsageError("--preprocess names the resampling of each resize")
    for name, needed in (
        ("checkpoint_key", "checkpoint"),
        ("checkpoint_prefix", "checkpoint"),
        ("factory_args", "factory"),
        ("label_order", "labels"),
    ):
        if name in given and needed not in given:
            raise click.UsageError(f"{given[name]} is read with --{needed} only")


def _source(options: dict[str, Any]) -> "Source":
    from app.packages.build import models

    names = ("checkpoint", "checkpoint_key", "checkpoint_prefix")
    checkpoint, key, prefix = (options[name] for name in names)
    if options["layout"] and not options["onnx"]:
        raise click.UsageError("--layout is for --onnx; torch takes NCHW")
    if source := _complete_source(options):
        return source
    if options["factory"]:
        factory, arguments = options["factory"], options["factory_args"]
        create = lambda _: models.call_factory(factory, arguments)  # noqa: E731
        return models.Source(create, checkpoint, key, prefix)
    if checkpoint is None:
        raise click.UsageError("--torchvision requires --checkpoint; nothing is downloaded")
    create = partial(models.create_torchvision, options["torchvision"])
    return models.Source(create, checkpoint, key, prefix)


def _complete_source(options: dict[str, Any]) -> "Source | None":
    """Return the source of a file that contains its weights, if one is given."""
    from app.packages.build import models
    from app.packages.build.exported_program import ExportedProgram
    from app.packages.build.formats import refuse_other_format
    from app.packages.build.onnx_source import OnnxModule

    readers: dict[str, Callable[[Path], Module]] = {
        "torchscript": models.read_torchscript,
        "onnx": lambda path: OnnxModule(path, options["layout"]),
        "pt2": ExportedProgram,
    }
    name = next((name for name in readers if options[name]), None)
    if name is None:
        return None
    if options["checkpoint"]:
        raise click.UsageError(f"the file of --{name} contains its weights; omit --checkpoint")
    refuse_other_format(options[name], f"--{name}", f".{name}")
    return models.Source(lambda _: readers[name](options[name]))


def _preset(options: dict[str, Any], recipe: "Recipe | None", model: "Module") -> "Preset":
    from app.packages.build import presets

    if options["preprocess"]:
        return presets.preset_from_file(options["preprocess"])
    if options["weights_enum"]:
        return presets.preset_from_weights_enum(options["weights_enum"], options["resampling"])
    if options["timm_config"]:
        return presets.preset_from_timm(options["timm_config"], model, options["resampling"])
    if recipe and not any(options[name] for name in RESIZE_OPTIONS):
        return recipe.preset(options["resampling"])
    flags = presets.FlagValues.__dataclass_fields__
    return presets.preset_from_flags(presets.FlagValues(**{name: options[name] for name in flags}))
