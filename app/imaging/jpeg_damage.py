"""Damage in the coded data of a JPEG file, which OpenCV decodes without an error.

simplejpeg is the same libjpeg-turbo as in OpenCV's wheel, but reports libjpeg's first warning.
"""

import re

import simplejpeg

from app.errors import ImageDecodeFailed

MAX_STRAY_BYTES = 8
"""Maximum number of bytes that libjpeg counts between the image and its end marker.

Webcams write a few. After damage libjpeg may need fewer codes than there are, mostly by more.
"""

_STRAY_BYTES = re.compile(r"(\d+) extraneous bytes before marker 0xd9")

_KINDS = {
    "premature end": "it ends early",
    "bad Huffman code": "an invalid code",
    "extraneous bytes": "more codes than coefficients",
    "instead of RST": "a missing restart interval",
}
"""Words of libjpeg's warnings, and what they tell about the coded data."""


def check_jpeg(data: bytes) -> str:
    """Decode a JPEG file at an eighth of its size, to see whether its coded data is damaged.

    Args:
        data: from ``guard``, which leaves nothing else for libjpeg to warn about.

    Returns:
        A remark on a whole image, mostly empty.

    Raises:
        ImageDecodeFailed: the coded data is damaged.
    """
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as exc:
        message = str(exc)
        stray = _STRAY_BYTES.search(message)
        if stray and int(stray[1]) <= MAX_STRAY_BYTES:
            return f"{stray[1]} stray bytes before the end marker"
        kind = next((kind for words, kind in _KINDS.items() if words in message), "")
        raise ImageDecodeFailed(
            "jpg: the image data is damaged" + (f" ({kind})" if kind else "")
        ) from exc
    return ""
