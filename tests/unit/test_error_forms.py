"""Errors keep their type and what they know over pickle, JSON, and stores of class and args."""

import copy
import json
import pickle

import pytest

import cosy_sync
from cosy_sync import (
    Audio,
    BatchError,
    BreakerOpenError,
    ConnectError,
    CosyError,
    DeadlineError,
    Outcome,
    ThrottledError,
)

SECRET = "一段谁也不该看见的文字"
BEFORE = ConnectError("cannot connect", endpoint="http://a.test", index=3)
ERRORS = [
    ThrottledError(
        "HTTP 429", status=429, retry_after=1.5, index=3, text_hash="ab", attempts=(BEFORE,)
    ),
    DeadlineError("not done within 5 s", deadline=5.0, phase="waiting", index=0),
    BreakerOpenError("breaker open", retry_after=18.0, endpoint="http://a.test"),
    cosy_sync.CutError("cut", partial=b"sound", index=1),
    cosy_sync.BadAudioError("silent", reason="silent"),
    cosy_sync.UnframedError("no end", index=2),
    cosy_sync.AuthError("HTTP 401", sent=False),
    cosy_sync.ConfigError("speed: must be 1"),
]


def over_pickle(error: CosyError) -> CosyError:
    return pickle.loads(pickle.dumps(error))  # type: ignore[no-any-return]


def over_json(error: CosyError) -> CosyError:
    return CosyError.from_dict(json.loads(json.dumps(error.to_dict())))


def over_class_and_args(error: CosyError) -> CosyError:
    # As Celery does with its JSON serializer.
    name, args = type(error).__name__, json.loads(json.dumps(error.args))
    return getattr(cosy_sync, name)(*args)  # type: ignore[no-any-return]


WAYS = [over_pickle, over_json, over_class_and_args, copy.copy, lambda error: error.with_details()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_arrives_as_what_it_was(error: CosyError, way) -> None:
    back = way(error)
    assert type(back) is type(error) and str(back) == str(error) and back.args == error.args
    known = ("index", "endpoint", "text_hash", "retry_after", "status", "deadline", "phase", "sent")
    for name in known:
        assert getattr(back, name, None) == getattr(error, name, None)
    assert [type(each) for each in back.attempts] == [type(each) for each in error.attempts]
    assert [each.index for each in back.attempts] == [each.index for each in error.attempts]


@pytest.mark.parametrize("way", WAYS[:3])
def test_a_batch_error_keeps_which_texts_failed_and_why(way) -> None:
    sound = Audio(b"\0\0" * 100, "pcm", 24_000, pcm_size=200)
    outcomes = [Outcome(0, SECRET, sound), Outcome(1, SECRET, None, ERRORS[0])]
    error = BatchError("1 of 2 texts failed", outcomes=outcomes)
    if way is not over_pickle:
        assert SECRET not in json.dumps(error.to_dict(), ensure_ascii=False)
    back = way(error)
    assert isinstance(back, BatchError) and [each.ok for each in back.outcomes] == [True, False]
    (failure,) = back.failures
    assert failure.index == 1 and isinstance(failure.error, ThrottledError)
    assert failure.error.retry_after == 1.5


def test_a_form_of_another_version_is_still_an_error() -> None:
    back = CosyError.from_dict({"type": "NewError", "message": "new", "index": 2, "more": [1]})
    assert type(back) is CosyError and (str(back), back.index) == ("new [text 2]", 2)
    assert type(CosyError.from_dict({"type": "plain"})) is CosyError


def test_the_first_argument_is_the_message() -> None:
    assert ERRORS[0].args[0] == "HTTP 429" and ERRORS[-1].args == ("speed: must be 1",)
