"""Forms as they stand in requests."""

from __future__ import annotations

from cosy_sync.wires.forms import Form


def test_a_form_reads_as_rfc_7578_has_it() -> None:
    form = Form("input", {"name": "小明", 'a"b\r\n': "1"}, {"clip": b"RIFF\r\n\0"})
    boundary = form.content_type.removeprefix("multipart/form-data; boundary=")
    assert (
        form.body("你好")
        == (
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="input"\r\n\r\n你好\r\n'
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="name"\r\n\r\n小明\r\n'
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="a%22b%0D%0A"\r\n\r\n1\r\n'
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="clip"; filename="clip.wav"\r\n'
            "Content-Type: audio/wav\r\n\r\nRIFF\r\n\0\r\n"
            f"--{boundary}--\r\n"
        ).encode()
    )


def test_without_a_file_it_is_urlencoded() -> None:
    form = Form("tts text", {"a&b": "1 2"}, {})
    assert form.content_type == "application/x-www-form-urlencoded"
    assert form.body("你+") == b"tts+text=%E4%BD%A0%2B&a%26b=1+2"
    assert Form("a", {}, {}).body("b") == b"a=b"


def test_no_two_forms_share_a_boundary() -> None:
    assert Form("a", {}, {"f": b"x"}).content_type != Form("a", {}, {"f": b"x"}).content_type
