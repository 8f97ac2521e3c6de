"""Loads a checkpoint's weights into a module and names every difference.

Training code stores weights in many ways: under a key beside the optimizer's state, under the
prefixes of wrappers such as DistributedDataParallel, or twice, as averaged weights too. The
module's own names find them.
"""

import argparse
import logging
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.errors import OperatorError
from app.packages.build.foreign import import_extra
from app.packages.build.formats import refuse_other_format
from app.reporting.counts import pluralise

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]
Names = dict[str, str]
"""Full names by names without the parts of wrappers."""

KEYS = ("state_dict", "model", "model_state_dict", "module", "net", "weights")
"""Keys under which training code stores the weights; the first that fits is taken."""

PREFIXES = frozenset({"module", "_orig_mod", "model", "net", "backbone"})
"""Of DistributedDataParallel, torch.compile and the usual attributes of a training module."""

MAX_DEPTH = 3
MAX_LISTED = 5

_REFUSED_TYPE = r"(?:GLOBAL |but got <class ')([\w.]+)"

_NOT_NEEDED = "num_batches_tracked"
"""Checkpoints before torch 0.4.1 lack it, and evaluation does not read it."""

_AVERAGED = "n_averaged"
"""A counter that torch.optim.swa_utils.AveragedModel stores beside its weights."""


class _Inert:
    """What a pickled list of fastcore becomes, in the optimizer's state that fastai saves."""


_SAFE_TYPES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?U"),
    np._core.multiarray.scalar,  # type: ignore[attr-defined]  # what pickles of scalars call
    (_Inert, "fastcore.foundation.L"),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
]
"""Types beside weights that can run no code; NumPy's scalars have two names."""


@dataclass(frozen=True)
class Match:
    """What a stored state has for a module.

    Attributes:
        key: where it is in the checkpoint, ``a.b`` for nested keys, empty at the top.
        prefix: what stands before the module's names there.
        state: its tensors by the module's names.
        missing: names of the module that it lacks.
        unexpected: its names that belong to the module's parts, but not to the module.
        ignored: its other names, such as a loss's.
        others: prefixes under which it has the module's weights too.
        ambiguous: whether the user must say which of them are meant.
    """

    key: str
    prefix: str
    state: State
    missing: list[str]
    unexpected: list[str]
    ignored: list[str]
    others: list[str]
    ambiguous: bool


def load_checkpoint(
    model: torch.nn.Module, path: Path, key: str | None = None, prefix: str | None = None
) -> None:
    """Load a checkpoint's weights; all names and shapes must match.

    What was ignored, converted, or left for another choice is logged as a warning.

    Args:
        model: the eager module, changed in place.
        path: a file of ``torch.save`` or safetensors: a state_dict, or a dictionary that
            contains one.
        key: the key of the state_dict, ``a.b`` for nested ones; None to search for it.
        prefix: what stands before the module's names; None to search for it.

    Raises:
        OperatorError: the file holds more than weights, no weights, or another model's.
    """
    expected = model.state_dict()
    match, alternatives = _find(list(expected), path, key, prefix)
    shapes = [
        f"{name} {tuple(tensor.shape)}, the model's is {tuple(expected[name].shape)}"
        for name, tensor in match.state.items()
        if tensor.shape != expected[name].shape
    ]
    if shapes:
        raise OperatorError(
            f"checkpoint {path} has other shapes: {_join('', shapes).strip()}; "
            "is the number of labels right?"
        )
    for note in _notes(match, alternatives):
        logger.warning("checkpoint %s: %s", path, note)
    model.load_state_dict(match.state, strict=False)


def read_checkpoint(model: torch.nn.Module, path: Path, key: str | None = None) -> State:
    """Read the weights of a checkpoint by the module's names, of any shape; see load_checkpoint.

    Raises:
        OperatorError: as there, but not for a shape.
    """
    return _find(list(model.state_dict()), path, key, None)[0].state


