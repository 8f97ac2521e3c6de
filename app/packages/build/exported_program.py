"""A ``.pt2`` file of torch.export as the source of a package, without running code from it.

``torch.export.load`` must not be used on a file of somebody else: it falls back to pickle, loads
compiled libraries, evaluates expressions and generates Python code from names in the file. What
such a file says is simple, though: a list of calls of torch's own operators, in JSON, and raw
tensors. This module reads both and makes the calls. The operators are looked up by their names,
and nothing else of the file is looked at.
"""

import json
import operator
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError
from app.packages.torchscript_file import check_unpacked_size
from app.reporting.counts import pluralise

SCHEMA = 8
"""The version of the format, that of torch 2.13; a new one means an incompatible change."""

_ATEN = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
_ON_NUMBERS = {f"_operator.{name}": getattr(operator, name) for name in (
    "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge",
    "getitem",
)}  # fmt: skip
"""What a graph does with sizes, and with the results of an operator that returns several."""

_SIZE = "torch.ops.aten.sym_size.int"
"""Its result, and operators that take sizes, are computed by the functions of Python: tracing
records these, and would freeze what goes through torch.ops."""

_READS_FILES = {"from_file"}

_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    4: torch.preserve_format,
}
_LITERALS = ("as_int", "as_ints", "as_floats", "as_bool", "as_bools", "as_string")
_NUMBERS = ("as_sym_int", "as_sym_float", "as_sym_bool")
_LISTS = ("as_sym_ints", "as_sym_floats")
_KEYWORD = 2
"""The kind of an argument that is given by its name."""

_MODES = {"training", "train"}
"""Arguments of batch norm and of dropout."""

_TRAINING = "is a model in training mode: call model.eval() before torch.export.export"

_TENSOR_INPUTS = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}


class ExportedProgram(torch.nn.Module):
    """The graph of a ``.pt2`` file, computed call by call.

    Raises:
        OperatorError: the file holds something else than operators of torch and tensors, or is
            of another version.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        check_unpacked_size(path)
        try:
            with zipfile.ZipFile(path) as archive:
                self._read(_Archive(archive))
        except _Refused as exc:
            raise OperatorError(f"{path}: {exc}") from exc
        except Exception as exc:
            # A damaged file fails anywhere, with any exception.
            raise OperatorError(
                f"{path} is not a file of torch.export.save that can be read here: "
                f"{type(exc).__name__}"
            ) from exc

    def forward(self, images: torch.Tensor) -> Any:
        """Compute the graph; several outputs are a dict by name or by index.

        Raises:
            RuntimeError: an operator fails on the input.
        """
        values: dict[str, Any] = {**self._tensors, self._input: images}
        for call in self._calls:
            call(values)
        found = {key: values[name] for key, name in self._outputs.items()}
        return next(iter(found.values())) if len(found) == 1 else found

    def _read(self, archive: "_Archive") -> None:
        document = archive.read_json("models/model.json")
        if document["schema_version"]["major"] != SCHEMA:
            raise _Refused(
                f"has format {document['schema_version']['major']}, expected {SCHEMA}; save it "
                "with torch 2.13"
            )
        module = document["graph_module"]
        stored = {**archive.read_tensors("weights"), **archive.read_tensors("constants")}
        self._tensors: dict[str, torch.Tensor] = {}
        inputs = []
        for spec in module["signature"]["input_specs"]:
            kind, value = next(iter(spec.items()))
            if kind == "user_input":
                inputs.append(value["arg"]["as_tensor"]["name"])
            elif kind in _TENSOR_INPUTS:
                self._tensors[value["arg"]["name"]] = stored[value[_TENSOR_INPUTS[kind]]]
            else:
                raise _Refused(f"its graph needs a {kind}; expected an image and weights only")
        if len(inputs) != 1:
            raise _Refused(f"takes {pluralise(len(inputs), 'input')}, expected one image")
        self._input = inputs[0]
        self._calls = [_make_call(node) for node in module["graph"]["nodes"]]
        self._outputs = _name_outputs(module)


class _Refused(Exception):
    """The file holds something that is not read."""


class _Archive:
    """The zip file; its entries are in a folder of any name."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        names = archive.namelist()
        if any("/data/aotinductor/" in name for name in names):
            raise _Refused(
                "holds a compiled library, which is not run; save it with torch.export.save"
            )
        root = [name.removesuffix("models/model.json") for name in names if "/models/" in name]
        if len(root) != 1:
            raise _Refused("holds no model of torch.export.save, or one of an older torch")
        self._root = root[0]

    def read_json(self, name: str) -> Any:
        return json.loads(self._archive.read(self._root + name))

    def read_tensors(self, kind: str) -> dict[str, torch.Tensor]:
        """Read the tensors of ``weights`` or ``constants``, views of shared bytes included."""
        config = self.read_json(f"data/{kind}/model_{kind}_config.json")["config"]
        tensors = {}
        for name, entry in config.items():
            if entry["use_pickle"] or entry["tensor_meta"] is None:
                raise _Refused(f"{name} is pickled, which could run any code; export plain tensors")
            data = self._archive.read(f"{self._root}data/{kind}/{entry['path_name']}")
            tensors[name] = _to_tensor(data, entry["tensor_meta"])
        return tensors


