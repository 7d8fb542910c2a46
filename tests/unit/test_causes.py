"""The error that ends a text names what went wrong, though time or a decision of ours ended it."""

from collections.abc import Callable

import httpx
import pytest

from cosy_sync import (
    BreakerConfig,
    BreakerOpenError,
    ConnectError,
    CosyClient,
    CosyError,
    DeadlineError,
    ResourceError,
    RetryConfig,
    UnavailableError,
)
from cosy_sync.engine.waiters import Waiter, share
from cosy_sync.models import Outcome
from cosy_sync.policies import Deadline
from cosy_sync.testing import FakeClock, FakeService

URL = "http://tts.test/batch"
Answer = Callable[[httpx.Request], httpx.Response]


class Rig:
    """A client in one thread on a fake clock, with a service that answers as the test says."""

    def __init__(self, **settings: object) -> None:
        self.service, self.clock = FakeService(), FakeClock()
        http_client = httpx.Client(transport=self.service)
        given = {"serial": True, "clock": self.clock, "deadline": 10, **settings}
        self.client = CosyClient(URL, http_client=http_client, **given)  # type: ignore[arg-type]

    def after(self, seconds: float, error: type[httpx.TransportError]) -> Answer:
        """Return an answer that is an error after so many seconds."""

        def answer(request: httpx.Request) -> httpx.Response:
            self.clock.advance(seconds)
            raise error("it failed", request=request)

        return answer

    def error(self) -> CosyError:
        with self.client, pytest.raises(CosyError) as caught:
            self.client.synth("早上好")
        return caught.value


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError]
)
def test_what_failed_by_itself_is_no_deadline_however_late_it_was_told(
    failure: type[httpx.TransportError],
) -> None:
    rig = Rig()
    rig.service.answer(rig.after(11, failure))
    error = rig.error()
    assert not isinstance(error, DeadlineError) and failure.__name__ in error.message


@pytest.mark.parametrize("failure", [httpx.ConnectTimeout, httpx.ReadTimeout])
def test_an_attempt_that_the_deadline_cut_is_one(failure: type[httpx.TransportError]) -> None:
    rig = Rig()
    rig.service.answer(rig.after(11, failure))
    error = rig.error()
    assert isinstance(error, DeadlineError) and "before that" not in error.message
    assert isinstance(error.__cause__, CosyError) and "in time" in error.__cause__.message


def test_a_deadline_names_how_the_attempt_before_it_failed() -> None:
    rig = Rig()
    rig.service.answer(rig.after(1, httpx.ConnectError)).answer(rig.after(9, httpx.ReadTimeout))
    error = rig.error()
    assert isinstance(error, DeadlineError)
    assert "; before that: cannot connect; is the service running there?" in error.message
    assert isinstance(error.__cause__, ConnectError)
    assert [type(each).__name__ for each in error.attempts] == ["ConnectError", "ReplyTimeout"]


def test_a_wait_that_outlasts_the_deadline_ends_a_text_with_what_it_waited_for() -> None:
    for failure in (UnavailableError("it is away"), ResourceError("too many open files")):
        rig = Rig()
        rig.service.answer(failure)
        naps: list[float] = []

        def wait(
            event: object, seconds: float, rig: Rig = rig, naps: list[float] = naps
        ) -> bool:  # as on a machine that wakes the thread late
            naps.append(seconds)
            rig.clock.advance(10)
            return False

        rig.clock.wait = wait  # type: ignore[method-assign]
        assert rig.error().message == failure.message and len(naps) == 1


def test_a_refusal_of_our_own_names_how_the_attempt_before_it_failed() -> None:
    rig = Rig(breaker=BreakerConfig(min_calls=1), retry=RetryConfig(base=0.01))
    rig.service.fail(500)
    error = rig.error()
    assert isinstance(error, BreakerOpenError) and isinstance(error.__cause__, UnavailableError)
    assert "; before that: the service answered HTTP 500" in error.message


def test_whoever_shared_a_text_is_told_the_cause_with_a_deadline_of_his_own() -> None:
    refused = ConnectError("cannot connect")
    late = Deadline(0.0, 5.0).error("waiting for its turn").with_details(attempts=(refused,))
    own = share(Outcome(0, "好", None, late), Waiter(Deadline(0.0, 2.0))).error
    assert isinstance(own, DeadlineError) and own.deadline == 2.0
    assert own.__cause__ is refused and "before that: cannot connect" in own.message
