"""The documented error codes, one class each.

The table in the wire contract is written here once: the registry is built from the
subclasses, and the handlers in ``app.api.errors`` turn any of them into an answer.
"""

from pathlib import Path
from typing import ClassVar


class ApiError(Exception):
    """A failure that has a documented code.

    Args:
        detail: what exactly was wrong, in ASCII English, for the log and the
            ``X-Error-Detail`` header. It never holds image data, a secret or the text of
            a foreign exception.
    """

    error_code: ClassVar[int]
    error_msg: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InternalError(ApiError):
    """An unexpected failure; the traceback is in the log under the answer's log_id."""

    error_code = 336000
    error_msg = "Internal error"
    status = 500


class InvalidArgument(ApiError):
    """A parameter of the wrong type or value, or a form in place of JSON."""

    error_code = 336001
    error_msg = "Invalid Argument"
    status = 400


class InvalidDeployName(InvalidArgument):
    """No model is deployed under the name in the path."""

    status = 404


class InvalidJson(ApiError):
    """The body is not JSON."""

    error_code = 336002
    error_msg = "JSON不合法"
    status = 400


class InvalidBase64(ApiError):
    """The image is not plain base64."""

    error_code = 336003
    error_msg = "Base64解码失败"
    status = 400


class InvalidImageSize(ApiError):
    """More than 4 MiB of base64, or a side outside 15 to 4096 px."""

    error_code = 336004
    error_msg = "输入文件大小不合法"
    status = 413


class ImageDecodeFailed(ApiError):
    """Not a complete jpg, png or bmp."""

    error_code = 336005
    error_msg = "图片解码失败"
    status = 415


class MissingParameter(ApiError):
    """A required parameter is absent."""

    error_code = 336006
    error_msg = "缺失必要参数"
    status = 400


class ModelUnavailable(ApiError):
    """Loading, overloaded, past the deadline, or shutting down.

    Args:
        detail: see ApiError.
        retry_after_s: seconds after which the client may try again.
    """

    error_code = 336100
    error_msg = "model temporarily unavailable"
    status = 503

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class AuthFailed(ApiError):
    """The licence does not cover this request, or it carries no valid access token."""

    error_code = 337000
    error_msg = "Auth check failed"
    status = 403


REGISTRY: dict[int, type[ApiError]] = {leaf.error_code: leaf for leaf in ApiError.__subclasses__()}
"""Every documented code and its class."""


class OperatorError(Exception):
    """A failure that the operator can fix.

    Its text says what was wrong, where, and what to do next, in one or two lines; the
    command line prints it without a traceback and exits with a non-zero status.
    """


class SettingsError(OperatorError):
    """A setting has an unknown key or a wrong value."""


class FailedError(OperatorError):
    """A command did its work, and some of what it handled or checked failed."""


class UnreachableError(OperatorError):
    """No server answers where a command looked for one."""


class PackageError(OperatorError):
    """A model package is incomplete, inconsistent or unreadable.

    Args:
        file: the file at fault, relative to the weights folder or absolute.
        problem: what was found and what was expected.
        field: the field in the file, such as ``output.classes``; empty for the whole file.
    """

    def __init__(self, file: str | Path, problem: str, *, field: str = "") -> None:
        super().__init__(f"{file}: {field}: {problem}" if field else f"{file}: {problem}")
        self.file = str(file)
        self.problem = problem
        self.field = field


class TamperedPackage(PackageError):
    """A sealed package was changed after its publisher had signed it: 337000."""


class LockedPackage(PackageError):
    """A sealed package for which this machine has no valid licence: 337000."""


class LicenceError(OperatorError):
    """A licence, a fingerprint or a key cannot be read, made or written."""
