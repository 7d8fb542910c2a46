"""Forms as they stand in requests."""

from __future__ import annotations

from cosy_sync.wires.forms import write_form


def test_a_form_reads_as_rfc_7578_has_it() -> None:
    form = write_form({"name": "小明", 'a"b\r\n': "1"}, ("clip", "audio/wav", b"RIFF\r\n\0"))
    boundary = form.content_type.removeprefix("multipart/form-data; boundary=")
    assert (
        form.before + form.after
        == (
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="clip"; filename="voice.wav"\r\n'
            "Content-Type: audio/wav\r\n\r\nRIFF\r\n\0\r\n"
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="name"\r\n\r\n小明\r\n'
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="a%22b%0D%0A"\r\n\r\n1\r\n'
            f"--{boundary}--\r\n"
        ).encode()
    )


def test_an_open_field_comes_last() -> None:
    form = write_form({"a": "1"}, ("clip", "audio/wav", b"x"), open_field="input")
    assert form.before.endswith(b'\r\nContent-Disposition: form-data; name="input"\r\n\r\n')
    assert form.after.startswith(b"\r\n--")


def test_no_two_forms_share_a_boundary() -> None:
    clip = ("clip", "audio/wav", b"x")
    assert write_form({}, clip).content_type != write_form({}, clip).content_type
