"""Tells whether the installed torch is the CUDA build, gigabytes that a CPU never uses.

``python -m app.system.cuda_build`` prints a notice for ``make install``.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_CUDA_ONLY = re.compile(r"(nvidia|cuda|triton)\b")
"""Names of what only the CUDA build of torch requires: CUDA's libraries and its compiler."""

_NOTICE = """\
torch is the CUDA build: {size_mb} MB here, 0.8 GB as the CPU build; this machine has no NVIDIA GPU.
For the CPU build: make clean, then make run PIP_ARGS="--extra-index-url URL" with an index of CPU
wheels, or make run WHEELS=FOLDER
"""


def cuda_build_mb() -> int:
    """Size of the CUDA build of torch with the libraries that only it requires; 0 for another."""
    try:
        torch = distribution("torch")
    except PackageNotFoundError:
        return 0
    libraries = {each.metadata["Name"]: each for each in _cuda_libraries(torch)}
    if not libraries:
        return 0
    return sum(map(_size_bytes, [torch, *libraries.values()])) // 2**20


def has_gpu() -> bool:
    """Whether the NVIDIA driver has created a device for a GPU."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _cuda_libraries(parent: Distribution) -> Iterator[Distribution]:
    for requirement in parent.requires or []:
        name = re.split(r"[^\w.-]", requirement)[0]
        if not _CUDA_ONLY.match(name):
            continue
        try:
            library = distribution(name)
        except PackageNotFoundError:
            continue
        yield library
        yield from _cuda_libraries(library)


def _size_bytes(library: Distribution) -> int:
    return sum(file.size or 0 for file in library.files or [])


def main() -> None:
    """Print what the CUDA build costs on a machine without a GPU, and how to avoid it."""
    size_mb = cuda_build_mb()
    if size_mb and not has_gpu():
        sys.stderr.write(_NOTICE.format(size_mb=size_mb))


if __name__ == "__main__":
    main()
