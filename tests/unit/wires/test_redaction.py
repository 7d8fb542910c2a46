"""Texts blanked out of what a service says."""

from __future__ import annotations

import os
import signal

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.wires import SpeechOptions, create_wire, redaction
from cosy_sync.wires.redaction import hide, secrets_of, without_texts

SECRET = "明天下午三点在老地方见面"


def clean(message: str, *texts: str) -> str:
    return without_texts(message, texts, 200)


@pytest.mark.parametrize(
    "quoted",
    [
        SECRET,
        SECRET[:6] + "...",
        "…" + SECRET[-5:],
        ascii(SECRET),
        ascii(SECRET)[1:30],
        SECRET.replace("在", ",在"),
    ],
)
def test_a_text_is_blanked_whole_cut_or_escaped(quoted: str) -> None:
    shown = clean(f"cannot speak: {quoted} (sorry)", "别的", SECRET)
    assert shown.startswith("cannot speak: ")
    assert "[…]" in shown
    assert "明天下午" not in shown
    assert "老地方见面" not in shown
    assert "\\u660e\\u5929" not in shown
    assert shown.endswith("(sorry)")


def test_case_does_not_hide_a_text() -> None:
    shown = clean("got MEET ME AT THE OLD PLACE", "Meet me at the old place")
    assert shown == "got […]"


def test_a_letter_that_grows_in_lower_case_does_no_harm() -> None:
    assert clean(f"İİ {SECRET} İ", SECRET) == "İİ […] İ"


@pytest.mark.parametrize(
    ("message", "text", "shown"),
    [
        ("got 'hi'", "hi", "got '[…]'"),
        ("got HI", " hi\n", "got […]"),
        ("this is a hint", "hi", "this is a hint"),
        ("文本好不行", "好", "文本[…]不行"),
    ],
)
def test_a_short_text_is_blanked_as_a_word(message: str, text: str, shown: str) -> None:
    assert clean(message, text) == shown


def test_ordinary_words_stay() -> None:
    message = "bad request: too many texts"
    assert clean(message, "please request too much of me, it is a bad idea") == message


def test_nothing_to_hide_changes_nothing_but_the_length() -> None:
    assert clean("a  b\n") == "a b"
    assert without_texts("x" * 300, (), 10) == "x" * 9 + "…"
    assert clean("", SECRET) == ""


def test_keys_are_blanked_wherever_they_stand_and_from_then_on() -> None:
    assert clean("bad key sk-redaction-1") == "bad key sk-redaction-1"
    hide(["sk-redaction-1"])
    assert clean("bad key 'sk-redaction-1'; sk-redaction-1!") == "bad key '[…]'; […]!"
    far = "x" * 990 + "sk-redaction-1"
    assert "sk-red" not in without_texts(far, [], 2_000)


def test_only_keys_that_are_no_words_are_blanked() -> None:
    hide(["seven-7", "eight--8", ""])
    assert clean("seven-7 and eight--8") == "seven-7 and […]"


def test_headers_may_hold_keys() -> None:
    headers = {"Authorization": "Bearer abc", "X-Gate": "def", "ACCEPT": "x/y", "cookie": "g=h; i"}
    assert secrets_of("http://h/?", "sk", headers) == [
        *("sk", "Bearer abc", "Bearer", "abc", "def", "def", "g=h; i", "g", "h", "i", "", "")
    ]
    assert secrets_of("http://h/?a=b%2Bc+d&e", None, {"Accept": "x/y"}) == [
        *("b%2Bc+d", "b+c d", "", "")
    ]


def test_a_clients_keys_are_blanked() -> None:
    config = ClientConfig(api_key="sk-redaction-2", headers={"X-Api-Key": "redaction-3"})
    url = "http://tts.test/batch?token=redaction-4"
    create_wire("batch", url, SpeechOptions.from_config(config))
    assert clean("sk-redaction-2 redaction-3 /?token=redaction-4") == "[…] […] /?token=[…]"


def test_keys_of_each_request_do_not_pile_up_and_the_one_in_use_stays_hidden() -> None:
    for number in range(3_000):
        hide(["sk-still-in-use", f"trace-of-request-{number}"])
    told = without_texts("sk-still-in-use trace-of-request-2999 trace-of-request-0", [], 200)
    assert told == "[…] […] trace-of-request-0"
    assert len(redaction._secrets) <= 1_000


def test_a_child_forked_while_a_thread_notes_a_key_can_note_its_own():
    with redaction._lock:
        child = os.fork()
        if not child:
            signal.alarm(20)  # instead of waiting for ever
            hide(["sk-of-the-child"])
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
