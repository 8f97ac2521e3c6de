"""Files that an option does not take, by their suffixes: what each is, and the way in."""

from pathlib import Path

from app.errors import OperatorError

_KERAS = "a Keras model: model.export('model.onnx', format='onnx') in Keras, then --onnx model.onnx"
_TENSORFLOW = (
    "a TensorFlow model: python -m tf2onnx.convert --{kind} {path} --output model.onnx, then "
    "--onnx model.onnx"
)
_PADDLE = (
    "a Paddle model: paddle2onnx --model_dir {folder} --model_filename {stem}.pdmodel "
    "--params_filename {stem}.pdiparams --save_file model.onnx, then --onnx model.onnx"
)
_CORE_ML = "a Core ML model, from which no tool leads back: give the model that it was made from"
_TENSORRT = "a TensorRT engine, made for one type of GPU: give the ONNX file that it was made from"
_OPENVINO = "an OpenVINO model, from which no tool leads back: give the model that it was made from"
_PICKLE = (
    "a pickle, which could run any code: save the weights alone (of fastai, learn.save('model', "
    "with_opt=False)), then --factory with --checkpoint"
)
_SAVED = "weights without their architecture: give it as --checkpoint with --torchvision or "
_STATE = _SAVED + "--factory, or its folder as --huggingface"

_OTHER_FRAMEWORKS = {
    ".h5": _KERAS,
    ".hdf5": _KERAS,
    ".keras": _KERAS,
    ".pb": _TENSORFLOW.replace("{kind} {path}", "saved-model {folder}"),
    ".tflite": _TENSORFLOW.replace("{kind}", "tflite"),
    ".pdmodel": _PADDLE,
    ".pdiparams": _PADDLE,
    ".pdparams": "Paddle's weights without their architecture: paddle.jit.save writes .pdmodel",
    ".mlmodel": _CORE_ML,
    ".mlpackage": _CORE_ML,
    ".engine": _TENSORRT,
    ".plan": _TENSORRT,
    ".trt": _TENSORRT,
    ".xml": _OPENVINO,
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".joblib": "a pickle, which could run any code: convert it with skl2onnx, then --onnx",
}
_OTHER_OPTIONS = {
    ".onnx": ("--onnx", "an ONNX model: give it as --onnx, or as --ultralytics if yolo wrote it"),
    ".pt2": ("--pt2", "a model of torch.export: give it as --pt2"),
    ".torchscript": ("--ultralytics", "an export of Ultralytics: give it as --ultralytics"),
    ".safetensors": ("--checkpoint", _STATE),
    ".ckpt": ("--checkpoint", _STATE),
}


def refuse_other_format(path: Path, option: str, *accepted: str) -> None:
    """Refuse a file that its suffix says an option cannot read, and say how it gets in.

    Args:
        path: the file, or a folder that counts as one.
        option: that it was given as.
        accepted: suffixes that the option takes although another option is meant for them.

    Raises:
        OperatorError: it is the file of another framework, or for another option.
    """
    suffix = path.suffix.lower()
    meant_for, what = _OTHER_OPTIONS.get(suffix, ("", _OTHER_FRAMEWORKS.get(suffix, "")))
    if what and meant_for != option and suffix not in accepted:
        way = what.format(path=path, folder=path.parent, stem=path.stem)
        raise OperatorError(f"{option} {path} is {way}")
    if path.is_dir():
        raise OperatorError(f"{option} {path} is a folder, expected a file")
