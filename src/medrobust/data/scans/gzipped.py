"""Unpacking what gzip packed, no further than is expected of it, with its checksum verified."""

import zlib
from typing import Any

import numpy as np
from jaxtyping import UInt8

SPARE = 2**20
"""Bytes that a file may hold beyond what its header claims: footers, comments and padding."""

MOST_PACKED = 1032
"""Bytes that a byte of gzip can hold at most."""

PIECE = 2**16
"""Bytes that are unpacked at a time."""


def unpack_start(packed: bytes, size: int) -> bytes:
    """The first bytes of what gzip packed."""
    return zlib.decompressobj(wbits=31).decompress(packed, size)


def unpack(packed: bytes, claimed: int) -> UInt8[np.ndarray, "claimed"]:
    """What gzip packed, straight into its place; several members follow each other, as bgzip packs.

    Raises:
        ValueError: It is shorter than claimed, much longer, or ends within a member.
        zlib.error: Damaged, or no gzip.
    """
    if claimed > MOST_PACKED * len(packed):
        raise ValueError(f"{len(packed)} packed bytes cannot hold the {claimed} that its header promises")
    content, filled = np.empty(claimed, np.uint8), 0
    member, is_open = zlib.decompressobj(wbits=31), False
    for start in range(0, len(packed), PIECE):
        piece: Any = memoryview(packed)[start : start + PIECE]
        while piece:
            part = member.decompress(piece, 16 * PIECE)
            kept = part[: max(claimed - filled, 0)]
            content[filled : filled + len(kept)] = np.frombuffer(kept, np.uint8)
            filled += len(part)
            if filled > claimed + SPARE:
                raise ValueError("the packed content goes on after what its header promises")
            is_open = not member.eof
            piece = member.unconsumed_tail if is_open else member.unused_data.lstrip(b"\0")
            member = member if is_open else zlib.decompressobj(wbits=31)
    if is_open:
        raise ValueError("the packed content ends before its end")
    if filled < claimed:
        raise ValueError(f"it holds {filled} bytes, and its header promises {claimed}")
    return content