def _to_tensor(data: bytes, meta: dict[str, Any]) -> torch.Tensor:
    dtype = _DTYPES[meta["dtype"]]
    size, stride = ([side["as_int"] for side in meta[key]] for key in ("sizes", "strides"))
    if 0 in size:
        return torch.zeros(size, dtype=dtype)
    flat = torch.frombuffer(bytearray(data), dtype=dtype)
    return flat.as_strided(size, stride, meta["storage_offset"]["as_int"]).clone()


def _make_call(node: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Return a function that computes a node from the values before it, and adds its own."""
    outputs = [_output_names(output) for output in node["outputs"]]
    arguments = node["inputs"]
    kinds = {next(iter(argument["arg"])) for argument in arguments}
    if unknown := kinds - _ARGUMENTS.keys():
        raise _Refused(f"gives {node['target'][:100]!r} an argument {min(unknown)[:50]!r}")
    if any(each["name"] in _MODES and each["arg"].get("as_bool") for each in arguments):
        raise _Refused(_TRAINING)
    function = _find_operator(node["target"], bool(kinds & {*_NUMBERS, *_LISTS}))
    positional = [each["arg"] for each in arguments if each.get("kind") != _KEYWORD]
    keywords = {each["name"]: each["arg"] for each in arguments if each.get("kind") == _KEYWORD}

    def call(values: dict[str, Any]) -> None:
        given = [_to_value(arg, values) for arg in positional]
        named = {name: _to_value(arg, values) for name, arg in keywords.items()}
        found = function(*given, **named)
        for name, value in zip(outputs, found if len(outputs) > 1 else [found], strict=True):
            if isinstance(name, list):
                values.update(zip(name, value, strict=True))
            else:
                values[name] = value

    return call


def _find_operator(target: str, takes_sizes: bool) -> Callable[..., Any]:
    if target in _ON_NUMBERS:
        function: Callable[..., Any] = _ON_NUMBERS[target]
        return function
    if target == _SIZE:
        return torch.Tensor.size
    matched = _ATEN.fullmatch(target)
    if matched is None or matched[1] in _READS_FILES:
        raise _Refused(
            f"needs the operator {target[:100]!r}, expected operators of torch.ops.aten only"
        )
    overload: Callable[..., Any] | None = getattr(
        getattr(torch.ops.aten, matched[1], None), matched[2], None
    )
    if not isinstance(overload, torch._ops.OpOverload):
        raise _Refused(f"needs the operator {target[:100]!r}, which this torch does not have")
    if takes_sizes:
        named: Callable[..., Any] = getattr(
            torch.Tensor, matched[1], getattr(torch, matched[1], overload)
        )
        return named
    return overload


def _output_names(output: dict[str, Any]) -> Any:
    kind, value = next(iter(output.items()))
    if kind == "as_tensors":
        return [each["name"] for each in value]
    if kind in {"as_tensor", *_NUMBERS}:
        return value.get("name", value.get("as_name"))
    if kind == "as_none":
        return None
    raise _Refused(f"has an operator that returns {kind}")


def _to_value(argument: dict[str, Any], values: dict[str, Any]) -> Any:
    kind, value = next(iter(argument.items()))
    return _ARGUMENTS[kind](value, values)


def _to_number_or_tensor(value: dict[str, Any], values: dict[str, Any]) -> Any:
    kind, inner = next(iter(value.items()))
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return values[inner["name"]]
    return values[inner] if kind == "as_name" else inner


def _each_number_or_tensor(value: list[dict[str, Any]], values: dict[str, Any]) -> list[Any]:
    return [_to_number_or_tensor(each, values) for each in value]


_ARGUMENTS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    **dict.fromkeys(_LITERALS, lambda value, _: value),
    "as_float": lambda value, _: float(value),  # "NaN" and "Infinity" are texts
    "as_none": lambda *_: None,
    "as_tensor": lambda value, values: values[value["name"]],
    "as_tensors": lambda value, values: [values[each["name"]] for each in value],
    **dict.fromkeys(("as_optional_tensor", *_NUMBERS), _to_number_or_tensor),
    **dict.fromkeys(("as_optional_tensors", *_LISTS), _each_number_or_tensor),
    "as_scalar_type": lambda value, _: _DTYPES[value],
    "as_memory_format": lambda value, _: _MEMORY_FORMATS[value],
    "as_layout": lambda *_: torch.strided,
    "as_device": lambda *_: torch.device("cpu"),
}
"""What an argument of each kind stands for, from its value and the values of the graph."""


def _name_outputs(module: dict[str, Any]) -> dict[str, str]:
    """The graph's name of each output by its key, or by its index where it has none."""
    specs = module["signature"]["output_specs"]
    if any("user_output" not in spec for spec in specs):
        raise _Refused(_TRAINING)
    names = [spec["user_output"]["arg"]["as_tensor"]["name"] for spec in specs]
    return dict(zip(_output_keys(module, len(names)), names, strict=True))


def _output_keys(module: dict[str, Any], count: int) -> list[str]:
    """The keys of a returned dict, or of an object that torch flattens like one."""
    signature = module["module_call_graph"][0]["signature"]
    context = json.loads(json.loads(signature["out_spec"])[1]["context"] or "null")
    if isinstance(context, list) and len(context) == count:
        return [str(key) for key in context]
    return [str(index) for index in range(count)]
