"""Converts the eager module to TorchScript and checks that both give the same output."""

import re
import warnings
import zipfile
from pathlib import Path

import torch

from app.errors import OperatorError

LARGEST_DIFFERENCE = 1e-4
"""Of an output, relative to the largest output or 1. A correct trace gives 0; a fused
operation may round differently."""

MAX_REASON = 250
_INTERPRETER = "The following operation failed in the TorchScript interpreter"

BATCHES = (1, 3)
"""A trace at batch 1 must be right at another size too, or it has frozen the batch size, unless
the module itself can compute one image only."""

_PLACES = (".debug_pkl", ".data/serialization_id")
"""Records of a script with such places, and the hash over all records; torch needs neither."""


def to_torchscript(
    model: torch.nn.Module, images: torch.Tensor, method: str
) -> torch.jit.ScriptModule:
    """Trace or script a module and compare the outputs of both.

    Args:
        model: the eager module in evaluation mode.
        images: float32 (N, C, H, W), real inputs, preprocessed.
        method: ``trace`` or ``script``.

    Raises:
        OperatorError: the module cannot be traced or scripted, or the outputs differ.
    """
    if isinstance(model, torch.jit.ScriptModule):
        return model
    try:
        scripted = _convert(model, images, method)
    except Exception as exc:
        other = "script" if method == "trace" else "trace"
        raise OperatorError(
            f"torch.jit.{method} fails on this model, try --{other}: {torch_reason(exc)}"
        ) from exc
    _compare(model, scripted, _test_inputs(images), method)
    return scripted


def save_script(script: torch.jit.ScriptModule, path: Path) -> None:
    """Save a script without the places in the source from which it comes.

    They contain the paths of this machine, so that each machine would write other bytes.
    """
    script.save(str(path))
    complete = path.with_name(f".{path.name}")
    path.rename(complete)
    with zipfile.ZipFile(complete) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if not name.endswith(_PLACES):
                # A ZipInfo has a fixed date and is not compressed, like the original.
                target.writestr(zipfile.ZipInfo(name), source.read(name))
    complete.unlink()


def _convert(model: torch.nn.Module, images: torch.Tensor, method: str) -> torch.jit.ScriptModule:
    with torch.inference_mode(), warnings.catch_warnings():
        # Tracing warns of Python conditions on shapes, which are the same for every image, and
        # torch warns that TorchScript is deprecated.
        warnings.simplefilter("ignore")
        if method == "script":
            scripted: torch.jit.ScriptModule = torch.jit.script(model)
        else:
            scripted = torch.jit.trace(model, images[:1], check_trace=False)
    return scripted


def _test_inputs(images: torch.Tensor) -> torch.Tensor:
    """Add noise in the same range to the real inputs, to reach more branches."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(BATCHES[-1], *images.shape[1:], generator=generator)
    return torch.cat([images, noise * (images.max() - images.min()) + images.min()])


def _compare(
    model: torch.nn.Module, scripted: torch.jit.ScriptModule, inputs: torch.Tensor, method: str
) -> None:
    for size in BATCHES:
        for batch in torch.split(inputs, size):
            difference, scale = _difference(model, scripted, batch, method)
            if not difference <= LARGEST_DIFFERENCE * scale:
                raise OperatorError(
                    f"torch.jit.{method} gives other outputs than the module: off by "
                    f"{difference:.3g} at batch {len(batch)}; a condition on the data or the batch "
                    f"size was frozen, try --{'script' if method == 'trace' else 'trace'}"
                )


def _difference(
    model: torch.nn.Module, scripted: torch.jit.ScriptModule, batch: torch.Tensor, method: str
) -> tuple[float, float]:
    with torch.inference_mode():
        try:
            expected = model(batch)
        except RuntimeError:
            if len(batch) == 1:
                raise
            return 0.0, 1.0
        try:
            found = scripted(batch)
        except RuntimeError as exc:
            raise OperatorError(
                f"torch.jit.{method} fails where the module does not, at batch {len(batch)}: "
                f"{torch_reason(exc)}"
            ) from exc
    if found.shape != expected.shape:
        return float("inf"), 1.0
    return float((found - expected).abs().max()), max(1.0, float(expected.abs().max()))


def torch_reason(exc: Exception) -> str:
    """Return the line of an error's text in which torch says what failed, or its type.

    It is the first, except where TorchScript's interpreter fails, whose own first lines only say
    where. Behind it torch lists kernels, operators that are similar, or where its code failed.
    """
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    in_interpreter = _INTERPRETER in lines[0]
    errors = (line for line in lines[1:] if re.match(r"\w+(Error|Exception): ", line))
    line = next(errors, lines[0]) if in_interpreter else lines[0]
    return re.sub(r"^\[enforce fail at \S+\] \. ", "", line)[:MAX_REASON]
