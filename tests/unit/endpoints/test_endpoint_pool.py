"""The cluster: who is there, who is chosen, who is left out, and what stays of who left."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import locks
import pytest
from lanes import eventually
from naming import DOWN, Names

from cosy_sync.config import ClientConfig, EjectionConfig, Endpoint, PoolConfig
from cosy_sync.endpoints import pool as cluster_module
from cosy_sync.endpoints.endpoint import EndpointState
from cosy_sync.endpoints.pool import EndpointPool
from cosy_sync.engine.batch import Batch
from cosy_sync.errors import (
    ClosedError,
    ConfigError,
    ConnectError,
    DeadlineError,
    NoEndpointError,
)
from cosy_sync.events import (
    AddressesChanged,
    EndpointEjected,
    EndpointReadmitted,
    Event,
    LookupFailed,
)
from cosy_sync.models import Utterance
from cosy_sync.policies import Deadline
from cosy_sync.testing import FakeClock
from cosy_sync.threads.stop import Stop

A, B, C, D = (f"http://{name}.test/" for name in "abcd")


def terms(batch: Batch) -> tuple[Deadline, Stop]:
    return batch.deadline, batch.stop


class Scene:
    """A cluster, its clock, its names and what it told."""

    def __init__(self, *endpoints: str | Endpoint, names: Names | None = None) -> None:
        self.events: list[Event] = []
        self.clock = FakeClock()
        self.names = names or Names()
        self.config = ClientConfig(
            pool=PoolConfig(max_connections=120),
            ejection=EjectionConfig(failure_ratio=0.75, calls=3, base=5),
        )
        given = [e if isinstance(e, Endpoint) else Endpoint(e) for e in endpoints]
        self.endpoints = EndpointPool(given, self.config, self.names, self, self.clock)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def batch(self, seconds: float = 10.0) -> Batch:
        deadline = Deadline(self.clock.now(), seconds)
        stop = Stop()
        return Batch([Utterance("你好")], deadline, interactive=True, tenant="", stop=stop)

    def choose(self, *avoid: EndpointState) -> EndpointState:
        endpoint = self.endpoints.choose(*terms(self.batch()), avoid, self.clock.now())
        endpoint.leave(self.clock.now())
        return endpoint

    def chosen(self, count: int = 60) -> Counter[str]:
        return Counter(self.choose().label for _ in range(count))

    def labels(self) -> list[str]:
        return [endpoint.label for endpoint in self.endpoints.endpoints]

    def endpoint(self, label: str) -> EndpointState:
        return {endpoint.label: endpoint for endpoint in self.endpoints.everybody()}[label]

    def fail(self, endpoint: EndpointState, failed: float = 1.0) -> None:
        now = self.clock.now()
        self.endpoints.judge(endpoint, failed, now, now)


def named(*addresses: str, more: tuple[str, ...] = ()) -> Scene:
    names = Names()
    names.answers[A] = addresses
    scene = Scene(Endpoint(A, per_address=True), *more, names=names)
    scene.endpoints._dns.open = lambda: None  # type: ignore[method-assign]
    scene.endpoints._dns.look()
    return scene


# -- the choice -----------------------------------------------------------------------------------


def test_a_single_endpoint_is_taken_and_nothing_is_measured() -> None:
    scene = Scene(A)
    assert scene.choose().label == A
    assert scene.choose().pool is None
    assert not scene.endpoints.elsewhere((), 0.0)


def test_of_several_all_are_used_and_measured() -> None:
    scene = Scene(A, B, C)
    assert set(scene.chosen()) == {A, B, C}
    assert all(endpoint.pool is scene.endpoints for endpoint in scene.endpoints.endpoints)


def test_where_a_text_failed_is_avoided() -> None:
    scene = Scene(A, B, C)
    one, two, three = scene.endpoints.endpoints
    assert {scene.choose(one, two) for _ in range(20)} == {three}
    assert {scene.choose(three, two, one) for _ in range(60)} == {three, two}


def test_another_endpoint_is_elsewhere_only_when_it_is_soon_ready() -> None:
    scene = Scene(A, B)
    one, two = scene.endpoints.endpoints
    now = scene.clock.now()
    assert scene.endpoints.elsewhere((one,), now)
    assert not scene.endpoints.elsewhere((one, two), now)
    two.limiter.pause(now + 1.0)
    assert scene.endpoints.elsewhere((one,), now)
    two.limiter.pause(now + 1.1)
    assert not scene.endpoints.elsewhere((one,), now)


def test_beside_the_first_only_one_that_is_ready_now_is_taken() -> None:
    scene = Scene(A, B, C)
    first, paused, other = scene.endpoints.endpoints
    now = scene.clock.now()
    assert {scene.endpoints.another(first, now) for _ in range(60)} == {paused, other}
    paused.limiter.pause(now + 0.1)
    assert {scene.endpoints.another(first, now) for _ in range(20)} == {other}
    other.health.ejected = True  # a probe is one request, and no second one
    assert scene.endpoints.another(first, now) is None


# -- ejection -------------------------------------------------------------------------------------


def test_one_that_fails_is_left_out_and_told() -> None:
    scene = Scene(A, B)
    bad = scene.endpoint(A)
    scene.fail(bad)
    assert scene.events == []
    scene.fail(bad)
    assert scene.events == [EndpointEjected(A, 5.0, 0.75)]
    assert set(scene.chosen()) == {B}


def test_after_its_time_one_request_goes_there_and_its_success_brings_the_others() -> None:
    scene = Scene(A, B)
    bad = scene.endpoint(A)
    scene.fail(bad)
    scene.fail(bad)
    scene.clock.advance(5)
    assert scene.chosen()[A] == 1
    scene.fail(bad, 0.0)
    assert scene.events[1:] == [EndpointReadmitted(A)]
    assert scene.chosen()[A] > 10


def test_a_probe_that_fails_has_it_left_out_for_longer() -> None:
    scene = Scene(A, B)
    bad = scene.endpoint(A)
    scene.fail(bad)
    scene.fail(bad)
    scene.clock.advance(5)
    assert scene.chosen()[A] == 1
    scene.fail(bad)
    assert isinstance(scene.events[-1], EndpointEjected)
    assert scene.events[-1].seconds == 10.0
    assert scene.chosen()[A] == 0


def test_when_all_others_wait_for_longer_the_one_left_out_is_used() -> None:
    scene = Scene(A, B)
    bad, paused = scene.endpoints.endpoints
    scene.fail(bad)
    scene.fail(bad)
    paused.limiter.pause(scene.clock.now() + 60)
    assert scene.choose() is bad


def test_half_stay_however_they_fail() -> None:
    scene = Scene(A, B, C, D)
    for endpoint in scene.endpoints.endpoints:
        for _ in range(5):
            scene.fail(endpoint)
    assert len(scene.events) == 2
    assert set(scene.chosen()) == {C, D}


# -- names ----------------------------------------------------------------------------------------


def test_each_address_is_a_station_with_limits_of_its_own() -> None:
    scene = named("192.0.2.1", "192.0.2.2")
    one, two = scene.endpoints.endpoints
    assert (one.address, two.address) == ("192.0.2.1", "192.0.2.2")
    assert one.label == f"{A} (192.0.2.1)"
    assert one.slots is not two.slots and one.limiter is not two.limiter
    assert one.breaker is not two.breaker
    assert scene.events == [AddressesChanged(A, ("192.0.2.1", "192.0.2.2"), ())]
    assert set(scene.chosen()) == set(scene.labels())


def test_without_per_address_or_where_it_is_not_ours_no_name_is_looked_up() -> None:
    names = Names()
    names.answers[A] = ["192.0.2.1"]
    scene = Scene(Endpoint(A), names=names)
    assert not scene.endpoints.grows
    assert scene.choose().address is None
    scene = Scene(Endpoint(B, per_address=True), names=names)
    assert not scene.endpoints.grows
    assert scene.choose().address is None
    assert names.asked == []


def test_an_address_that_is_gone_gets_nothing_new_and_one_that_came_does() -> None:
    scene = named("192.0.2.1", "192.0.2.2")
    gone = scene.endpoints.endpoints[0]
    gone.join(scene.clock.now())
    scene.names.answers[A] = ["192.0.2.2", "192.0.2.3"]
    scene.endpoints._dns.look()
    assert scene.labels() == [f"{A} (192.0.2.2)", f"{A} (192.0.2.3)"]
    assert scene.events[-1] == AddressesChanged(A, ("192.0.2.3",), ("192.0.2.1",))
    assert gone in scene.endpoints.everybody()
    assert set(scene.chosen()) == set(scene.labels())


def test_an_answer_that_changes_nothing_is_not_told() -> None:
    scene = named("192.0.2.1")
    scene.endpoints._dns.look()
    assert len(scene.events) == 1


def look_after(scene: Scene, seconds: float, *addresses: str) -> None:
    scene.clock.advance(seconds)
    scene.names.answers[A] = addresses
    scene.endpoints._dns.look()


def test_one_that_comes_back_within_a_minute_keeps_its_limits() -> None:
    scene = named("192.0.2.1", "192.0.2.2")
    before = scene.endpoints.endpoints[0]
    look_after(scene, 0, "192.0.2.2")
    look_after(scene, 59.9, "192.0.2.2")
    look_after(scene, 0, "192.0.2.1")
    assert scene.endpoints.endpoints == (before,)
    look_after(scene, 100, "192.0.2.1")
    assert scene.endpoints.endpoints == (before,)


def test_one_that_stays_away_is_forgotten_with_its_connections() -> None:
    scene = named("192.0.2.1", "192.0.2.2")
    before = scene.endpoints.endpoints[0]
    look_after(scene, 0, "192.0.2.2")
    look_after(scene, 60, "192.0.2.2")
    assert scene.names.forgotten == [(A, "192.0.2.1")]
    assert before not in scene.endpoints.everybody()
    look_after(scene, 0, "192.0.2.1")
    assert before not in scene.endpoints.endpoints


def test_one_with_requests_in_flight_is_not_forgotten() -> None:
    scene = named("192.0.2.1", "192.0.2.2")
    scene.endpoints.endpoints[0].join(scene.clock.now())
    look_after(scene, 0, "192.0.2.2")
    look_after(scene, 60, "192.0.2.2")
    assert scene.names.forgotten == []
    scene.endpoint(f"{A} (192.0.2.1)").leave(scene.clock.now())
    look_after(scene, 0, "192.0.2.2")
    assert scene.names.forgotten == [(A, "192.0.2.1")]


def test_a_failed_look_up_keeps_the_addresses_and_is_told() -> None:
    scene = named("192.0.2.1", "192.0.2.2")
    scene.names.answers[A] = DOWN
    scene.endpoints._dns.look()
    assert scene.events[-1] == LookupFailed(A, 2, DOWN)
    assert len(scene.endpoints.endpoints) == 2


def test_when_half_of_the_addresses_go_the_ejected_ones_come_back() -> None:
    scene = named("192.0.2.1", "192.0.2.2")
    bad = scene.endpoints.endpoints[0]
    scene.fail(bad)
    scene.fail(bad)
    look_after(scene, 0, "192.0.2.1")
    assert scene.events[-1] == EndpointReadmitted(bad.label)
    assert not bad.health.ejected


def test_the_first_look_up_is_waited_for() -> None:
    names = Names()
    names.answers[A] = ["192.0.2.1"]
    scene = Scene(Endpoint(A, per_address=True), names=names)
    scene.clock.wait = lambda event, seconds: event.wait(10)  # type: ignore[method-assign]
    try:
        assert scene.choose().address == "192.0.2.1"
    finally:
        scene.endpoints.close(10)


def unanswered() -> Scene:
    """A name whose look-up takes for ever."""
    names = Names()
    names.answers[A] = ["192.0.2.1"]
    scene = Scene(Endpoint(A, per_address=True), names=names)
    scene.endpoints._dns.open = lambda: None  # type: ignore[method-assign]
    return scene


def test_the_wait_for_the_first_look_up_ends_with_the_deadline() -> None:
    scene = unanswered()
    started = scene.clock.now()
    with pytest.raises(DeadlineError, match=r"3 s .*looking the service's name up"):
        scene.endpoints.choose(*terms(scene.batch(3.0)), (), started)
    assert scene.clock.now() == started + 3.0


def test_the_wait_for_the_first_look_up_ends_with_the_job_or_the_client() -> None:
    scene = unanswered()
    batch = scene.batch()
    batch.stop.set()
    with pytest.raises(ClosedError):
        scene.endpoints.choose(*terms(batch), (), scene.clock.now())
    scene.endpoints.close(0)
    with pytest.raises(ClosedError):
        scene.choose()


def test_a_name_without_address_is_an_error_that_says_when_to_ask_again() -> None:
    names = Names()
    names.answers[A] = DOWN
    scene = Scene(Endpoint(A, per_address=True), names=names)
    scene.endpoints._dns.look()
    with pytest.raises(NoEndpointError, match="has no address") as caught:
        scene.choose()
    assert caught.value.retry_after == 1.0
    look_after(scene, 1, "192.0.2.1")
    assert scene.choose().address == "192.0.2.1"


def test_other_endpoints_serve_while_a_name_is_looked_up() -> None:
    names = Names()
    names.answers[A] = ["192.0.2.1"]
    scene = Scene(Endpoint(A, per_address=True), B, names=names)
    assert scene.choose().label == B
    assert scene.choose().pool is scene.endpoints


def test_a_failed_connection_has_the_name_looked_up_again() -> None:
    scene = named("192.0.2.1")
    del scene.endpoints._dns.open
    scene.endpoints.open()
    eventually(lambda: len(scene.names.asked) == 2)
    scene.endpoints.look_again(scene.clock.now() + 10)
    eventually(lambda: len(scene.names.asked) == 3)
    scene.endpoints.close(10)


# -- how many at once -----------------------------------------------------------------------------


def test_the_places_are_those_of_all_addresses_within_the_pool() -> None:
    assert Scene(A).endpoints.places(0) == 50
    assert Scene(A, Endpoint(B, max_connections=20)).endpoints.places(0) == 70
    assert named("192.0.2.1", "192.0.2.2").endpoints.places(0) == 100
    assert named("192.0.2.1", "192.0.2.2", "192.0.2.3").endpoints.places(0) == 120
    assert unanswered().endpoints.places(0) == 50


# -- drain ----------------------------------------------------------------------------------------


def test_a_drained_endpoint_gets_nothing_until_it_is_resumed() -> None:
    scene = Scene(A, B)
    assert scene.endpoints.drain(A, 0)
    assert set(scene.chosen()) == {B}
    scene.endpoints.resume(A)
    assert set(scene.chosen()) == {A, B}


def test_draining_tells_whether_something_is_still_in_flight() -> None:
    scene = Scene(A, B)
    one, other = scene.endpoints.endpoints
    other.join(0.0)
    one.join(0.0)
    assert not scene.endpoints.drain(A, 0.02)
    threading.Timer(0.05, one.leave, [0.0]).start()
    assert scene.endpoints.drain(A, 30)


@pytest.mark.parametrize("more", [(B,), (B, C)])
def test_draining_waits_for_an_attempt_that_was_just_given_the_endpoint(more) -> None:
    scene = Scene(A, *more)
    batch, now = scene.batch(), scene.clock.now()
    chosen = [scene.endpoints.choose(*terms(batch), (), now) for _ in range(20)]
    assert A in [endpoint.label for endpoint in chosen]
    assert not scene.endpoints.drain(A, 0)
    for endpoint in chosen:
        endpoint.leave(now)
    assert scene.endpoints.drain(A, 0)


def test_an_endpoint_that_is_drained_in_the_middle_of_the_choice_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, drained = Scene(A, B), []
    one, other = scene.endpoints.endpoints

    def drain_meanwhile(endpoints: Sequence[EndpointState], *_: object) -> EndpointState:
        if not drained:
            drained.append(scene.endpoints.drain(A, 0))
            return one
        return endpoints[0]

    monkeypatch.setattr("cosy_sync.endpoints.pool.pick", drain_meanwhile)
    assert scene.choose() is other
    assert drained == [True] and not one.busy


def test_a_hedge_goes_to_no_endpoint_that_is_drained_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, drained = Scene(A, B), []
    one, other = scene.endpoints.endpoints

    def drain_meanwhile(endpoints: Sequence[EndpointState], *_: object) -> EndpointState:
        drained.append(scene.endpoints.drain(B, 0))
        return other

    monkeypatch.setattr("cosy_sync.endpoints.pool.pick", drain_meanwhile)
    assert scene.endpoints.another(one, scene.clock.now()) is None
    assert drained == [True] and not other.busy


def test_a_second_drain_waits_again_for_what_the_first_one_left() -> None:
    scene = Scene(A, B)
    one, _ = scene.endpoints.endpoints
    one.join(0.0)
    assert not scene.endpoints.drain(A, 0) and not scene.endpoints.drain(A, 0.01)
    drained: list[bool] = []
    waiting = threading.Thread(target=lambda: drained.append(scene.endpoints.drain(A, 30)))
    waiting.start()
    one.leave(0.0)
    waiting.join(20)
    assert drained == [True]


def test_a_drained_name_stays_drained_whatever_its_addresses() -> None:
    scene = named("192.0.2.1", more=(B,))
    assert scene.endpoints.drain(A, 0)
    look_after(scene, 0, "192.0.2.2", "192.0.2.3")
    assert scene.labels() == [B]
    scene.endpoints.resume(A)
    assert len(scene.labels()) == 3


def test_draining_brings_back_those_whom_half_can_no_longer_spare() -> None:
    scene = Scene(A, B)
    bad = scene.endpoint(A)
    scene.fail(bad)
    scene.fail(bad)
    scene.endpoints.leave_out(B)
    assert scene.events[-1] == EndpointReadmitted(A)
    assert scene.choose() is bad


def test_the_last_endpoint_cannot_be_drained() -> None:
    with pytest.raises(ConfigError, match="last endpoint"):
        Scene(A).endpoints.drain(A, 0)
    scene = Scene(A, B)
    scene.endpoints.drain(A, 0)
    assert scene.endpoints.drain(A, 0)  # again is no harm
    with pytest.raises(ConfigError, match="last endpoint"):
        scene.endpoints.drain(B, 0)
    assert scene.labels() == [B]


def test_an_unknown_url_is_refused_with_those_that_are_known() -> None:
    scene = Scene(A, B)
    for call in (lambda: scene.endpoints.drain(C, 0), lambda: scene.endpoints.resume(C)):
        with pytest.raises(ConfigError, match=r"the client has http://a\.test/, http://b\.test/"):
            call()


def test_only_the_names_that_are_not_drained_are_reasons() -> None:
    names = Names()
    names.answers[A], names.answers[B] = DOWN, ConnectError("lost")
    scene = Scene(Endpoint(A, per_address=True), Endpoint(B, per_address=True), names=names)
    scene.endpoints._dns.look()
    with pytest.raises(NoEndpointError, match=r"send to: the name has no address; lost$"):
        scene.choose()
    scene.endpoints.leave_out(A)
    with pytest.raises(NoEndpointError, match=r"send to: lost$"):
        scene.choose()


# -- locks ----------------------------------------------------------------------------------------


def test_stations_are_made_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*args: Any, **options: Any) -> EndpointState:
        locks.check("making a station")
        return EndpointState(*args, **options)

    monkeypatch.setattr(cluster_module, "EndpointState", make)
    with locks.watched(monkeypatch) as found:
        scene = named("192.0.2.1", "192.0.2.2", more=(B,))
        scene.endpoints.leave_out(A)
        scene.names.answers[A] = ("192.0.2.2", "192.0.2.3")
        scene.endpoints._dns.look()
        scene.endpoints.resume(A)
    assert found == []
    assert {endpoint.address for endpoint in scene.endpoints.endpoints} >= {"192.0.2.3", None}


def test_an_address_that_came_and_left_while_its_endpoint_was_left_out_is_forgotten() -> None:
    scene = named("192.0.2.1", more=(B,))
    scene.endpoints.leave_out(A)
    scene.names.answers[A] = ("192.0.2.1", "192.0.2.2")
    scene.endpoints._dns.look()
    scene.names.answers[A] = ("192.0.2.1",)
    for _ in range(3):
        scene.clock.advance(3_600.0)
        scene.endpoints._dns.look()
    scene.endpoints.resume(A)
    assert len(scene.endpoints.endpoints) == 2


def test_where_all_that_take_a_text_were_drained_the_error_says_what_to_do() -> None:
    scene = Scene(A, B)
    part = scene.endpoints.part({A})
    scene.endpoints.leave_out(A)
    words = r"^no endpoint to send to: http://a\.test/ was drained, and the others do not take "
    words += r"this text's model; resume\(\) brings it back$"
    with pytest.raises(NoEndpointError, match=words):
        part.choose(*terms(scene.batch()), (), scene.clock.now())
    scene.endpoints.resume(A)
    assert part.choose(*terms(scene.batch()), (), scene.clock.now()).label == A