def _find(
    names: Sequence[str], path: Path, key: str | None, prefix: str | None
) -> tuple[Match, list[str]]:
    """Find the stored state that fits, and the keys of those that would fit too."""
    states = _stored_states(_read(path), key, path)
    matches = [_match(names, *state, prefix) for state in states]
    fitting = [match for match in matches if not match.missing and not match.unexpected]
    if not fitting:
        best = min(matches, key=lambda match: len(match.missing) + len(match.unexpected))
        where = f" (under {best.key})" if best.key else ""
        what = (_join("missing", best.missing), _join("unexpected", best.unexpected))
        raise OperatorError(
            f"checkpoint {path} is not of this model{where}: " + "; ".join(filter(None, what))
        )
    match = fitting[0]
    if match.ambiguous:
        prefixes = ", ".join(repr(prefix) for prefix in (match.prefix, *match.others))
        raise OperatorError(
            f"checkpoint {path} has the weights of this model several times, under the prefixes "
            f"{prefixes}: choose one with --checkpoint-prefix"
        )
    return match, [other.key for other in fitting[1:]]


def _notes(match: Match, alternatives: list[str]) -> Iterator[str]:
    averaged = any(_AVERAGED in name for name in match.ignored)
    ignored = [name for name in match.ignored if _AVERAGED not in name]
    what = "the averaged weights" if averaged or "ema" in match.key.lower() else "the weights"
    if alternatives:
        keys, where = ", ".join(alternatives), match.key or "the top level"
        yield f"took {what} under {where}; others are under {keys} (--checkpoint-key)"
    if match.others:
        others = ", ".join(repr(prefix) for prefix in match.others)
        yield (
            f"took the weights with the prefix {match.prefix!r}; others have {others} "
            "(--checkpoint-prefix)"
        )
    elif not alternatives and what != "the weights":
        yield f"took {what}{f' under {match.key}' if match.key else ''}; it has no others"
    if ignored:
        listed = _join("", ignored).strip()
        yield f"ignored {pluralise(len(ignored), 'tensor')} that the model lacks: {listed}"
    halves = {
        str(tensor.dtype).removeprefix("torch.")
        for tensor in match.state.values()
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4
    }
    if halves:
        yield f"converted {' and '.join(sorted(halves))} to float32"


def _read(path: Path) -> Any:
    refuse_other_format(path, "--checkpoint")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals(_SAFE_TYPES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as exc:
        raise OperatorError(f"checkpoint {path} cannot be read: {exc.strerror}") from exc
    except Exception as exc:
        # Besides UnpicklingError and RuntimeError, a damaged pickle raises almost anything.
        raise OperatorError(f"checkpoint {path} {_why_unreadable(path, exc)}") from exc


def _read_safetensors(path: Path) -> State:
    safetensors = import_extra("safetensors.torch", "a safetensors file")
    try:
        state: State = safetensors.load_file(path)
    except Exception as exc:
        # SafetensorError, and OSError of an empty file.
        raise OperatorError(f"checkpoint {path} is not a whole safetensors file: {exc}") from exc
    return state


def _why_unreadable(path: Path, exc: Exception) -> str:
    if is_torchscript(path):
        return "is a TorchScript file, which contains its model: give it as --torchscript"
    types = foreign_types(path) or re.findall(_REFUSED_TYPE, str(exc))
    if any(name.startswith("ultralytics.") for name in types):
        return f"is a pickle of Ultralytics: {ultralytics_export(path)}"
    if types:
        return (
            f"holds more than weights: {_join('', types).strip()}. To unpickle them could run any "
            "code, so it is not loaded: save model.state_dict() alone"
        )
    return "is not a file of torch.save, or is damaged"


def foreign_types(path: Path) -> list[str]:
    """Name the types in a checkpoint that are not weights, without loading any; best effort."""
    try:
        with torch.serialization.safe_globals(_SAFE_TYPES):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        return []  # the file is not a zip archive of torch.save


def ultralytics_export(path: Path) -> str:
    """The command that exports a pickled model of Ultralytics, and how to go on."""
    exported = path.with_suffix(".torchscript")
    return f"run yolo export model={path} format=torchscript, then give --ultralytics {exported}"


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is an archive of torch.jit.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _stored_states(document: Any, key: str | None, path: Path) -> list[tuple[str, State]]:
    """The states of a checkpoint with their keys, those of KEYS first."""
    states = dict(_walk(document, ()))
    if key is not None:
        states = {key: states[key]} if key in states else {}
    if not states:
        where = f"under the key {key!r}" if key else "in any dictionary"
        found = ", ".join(name for name, _ in _walk(document, ()) if name)
        raise OperatorError(
            f"checkpoint {path} has no state_dict {where}"
            + (f"; --checkpoint-key may be {found}" if found else "")
        )
    rank = {name: index for index, name in enumerate(("", *KEYS))}
    return sorted(states.items(), key=lambda state: rank.get(state[0], len(rank)))


def _walk(document: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, State]]:
    if not isinstance(document, Mapping) or len(keys) > MAX_DEPTH:
        return
    entries = {key: value for key, value in document.items() if isinstance(key, str)}
    state = {key: value for key, value in entries.items() if isinstance(value, torch.Tensor)}
    if state:
        yield ".".join(keys), state
    for key, value in entries.items():
        yield from _walk(value, (*keys, key))


