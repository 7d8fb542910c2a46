"""Messages written and read by hand, compared with the code that protoc makes."""

from __future__ import annotations

import pytest
from generated import cosyvoice

from cosy_sync.wires.protobuf import read_fields, write_field

# Around the lengths at which a length takes one byte more.
SIZES = [0, 1, 127, 128, 16_383, 16_384, 100_000]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_what_generated_code_writes(size: int) -> None:
    messages, _ = cosyvoice()
    sound = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    for cls, field in (
        (messages.Response, "tts_audio"),
        (messages.zeroshotRequest, "prompt_audio"),
    ):
        number = cls.DESCRIPTOR.fields_by_name[field].number
        read = cls.FromString(write_field(number, sound))
        assert getattr(read, field) == sound
        if size:  # an empty field need not be there
            assert write_field(number, sound) == read.SerializeToString()


@pytest.mark.parametrize("size", SIZES)
def test_what_generated_code_writes_is_read(size: int) -> None:
    messages, _ = cosyvoice()
    inner = messages.zeroshotRequest(tts_text="你好", prompt_text="a" * size, prompt_audio=b"\1\2")
    data = messages.Request(zero_shot_request=inner).SerializeToString()
    ((number, value),) = read_fields(data)
    assert number == 2
    fields = dict(read_fields(value))
    assert fields[1] == "你好".encode() and fields[3] == b"\1\2"
    assert fields.get(2, b"") == b"a" * size


def test_fields_of_other_types_are_passed_over() -> None:
    message = (
        b"\x08\x96\x01"  # 1: the number 150
        b"\x11abcdefgh"  # 2: 64 bits
        b"\x1d1234"  # 3: 32 bits
        b"\x22\x02ok"  # 4: two bytes
        b"\x82\x7d\x01!"  # 2000: one byte
    )
    assert list(read_fields(message)) == [(4, b"ok"), (2000, b"!")]


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",  # no length
        b"\x0a\x03ab",  # longer than the message
        b"\x0a\x80",  # a length that does not end
        b"\xff" * 11,  # a tag that does not end
        b"\x08",  # no number
        b"\x09abc",  # 64 bits cut
        b"\x0dab",  # 32 bits cut
        b"\x0b\x0c",  # a group, which proto3 does not have
        b"\x02\x01a",  # field 0
        b"RIFF\xff\xff\xff\xff",
    ],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):
        list(read_fields(message))


def test_a_number_of_ten_bytes_is_the_longest() -> None:
    assert list(read_fields(b"\x08" + b"\xff" * 9 + b"\x01\x0a\x01a")) == [(1, b"a")]
    with pytest.raises(ValueError):
        list(read_fields(b"\x08" + b"\xff" * 10 + b"\x01\x0a\x01a"))
