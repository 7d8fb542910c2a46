"""How many attempts an error tells of: as many as the service saw requests."""

from collections.abc import Callable

import httpx
import pytest

import cosy_sync
from cosy_sync import BreakerConfig, ConnectError, CosyClient, CosyError, DeadlineError, RetryConfig
from cosy_sync.engine.pending_texts import late
from cosy_sync.engine.waiters import BatchedTexts, BlockingWaiter, PendingText
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline
from cosy_sync.testing import FakeClock, FakeService

URL = "http://tts.test/batch"


class Rig:
    """A client in one thread on a fake clock, with a service that answers as the test says."""

    def __init__(self, **settings: object) -> None:
        self.service, self.clock = FakeService(), FakeClock()
        http_client = httpx.Client(transport=self.service)
        given = {"serial": True, "clock": self.clock, "deadline": 60, **settings}
        self.client = CosyClient(URL, http_client=http_client, **given)  # type: ignore[arg-type]

    def late(self, seconds: float) -> Callable[[httpx.Request], httpx.Response]:
        """Return an answer that is a time-out after so many seconds."""

        def answer(request: httpx.Request) -> httpx.Response:
            self.clock.advance(seconds)
            raise httpx.ReadTimeout("no byte came", request=request)

        return answer

    def error(self) -> CosyError:
        with self.client, pytest.raises(CosyError) as caught:
            self.client.synth("早上好")
        return caught.value


def test_a_deadline_that_cuts_the_only_request_tells_of_one_attempt() -> None:
    rig = Rig()
    rig.service.answer(rig.late(60))
    error = rig.error()
    assert isinstance(error, DeadlineError) and len(rig.service.calls) == 1
    assert "after 1 attempt]" in str(error) and error.attempt_count == 1


def test_a_deadline_that_cuts_the_second_request_tells_of_two_attempts() -> None:
    rig = Rig()
    rig.service.fail(500).answer(rig.late(60))
    error = rig.error()
    assert isinstance(error, DeadlineError) and len(rig.service.calls) == 2
    assert "after 2 attempts]" in str(error) and error.attempt_count == 2


def test_a_time_out_whose_message_is_extended_is_no_attempt_before_itself() -> None:
    rig = Rig(retry=RetryConfig(max_retries=0))
    rig.service.answer(cosy_sync.ReplyTimeout("no byte came", phase="first byte"))
    error = rig.error()
    assert isinstance(error, cosy_sync.ReplyTimeout) and "TimeoutConfig(first_byte" in str(error)
    assert error.attempts == () and "after" not in str(error).rpartition("[")[2]


def test_a_refusal_of_our_own_after_an_attempt_is_none_itself() -> None:
    rig = Rig(breaker=BreakerConfig(min_calls=1))
    rig.service.fail(500)
    error = rig.error()
    assert isinstance(error, cosy_sync.BreakerOpenError) and len(rig.service.calls) == 1
    assert "after 1 attempt]" in str(error) and error.attempt_count == 1


@pytest.mark.parametrize("in_flight", [True, False])
def test_an_attempt_that_a_deadline_cut_counts_over_json_too(in_flight: bool) -> None:
    before = ConnectError("cannot connect")
    error = Deadline(0.0, 5.0).error("waiting for the service", in_flight=in_flight)
    error = error.with_details(attempts=(before, before))
    for each in (error, CosyError.from_dict(error.to_dict())):
        assert each.attempt_count == 2 + in_flight
        assert str(each).endswith(f"[after {2 + in_flight} attempts]")


def test_errors_that_ended_an_attempt_count_it() -> None:
    for kind in (ConnectError, cosy_sync.CutError, cosy_sync.UnavailableError):
        assert kind("it failed").attempt_count == 1
    for kind in (cosy_sync.ShedError, cosy_sync.ClosedError, cosy_sync.InvalidTextError):
        assert kind("not sent").attempt_count == 0


def test_a_caller_that_leaves_a_shared_batch_counts_the_attempt_in_flight_only() -> None:
    text = Utterance("早上好")
    waiter = BlockingWaiter(Deadline(0.0, 5.0))
    pending = PendingText(text, "key", [waiter])
    batched = BatchedTexts([pending], interactive=True, tenant="")
    batch = batched.batch

    def counted() -> int:
        error = late(waiter, None).error
        assert error is not None
        return error.attempt_count

    assert counted() == 0  # not sent yet
    batched.seal()
    batch.seal(batch.texts)
    assert counted() == 1
    batch.note(text, ConnectError("cannot connect"))
    assert counted() == 1  # it waits for its repetition
    batch.seal(batch.texts)
    assert counted() == 2
