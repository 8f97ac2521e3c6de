"""FIPS mode: OpenCV's wheel contains OpenSSL 1.1.1, which then ends the process at ``import cv2``.

https://github.com/opencv/opencv-python/issues/1191: its self-test calls abort(), so that no
exception can be caught. Nothing here imports OpenCV.
"""

import os
import re
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from app.errors import OperatorError

FIPS_FILE = Path("/proc/sys/crypto/fips_enabled")
FIPS_VARIABLE = "OPENSSL_FORCE_FIPS_MODE"
"""OpenSSL 1.1.1 of Red Hat, from which the wheel is built, reads both."""

TO_DO = (
    "use a machine without FIPS mode, or an OpenCV that is built from source: "
    "pip install --force-reinstall --no-binary opencv-python-headless opencv-python-headless"
)


def fips_source() -> str:
    """What turns FIPS mode on; empty if it is off."""
    if FIPS_VARIABLE in os.environ:
        return f"the environment variable {FIPS_VARIABLE}"
    try:
        return str(FIPS_FILE) if FIPS_FILE.read_text().startswith("1") else ""
    except OSError:
        return ""


def opencv_contains_openssl_1() -> bool:
    """Whether the installed OpenCV has an OpenSSL 1.1.1 of its own."""
    try:
        found = files("opencv-python-headless") or []
    except PackageNotFoundError:
        return False
    return any(re.fullmatch(r"libcrypto-.*\.so\.1\.1.*", file.name) for file in found)


def require_usable_opencv() -> None:
    """Find out whether OpenCV can be imported, before anything imports it.

    Raises:
        OperatorError: FIPS mode is on, and the import would end the process.
    """
    source = fips_source()
    if source and opencv_contains_openssl_1():
        raise OperatorError(
            f"FIPS mode is on ({source}), and OpenCV contains OpenSSL 1.1.1, which then ends "
            f"every process that imports it; {TO_DO}"
        )
