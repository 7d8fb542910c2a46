"""Compressed bodies come back whole, or as an error, and never beyond their limit."""

from __future__ import annotations

import contextlib
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosy_sync.errors import BadAudioError
from cosy_sync.net.inflate import inflate

PLAIN = b"hello" * 1000


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", PLAIN),
        ("identity", PLAIN),
        ("gzip", gzip.compress(PLAIN, mtime=0)),
        ("x-gzip", gzip.compress(PLAIN, mtime=0)),
        (" GZip ", gzip.compress(PLAIN, mtime=0)),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", bare(PLAIN)),
    ],
)
def test_every_encoding_is_undone(encoding: str, packed: bytes, kind: type) -> None:
    assert bytes(inflate(kind(packed), encoding, len(PLAIN))) == PLAIN


def test_what_is_not_encoded_is_not_copied() -> None:
    body = bytearray(PLAIN)
    assert inflate(body, "identity", 1) is body


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_an_empty_body_stays_empty(encoding: str) -> None:
    assert inflate(b"", encoding, 10) == b""


@pytest.mark.parametrize("encoding", PACKED)
def test_one_byte_too_many_is_too_large(encoding: str) -> None:
    packed = PACKED[encoding](PLAIN)
    assert inflate(packed, encoding, len(PLAIN)) == PLAIN
    with pytest.raises(BadAudioError) as caught:
        inflate(packed, encoding, len(PLAIN) - 1)
    assert caught.value.reason == "too_large" and not caught.value.retryable


@pytest.mark.parametrize("encoding", PACKED)
def test_every_cut_is_an_error(encoding: str) -> None:
    packed = PACKED[encoding](b"hello")
    for size in range(2, len(packed)):
        with pytest.raises(BadAudioError) as caught:
            inflate(packed[:size], encoding, 100)
        assert caught.value.reason in ("cut", "encoding")


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("rest", [b"x", b"\x00" * 50 + b"x", b"\x1f\x8b"])
def test_what_follows_the_end_is_not_lost_silently(encoding: str, rest: bytes) -> None:
    with pytest.raises(BadAudioError) as caught:
        inflate(PACKED[encoding](PLAIN) + rest, encoding, 1 << 20)
    assert caught.value.reason in ("cut", "encoding")


@pytest.mark.parametrize("padding", [b"", b"\x00" * 50])
def test_gzip_may_have_several_members_and_zeros_behind_them(padding: bytes) -> None:
    packed = padding.join([gzip.compress(b"one, "), gzip.compress(b""), gzip.compress(b"two"), b""])
    assert inflate(packed, "gzip", 8) == b"one, two"


def test_the_limit_holds_for_all_members_together() -> None:
    with pytest.raises(BadAudioError) as caught:
        inflate(gzip.compress(b"12345") * 2, "gzip", 9)
    assert caught.value.reason == "too_large"


def test_a_reply_of_countless_members_is_refused() -> None:
    with pytest.raises(BadAudioError, match="too many parts"):
        inflate(gzip.compress(b"") * 5_000, "gzip", 100)


def test_deflate_knows_no_padding() -> None:
    with pytest.raises(BadAudioError, match="goes on after"):
        inflate(PACKED["deflate"](PLAIN) + b"\x00", "deflate", 1 << 20)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_an_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(BadAudioError, match="was not asked for"):
        inflate(b"data", encoding, 100)


@given(st.sampled_from(["gzip", "deflate"]), st.binary(max_size=200))
def test_any_bytes_end_within_the_limit_or_as_an_error(encoding: str, body: bytes) -> None:
    with contextlib.suppress(BadAudioError):
        assert len(inflate(body, encoding, 50)) <= 50
