"""Loads a checkpoint's weights into a module and names every difference."""

import pickle
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError

KEYS = ("state_dict", "model", "model_state_dict", "module", "net", "weights")
"""Keys under which training code stores the weights, in search order."""

MAX_LISTED = 5
PREFIXES = ("module.", "_orig_mod.")
"""Added to every name by DataParallel and torch.compile."""


def load_checkpoint(model: torch.nn.Module, path: Path, key: str | None = None) -> None:
    """Load a checkpoint's weights; all names and shapes must match.

    Args:
        model: the eager module, changed in place.
        path: a file of ``torch.save``: a state_dict, or a dictionary that contains one.
        key: the key of the state_dict, ``a.b`` for nested ones; None to search for it.

    Raises:
        OperatorError: the file holds more than weights, no weights, or another model's.
    """
    state = read_checkpoint(path, key)
    expected = model.state_dict()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    if missing or unexpected:
        raise OperatorError(
            f"checkpoint {path} is not of this model: "
            + "; ".join(filter(None, (_join("missing", missing), _join("unexpected", unexpected))))
        )
    shapes = [
        f"{name} {tuple(state[name].shape)}, the model's is {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if state[name].shape != tensor.shape
    ]
    if shapes:
        raise OperatorError(
            f"checkpoint {path} has other shapes: {_join('', shapes).strip()}; "
            "is the number of labels right?"
        )
    model.load_state_dict(state)


def read_checkpoint(path: Path, key: str | None = None) -> dict[str, torch.Tensor]:
    """Read the state_dict of a checkpoint; see load_checkpoint.

    Raises:
        OperatorError: the file holds more than weights, or none.
    """
    return _strip_prefixes(_find_state(_read(path), key, path))


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as exc:
        raise OperatorError(f"checkpoint {path} cannot be read: {exc.strerror}") from exc
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as exc:
        raise OperatorError(
            f"checkpoint {path} holds more than weights, or none; a pickled module could run "
            "any code and is not loaded: save model.state_dict() instead"
        ) from exc


def _find_state(document: Any, key: str | None, path: Path) -> dict[str, torch.Tensor]:
    if key is not None:
        for part in key.split("."):
            document = document.get(part) if isinstance(document, dict) else None
    elif not _is_state(document) and isinstance(document, dict):
        document = next((document[k] for k in KEYS if _is_state(document.get(k))), None)
    if not _is_state(document):
        where = f"under the key {key!r}" if key else f"at the top or under {', '.join(KEYS)}"
        raise OperatorError(f"checkpoint {path} has no state_dict {where}; use --checkpoint-key")
    state: dict[str, torch.Tensor] = document
    return state


def _is_state(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and bool(document)
        and all(isinstance(value, torch.Tensor) for value in document.values())
    )


def _strip_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _join(what: str, names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{what} {', '.join(names[:MAX_LISTED])}{more}" if names else ""
