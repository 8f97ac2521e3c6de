"""Image files that take much longer to decode than to send."""

import struct
import zlib

SIDE_PX = 4096
_BLOCKS = (SIDE_PX // 8) ** 2
_COMPONENTS = b"\1\2\3"
_LONGEST_RUN = (1 << 15) - 1
"""Of blocks without a coefficient, as one code of a progressive scan."""


def jpeg_with_scans(scans: int) -> bytes:
    """A grey progressive jpg of 4096 x 4096 px whose scans send no coefficient: 100 kB.

    Args:
        scans: from 4 to 43.
    """
    frame = struct.pack(">BHHB", 8, SIDE_PX, SIDE_PX, 3) + bytes(
        value for component in _COMPONENTS for value in (component, 0x11, 0)
    )
    one_code = bytes([1, *[0] * 15])
    parts = [
        b"\xff\xd8",
        _segment(0xDB, bytes(1) + b"\1" * 64),
        _segment(0xC2, frame),
        # The only code of each table: a difference of 0, and the longest run of empty blocks.
        _segment(0xC4, b"\x00" + one_code + b"\x00" + b"\x10" + one_code + b"\xe0"),
        _scan(_COMPONENTS, 0, 0, 0, bytes(_BLOCKS * len(_COMPONENTS) // 8)),
    ]
    left = scans - 1
    for rank, component in enumerate(_COMPONENTS):
        passes = min(14, left - (len(_COMPONENTS) - 1 - rank))
        left -= passes
        parts += [
            _scan(bytes([component]), 1, 63, _precision(passes, done), _empty_blocks())
            for done in range(passes)
        ]
    return b"".join(parts) + b"\xff\xd9"


def _precision(passes: int, done: int) -> int:
    """Which bits were sent before a scan, and which are missing after it."""
    return ((passes - done) << 4 if done else 0) | (passes - 1 - done)


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _scan(components: bytes, first: int, last: int, precision: int, data: bytes) -> bytes:
    tables = b"".join(bytes([component, 0]) for component in components)
    header = bytes([len(components)]) + tables + bytes([first, last, precision])
    return _segment(0xDA, header) + data


def _empty_blocks() -> bytes:
    code = "0" + "1" * 14
    bits = code * -(-_BLOCKS // _LONGEST_RUN)
    bits = bits.ljust(-(-len(bits) // 8) * 8, "1")
    return int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")


def png(width_px: int, colour_type: int, depth: int, data: bytes, height_px: int = 0) -> bytes:
    """A png of uncompressed, filtered rows, and whatever follows them."""
    return png_of(width_px, colour_type, depth, zlib.compress(data, 9), height_px)


def png_of(width_px: int, colour_type: int, depth: int, data: bytes, height_px: int = 0) -> bytes:
    """A png of compressed rows, or of anything else in their place."""
    header = struct.pack(">IIBBBBB", width_px, height_px or width_px, depth, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
