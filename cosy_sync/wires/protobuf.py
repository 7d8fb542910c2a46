"""The little of Protocol Buffers that gRPC wires need: strings, bytes and numbers in messages.

Written by hand (protobuf.dev/programming-guides/encoding), because generated code would tie
everybody who installs this to one range of protobuf versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["read_fields", "read_numbers", "write_field", "write_numbers"]

_LENGTH_DELIMITED = 2
# Bytes of the types whose size is fixed.
_FIXED = {1: 8, 5: 4}
# A number takes at most so many bytes.
_MAX_VARINT = 10


def write_field(number: int, value: bytes) -> bytes:
    """Write a string, bytes or a message under the field's number."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(value)) + value


def write_numbers(number: int, values: Sequence[int]) -> bytes:
    """Write whole numbers that are not negative under the field's number, packed."""
    return write_field(number, b"".join(map(_varint, values)))


def read_numbers(packed: bytes) -> list[int]:
    """Return the whole numbers of a packed field. Raises ValueError when these are none."""
    found, position = [], 0
    while position < len(packed):
        value, position = _read_varint(packed, position)
        found.append(value)
    return found


def read_fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Give number and value of each string, bytes or message in it; pass over other types.

    Raises ValueError when this is no message.
    """
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("a field without a number")
        if kind == 0:
            _, position = _read_varint(message, position)
            continue
        size = _FIXED.get(kind)
        if kind == _LENGTH_DELIMITED:
            size, position = _read_varint(message, position)
        if size is None or position + size > len(message):
            raise ValueError("a field of an unknown type, or longer than its message")
        if kind == _LENGTH_DELIMITED:
            yield number, message[position : position + size]
        position += size


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(message[position : position + _MAX_VARINT]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, position + shift + 1
    raise ValueError("a number without an end")
