"""The device on which a worker's models run."""

from app.errors import SettingsError


def resolve_device(device: str, slot: int, cuda_count: int) -> str:
    """Resolve ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` to ``cpu`` or ``cuda:N`` for one worker.

    Workers are spread over the GPUs by slot, from 0. A replacement inherits the slot, so
    restarts keep the distribution even.

    Raises:
        SettingsError: CUDA was requested and is unavailable; there is no fallback to the CPU.
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
