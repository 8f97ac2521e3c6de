"""An ONNX file before a runtime reads it: data only, complete in itself, of known operators.

It uses the library ``onnx``, of the optional extra of that name, imported on first use.
"""

import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.errors import PackageError
from app.system.files import open_regular

MAX_BYTES = 2**31 - 1
"""Limit of a protobuf message, and of one call of the cipher that seals a model."""

_RUNTIME_DOMAINS = {"com.microsoft"}
"""Domains whose operators are part of ONNX Runtime, though not of the standard."""

_STANDARD_DOMAINS = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}


def import_onnx(name: str | Path = "an ONNX model") -> Any:
    """Import the library ``onnx``.

    Raises:
        PackageError: it is not installed; the text names the model.
    """
    if find_spec("onnx") is None:
        raise PackageError(name, "an ONNX model needs the extra: pip install 'classifyd[onnx]'")
    import onnx

    return onnx


def read_onnx(source: Path | io.BytesIO) -> tuple[Any, bytes]:
    """Read an ONNX file, and check that it cannot make a runtime load anything else.

    Returns:
        The ``onnx.ModelProto``, and the bytes of the file. A runtime should be given these
        bytes, which were checked, and not the path.

    Raises:
        PackageError: it is too large, no ONNX file, names other files, has a custom operator,
            or does not take exactly one array.
    """
    model, raw = parse_onnx(source)
    check_onnx(model, _name(source))
    return model, raw


def check_onnx(model: Any, name: str | Path) -> None:
    """Check a parsed ONNX file; see read_onnx."""
    if external_tensors(model):
        raise PackageError(
            name,
            "the weights are in another file; classifyd package build --onnx merges both into one",
        )
    _check_operators(model, name)
    if len(inputs := model_inputs(model)) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise PackageError(name, f"expected a model with one input, found {names}")


def parse_onnx(source: Path | io.BytesIO) -> tuple[Any, bytes]:
    """Parse an ONNX file without checking what is in it; see read_onnx."""
    name = _name(source)
    onnx = import_onnx(name)
    try:
        raw = _read(source)
        if len(raw) > MAX_BYTES:
            raise PackageError(name, f"found more than {MAX_BYTES} bytes, the limit of ONNX")
        model = onnx.load_model_from_string(raw)
    except OSError as exc:
        raise PackageError(name, f"cannot be read: {exc.strerror}") from exc
    except Exception as exc:
        if isinstance(exc, PackageError):
            raise
        # protobuf and onnx have several exceptions for what they cannot parse.
        raise PackageError(name, "expected an ONNX file, found something else") from exc
    if not model.graph.output or not model.opset_import:
        # Protobuf accepts many files that are no ONNX model, an empty one included.
        raise PackageError(name, "expected an ONNX file, found something else")
    return model, raw


def model_inputs(model: Any) -> list[Any]:
    """List the inputs without the weights, which old files list too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _check_operators(model: Any, name: str | Path) -> None:
    """Refuse operators that neither the standard nor the file itself defines.

    A custom operator is code in a library that is not part of the file.
    """
    onnx = import_onnx(name)
    own = {(function.domain, function.name) for function in model.functions}
    unknown = set()
    for node in _nodes(model):
        standard = _STANDARD_DOMAINS.get(node.domain)
        is_standard = standard is not None and onnx.defs.has(node.op_type, standard)
        is_defined = node.domain in _RUNTIME_DOMAINS or (node.domain, node.op_type) in own
        if not is_standard and not is_defined:
            unknown.add(f"{node.domain}::{node.op_type}".removeprefix("::")[:100])
    if unknown:
        names = ", ".join(sorted(unknown)[:5])
        raise PackageError(
            name,
            f"the model needs custom operators ({names}), whose code would have to be loaded from "
            "elsewhere and never is; export it with standard operators",
        )


def external_tensors(model: Any) -> list[Any]:
    """List the tensors whose bytes are in another file."""
    external = import_onnx().TensorProto.EXTERNAL
    return [tensor for tensor in _tensors(model) if tensor.data_location == external]


def _tensors(model: Any) -> Iterator[Any]:
    attributes = [attribute for node in _nodes(model) for attribute in node.attribute]
    sparse = [attribute.sparse_tensor for attribute in attributes]
    for graph in _graphs(model):
        yield from graph.initializer
        sparse += graph.sparse_initializer
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        sparse += attribute.sparse_tensors
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _nodes(model: Any) -> Iterator[Any]:
    """Yield the nodes of the graph, of its inner graphs and of the file's own functions."""
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _graphs(model: Any) -> Iterator[Any]:
    open_graphs = [model.graph]
    for function in model.functions:
        open_graphs += _inner_graphs(function.node)
    while open_graphs:
        graph = open_graphs.pop()
        yield graph
        open_graphs += _inner_graphs(graph.node)


def _inner_graphs(nodes: Any) -> list[Any]:
    attributes = [attribute for node in nodes for attribute in node.attribute]
    inner = [attribute.g for attribute in attributes if attribute.HasField("g")]
    return inner + [graph for attribute in attributes for graph in attribute.graphs]


def _read(source: Path | io.BytesIO) -> bytes:
    if isinstance(source, io.BytesIO):
        return source.getvalue()
    with open_regular(source) as stream:
        return stream.read(MAX_BYTES + 1)


def _name(source: Path | io.BytesIO) -> str | Path:
    return source if isinstance(source, Path) else "a sealed model"