def _match(names: Sequence[str], key: str, state: State, prefix: str | None) -> Match:
    expected, stored = _without_wrappers(names, list(state))
    needed = [name for name in expected if not name.endswith(_NOT_NEEDED)]
    counts = _count_prefixes(expected, stored)
    fitting = [p for p in counts if all(p + name in stored for name in needed)]
    usual = [p for p in fitting if PREFIXES.issuperset(p.split(".")[:-1])]
    best = max(counts, key=lambda p: (counts[p], -len(p)), default="")
    chosen = prefix if prefix is not None else next(iter([*usual, *fitting]), best)
    chosen = f"{chosen.rstrip('.')}." if chosen else ""
    inside = {name.removeprefix(chosen): name for name in stored if name.startswith(chosen)}
    missing = [name for name in needed if name not in inside]
    parts = {name.split(".")[0] for name in expected}
    unexpected = [
        name
        for name in inside
        # Another layer of a part, or of a Sequential, changes what the model computes.
        if name not in expected
        and (missing or name.split(".")[0] in parts or name.split(".")[0].isdecimal())
    ]
    others = [] if prefix is not None else [p for p in fitting if p != chosen]
    known = {p + name for p in (chosen, *others) for name in (*expected, *unexpected)}
    return Match(
        key=key,
        prefix=chosen,
        state={expected[n]: state[stored[inside[n]]] for n in expected if n in inside},
        missing=[expected[name] for name in missing],
        unexpected=unexpected,
        ignored=[stored[name] for name in stored if name not in known],
        others=others,
        ambiguous=bool(others) and len(usual) != 1,
    )


def _without_wrappers(names: Sequence[str], stored: Sequence[str]) -> tuple[Names, Names]:
    """Leave out the parts of names that wrappers add anywhere in the module; keep the names."""
    dropped = {"_orig_mod"}
    if not any("module" in name.split(".") for name in names):
        dropped.add("module")
    plain = {_drop(name, dropped): name for name in stored}
    if len(plain) < len(stored):
        return {name: name for name in names}, {name: name for name in stored}
    return {_drop(name, dropped): name for name in names}, plain


def _drop(name: str, dropped: set[str]) -> str:
    return ".".join(part for part in name.split(".") if part not in dropped)


def _count_prefixes(expected: Names, stored: Names) -> "Counter[str]":
    """How many of the stored names with a prefix are names of the module."""
    counts: Counter[str] = Counter()
    for name in stored:
        parts = name.split(".")
        for index in range(len(parts)):
            if ".".join(parts[index:]) in expected:
                counts["".join(f"{part}." for part in parts[:index])] += 1
    return counts


def _join(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{what} {', '.join(names[:MAX_LISTED])}{more}" if names else ""
