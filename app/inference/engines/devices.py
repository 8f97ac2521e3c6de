"""Which device a worker's model runs on."""

from app.errors import SettingsError


def resolve_device(device: str, slot: int, cuda_count: int) -> str:
    """Turn the ``device`` setting into ``cpu`` or ``cuda:N`` for one worker.

    Workers are spread over the cards by their slot, which a replacement inherits, so that
    a card never loses its workers to another one when some of them are restarted.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        slot: the worker's place, from 0, the same for its replacement.
        cuda_count: how many CUDA devices are usable.

    Raises:
        SettingsError: CUDA was asked for and is not there. It is never a silent CPU.
    """
    if device == "cpu" or (device == "auto" and cuda_count == 0):
        return "cpu"
    if cuda_count == 0:
        raise SettingsError(
            f"setting device = {device!r}: no usable CUDA device was found; "
            "check the driver with nvidia-smi and that torch is a CUDA build, or set device = cpu"
        )
    if device in {"auto", "cuda"}:
        return f"cuda:{slot % cuda_count}"
    if int(device.removeprefix("cuda:")) >= cuda_count:
        raise SettingsError(
            f"setting device = {device!r}: expected cuda:0 to cuda:{cuda_count - 1}"
        )
    return device
