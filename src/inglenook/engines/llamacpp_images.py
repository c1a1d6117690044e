"""Whether an image may reach llama.cpp's decoder, by its first bytes. Pure.

That decoder allocates what a file claims to be, so a few bytes can ask for gigabytes. And what it does not
know as a picture it hands to the `ffprobe` and `ffmpeg` of the machine, if there are any, which take
playlists of other files and addresses for a film. Neither should happen because of a request.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Callable
from typing import NamedTuple

from inglenook.errors import BadRequest

Size = tuple[int, int]

MOST_PIXELS = 64 << 20
"""Of all images of one request. The engine has about seven bytes for each while it reads one."""
LONGEST_SIDE = (1 << 16) - 1
"""No JPEG or GIF has a longer one. Models that keep proportions make a thin image much larger."""
HEAD, TAIL = 256 << 10, 4 << 10
"""Characters that are decoded at first. A JPEG tells its size only after its thumbnail and profile, and a
telephone may put a film behind its end."""
MOST_SEGMENTS = 1000
FRAMES = b"\xc0\xc1\xc2"
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class _Kind(NamedTuple):
    """A file format: how it begins, what stands at its end, and where its size is."""

    magic: bytes
    end: bytes
    size: Callable[[bytes], Size | None]


def count_pixels(url: str, where: str) -> int:
    """The pixels that the image at ``url`` claims to have. Raises ``BadRequest`` for what is no image."""
    kind, comma, text = url.partition(",")
    if not (comma and kind.startswith("data:image/") and kind.endswith(";base64")):
        raise BadRequest("An image must be a URL that begins like data:image/png;base64,", param=where)
    payload = text.encode().rstrip(b"=")
    if not payload or payload.translate(None, ALPHABET):
        raise BadRequest("The image's data is not base64.", param=where)
    width, height = _size(payload) or (0, 0)
    if width * height == 0:
        raise BadRequest("The image is damaged, or not a whole PNG, JPEG, GIF or BMP file.", param=where)
    if max(width, height) > LONGEST_SIDE:
        raise BadRequest(f"An image's sides must be at most {LONGEST_SIDE} pixels.", param=where)
    return width * height


def _size(payload: bytes) -> Size | None:
    """Width and height, as the decoder will read them. ``None``: no image, or only a part of one."""
    head = _decoded(payload[:HEAD])
    for kind in _KINDS:
        if head.startswith(kind.magic):
            size = kind.size(head) or (kind.size(_decoded(payload)) if len(payload) > HEAD else None)
            return size if size and _has_end(kind, payload) else None
    return None


def _has_end(kind: _Kind, payload: bytes) -> bool:
    # The decoder paints what is missing of a JPEG in grey and says nothing.
    tail = max(0, len(payload) - TAIL) & ~3
    return kind.end in _decoded(payload[tail:]) or kind.end in _decoded(payload)


def _decoded(payload: bytes) -> bytes:
    # Some clients leave out the padding, which the engine does not miss either.
    return binascii.a2b_base64(payload[: len(payload) - (len(payload) % 4 == 1)] + b"==")


def _unpacked(layout: str, data: bytes, at: int) -> Size | None:
    if at + struct.calcsize(layout) > len(data):
        return None
    first, second = struct.unpack_from(layout, data, at)
    return first, second


def _png(data: bytes) -> Size | None:
    return _unpacked(">II", data, 16) if data[12:16] == b"IHDR" else None


def _gif(data: bytes) -> Size | None:
    return _unpacked("<HH", data, 6)


def _bmp(data: bytes) -> Size | None:
    if data[14:18] == b"\x0c\0\0\0":
        return _unpacked("<HH", data, 18)
    size = _unpacked("<Ii", data, 18)
    # A negative height says that the first row is the topmost.
    return (size[0], abs(size[1])) if size else None


def _jpeg(data: bytes) -> Size | None:
    at = 2
    for _ in range(MOST_SEGMENTS):
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            return None
        if data[at + 1] in FRAMES:
            size = _unpacked(">HH", data, at + 5)
            return (size[1], size[0]) if size else None
        # Several marks in a row are filling; everything else before the frame has a length.
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


_KINDS = (
    _Kind(b"\x89PNG\r\n\x1a\n", b"IEND", _png),
    _Kind(b"\xff\xd8\xff", b"\xff\xd9", _jpeg),
    _Kind(b"GIF87a", b";", _gif),
    _Kind(b"GIF89a", b";", _gif),
    _Kind(b"BM", b"", _bmp),
)
