"""An ONNX file as the source of a package."""

import math
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError, PackageError
from app.packages.manifest import InputDtype, InputSpec, Layout
from app.packages.onnx_file import (
    check_onnx,
    external_tensors,
    import_onnx,
    model_inputs,
    parse_onnx,
)
from app.packages.onnx_runtime import OnnxRuntimeError, OnnxSession

_IMAGE, _PAIR = "classifyd_image", "classifyd_scores"
"""Names of an input and an output that are added to a graph."""


class OnnxModule(torch.nn.Module):
    """An ONNX file in the place of an eager module; ONNX Runtime computes it, not optimised.

    Args:
        path: the file; weights in files beside it are merged.
        layout: ``NCHW`` or ``NHWC``; None to tell it from the shape.

    Raises:
        PackageError: see read_onnx; or the weights are outside the file's folder.
    """

    def __init__(self, path: Path, layout: str | None = None) -> None:
        super().__init__()
        self._path = path
        self._layout = layout
        self._model, self._raw = _read_complete(path)
        self._spec: InputSpec | None = None
        self._output: str | None = None
        self._session: OnnxSession | None = None
        if _unwrap_maps(self._model):
            self._changed()

    def fit_input(self, height: int, width: int, channels: int) -> dict[str, Any]:
        """Match the model's input with what the preprocessing makes.

        A flat input, (N, height x width x channels), gets a node that flattens an image.

        Returns:
            The manifest's values for ``layout``, ``dtype`` and ``batch``.

        Raises:
            OperatorError: they do not fit, or the layout is ambiguous.
        """
        onnx = import_onnx()
        value = model_inputs(self._model)[0]
        tensor = value.type.tensor_type
        types = onnx.TensorProto
        dtypes: dict[int, InputDtype] = {
            types.FLOAT: "float32",
            types.FLOAT16: "float16",
            types.UINT8: "uint8",
        }
        dtype = dtypes.get(tensor.elem_type)
        if dtype is None:
            raise OperatorError(
                f"{self._path}: the input {value.name} is {_type_name(tensor.elem_type)}, expected "
                "float32, float16 or uint8"
            )
        shape = [dim.dim_value or None for dim in tensor.shape.dim]
        layout = self._find_layout(shape, height, width, channels)
        sides = [channels, height, width] if layout == "NCHW" else [height, width, channels]
        if len(shape) == 2:
            self._prepend_flatten(value, sides)
        batch = {"batch": 1} if shape[:1] == [1] else {}
        self._spec = InputSpec(height, width, channels, layout, dtype, batch.get("batch"))
        return {"layout": layout, "dtype": dtype, **batch}

    @property
    def outputs(self) -> dict[str, str]:
        """The type and shape of each output, such as ``float (?, 1000)``, by its name."""
        return {value.name: _describe(value) for value in self._model.graph.output}

    def select_output(self, name: str) -> None:
        """Choose an output by its name, a key of ``outputs``.

        Raises:
            OperatorError: it holds no decimal numbers.
        """
        types = import_onnx().TensorProto
        outputs = self._model.graph.output
        kinds = {value.name: value.type.tensor_type.elem_type for value in outputs}
        if kinds[name] not in (types.FLOAT, types.FLOAT16, types.DOUBLE, types.BFLOAT16):
            shown = ", ".join(map(" ".join, self.outputs.items()))
            raise OperatorError(
                f"the output {name} is {self.outputs[name]}, expected an array of decimal "
                f"numbers: {shown}"
            )
        self._output = name if len(outputs) > 1 else None

    def with_second_class(self, kind: str, positive: int) -> "OnnxModule":
        """Add the second class of a binary model to the graph; see TwoClasses."""
        onnx = import_onnx()
        helper = onnx.helper
        graph = self._model.graph
        name = self._output or graph.output[0].name
        logits = kind == "logits"
        new = [f"{_PAIR}_{part}" for part in ("shape", "one", "float", "positive", "negative")]
        shape, one, float_, positive_, negative = new
        pair = [negative, positive_] if positive == 1 else [positive_, negative]
        graph.initializer.extend(
            [
                onnx.numpy_helper.from_array(_array([-1, 1], "int64"), shape),
                onnx.numpy_helper.from_array(_array([[1]], "float32"), one),
            ]
        )
        graph.node.extend(
            [
                helper.make_node("Cast", [name], [float_], to=onnx.TensorProto.FLOAT),
                helper.make_node("Reshape", [float_, shape], [positive_]),
                helper.make_node("Sub", [positive_ if logits else one, positive_], [negative]),
                helper.make_node("Concat", pair, [_PAIR], axis=1),
            ]
        )
        del graph.output[:]
        value = helper.make_tensor_value_info(_PAIR, onnx.TensorProto.FLOAT, [None, 2])
        graph.output.append(value)
        self._output = None
        self._changed()
        return self

    @property
    def output_name(self) -> str | None:
        """The name of the chosen output, if the model has several."""
        return self._output

    def save(self, path: Path) -> None:
        """Write the model as one file, with the bytes of the source where nothing was changed."""
        path.write_bytes(self._raw)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute float32 (N, C, H, W).

        Raises:
            OperatorError: ONNX Runtime cannot run the model.
        """
        assert self._spec is not None  # noqa: S101 - the builder calls fit_input first
        try:
            if self._session is None:
                self._session = OnnxSession(self._raw, self._spec, self._output, optimise=False)
            return torch.from_numpy(self._session.run(images.numpy()))
        except OnnxRuntimeError as exc:
            raise OperatorError(f"{self._path}: {exc}") from exc

    def _find_layout(
        self, shape: list[int | None], height: int, width: int, channels: int
    ) -> Layout:
        if len(shape) not in (2, 4) or shape[0] not in (None, 1):
            raise OperatorError(
                f"{self._path}: the input has the shape {_shape_text(shape)}, expected four "
                "dimensions, of which the first is the batch: 1 or dynamic"
            )
        sides: dict[Layout, list[int]] = {
            "NCHW": [channels, height, width],
            "NHWC": [height, width, channels],
        }
        if len(shape) == 2:
            sides = {layout: [math.prod(each)] for layout, each in sides.items()}
        fitting = [
            layout
            for layout, wanted in sides.items()
            if all(side in (None, want) for side, want in zip(shape[1:], wanted, strict=True))
            and self._layout in (None, layout)
        ]
        if not fitting:
            made = " or ".join(f"{_shape_text([None, *sides[each]])} ({each})" for each in sides)
            raise OperatorError(
                f"{self._path}: the model takes {_shape_text(shape)}"
                f"{f', with --layout {self._layout}' if self._layout else ''}; the preprocessing "
                f"makes {made}"
            )
        if len(fitting) > 1 and channels > 1:
            raise OperatorError(
                f"{self._path}: the input's shape {_shape_text(shape)} does not tell the order of "
                "the pixels: give --layout NCHW (torch, Paddle) or --layout NHWC (Keras, "
                "TensorFlow, an image as numpy flattens it)"
            )
        return fitting[0]

    def _prepend_flatten(self, value: Any, sides: list[int]) -> None:
        onnx = import_onnx()
        graph = self._model.graph
        tensor = value.type.tensor_type
        first = tensor.shape.dim[0]
        batch = first.dim_value or first.dim_param or "N"
        image = onnx.helper.make_tensor_value_info(_IMAGE, tensor.elem_type, [batch, *sides])
        graph.node.insert(0, onnx.helper.make_node("Flatten", [_IMAGE], [value.name], axis=1))
        graph.input.remove(value)
        graph.input.append(image)
        self._changed()

    def _changed(self) -> None:
        self._raw = self._model.SerializeToString(deterministic=True)
        self._session = None


def _read_complete(path: Path) -> tuple[Any, bytes]:
    """Read an ONNX file and merge weights that are in other files of its folder."""
    model, raw = parse_onnx(path)
    external = external_tensors(model)
    for tensor in external:
        _check_location(path, tensor)
    if external:
        onnx = import_onnx()
        try:
            for tensor in external:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            raw = model.SerializeToString(deterministic=True)
        except Exception as exc:
            # onnx and protobuf have several exceptions for wrong offsets and for 2 GiB and more.
            raise PackageError(
                path, "its weights in other files cannot be merged; at most 2 GiB are possible"
            ) from exc
    check_onnx(model, path)
    return model, raw


def _unwrap_maps(model: Any) -> bool:
    """Turn outputs that scikit-learn's exporter wraps into maps of label and score into arrays."""
    onnx = import_onnx()
    values = {value.name: value for value in model.graph.output}
    maps = [node for node in model.graph.node if node.op_type == "ZipMap"]
    for node in maps:
        node.CopyFrom(onnx.helper.make_node("Identity", [node.input[0]], [node.output[0]]))
        if node.output[0] in values:
            values[node.output[0]].CopyFrom(
                onnx.helper.make_tensor_value_info(
                    node.output[0], onnx.TensorProto.FLOAT, [None, None]
                )
            )
    return bool(maps)


def _check_location(path: Path, tensor: Any) -> None:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = path.parent.resolve()
    target = (folder / location).resolve()
    if not target.is_relative_to(folder):
        raise PackageError(path, f"its weights are in {location[:100]!r}, outside its folder")
    if not target.is_file():
        raise PackageError(
            path, f"its weights are in {location[:100]!r}, which is missing; copy both files"
        )


def _array(values: Any, dtype: str) -> Any:
    return torch.tensor(values, dtype=getattr(torch, dtype)).numpy()


def _describe(value: Any) -> str:
    """A value's type and shape, such as ``float (N, 1000)``."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return f"({str(kind).removesuffix('_type')})"
    tensor = value.type.tensor_type
    shape = [dim.dim_value or None for dim in tensor.shape.dim]
    return f"{_type_name(tensor.elem_type)} {_shape_text(shape)}"


def _type_name(elem_type: int) -> str:
    return str(import_onnx().TensorProto.DataType.Name(elem_type)).lower()


def _shape_text(shape: list[int | None]) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"
