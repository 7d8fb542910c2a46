"""Every error that cosy_sync raises.

CosyError
  ConfigError(ValueError)       a setting is unknown or wrong; names the field and the fix
  InvalidTextError(ValueError)  a text is empty, too long or not encodable; refused before sending
  ClosedError                   the client was closed
  RefusedError                  not sent, by our own decision
    ShedError                   too much is waiting already
    BreakerOpenError            the endpoint failed too often lately
    RateLimitedError            our own rate limit could not let it through in time
    OverloadError               the endpoint accepts too few calls; most are held back
    NoEndpointError             the name of the service has no address now
  DeadlineError(TimeoutError)   the caller's time ran out
  TransportError                the network failed
    ConnectError                no connection: surely not received
    ResourceError               this machine is out of descriptors, ports or memory
    ReplyTimeout                sent, but the reply did not come in time
    CutError                    the connection ended in the middle; carries what came
  ServerError                   the service answered with an error
    BadRequestError             it will refuse this request again
    AuthError                   the key is missing or wrong
    BillingError                the account cannot pay
    ThrottledError              too many requests; may carry retry_after
    UnavailableError            it cannot answer now
    TextError                   it refused this one text of a batch
  BadAudioError                 a 200 without the audio that was promised
    UnframedError               only the connection's end ended it: a CutError, for all one can tell
  UnexpectedError               something broke that never should: a hook, a mock, a bug
  BatchError                    some texts of a call failed; carries every outcome

Each class says five things, so that nobody needs a table of types:
`sent` (may the service have seen it), `retryable` (may a repetition succeed),
`trips` (does it count as a failure of the endpoint), `accepted` (did the endpoint take the call
and answer it; None where nobody knows) and `hopeless` (would every other text end like this).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .error_forms import MAKERS, plain, restored

if TYPE_CHECKING:
    from .models import Outcome

__all__ = [
    "AuthError",
    "BadAudioError",
    "BadRequestError",
    "BatchError",
    "BillingError",
    "BreakerOpenError",
    "ClosedError",
    "ConfigError",
    "ConnectError",
    "CosyError",
    "CutError",
    "DeadlineError",
    "InvalidTextError",
    "NoEndpointError",
    "OverloadError",
    "RateLimitedError",
    "RefusedError",
    "ReplyTimeout",
    "ResourceError",
    "ServerError",
    "ShedError",
    "TextError",
    "ThrottledError",
    "TransportError",
    "UnavailableError",
    "UnexpectedError",
    "UnframedError",
    "server_error",
    "without_advice",
]

_E = TypeVar("_E", bound="CosyError")


class CosyError(Exception):
    """What every error of this library is.

    `endpoint` is the address without key or query, `index` the text's place in the call, `id` what
    it was given with, `text_hash` a short hash of it (never the text), `attempts` the earlier
    errors of the same text. An error that ends a stream after its first sound carries all of its
    sound, 16-bit PCM, as `partial`.
    It survives pickling, and JSON as `to_dict`; `args` is the message and what it knows
    beside it, of which whoever stores errors by class and arguments makes it again, as Celery does.
    """

    sent: ClassVar[bool] = False
    retryable: ClassVar[bool] = False
    trips: ClassVar[bool] = False
    accepted: ClassVar[bool | None] = None
    hopeless: ClassVar[bool] = False
    partial: bytes = b""
    id: str | int | None = None

    def __init__(
        self, message: str, known: Mapping[str, Any] | None = None, /, **details: Any
    ) -> None:
        super().__init__(message)
        self.message = message
        self.endpoint: str | None = None
        self.index: int | None = None
        self.text_hash: str | None = None
        self.attempts: tuple[CosyError, ...] = ()
        self.__dict__.update(restored(known) if known else {}, **details)

    @property
    def args(self) -> tuple[Any, ...]:
        """Return the message, and what else is known as plain values, if anything is."""
        known = plain(self.__dict__)
        return (self.message, known) if known else (self.message,)

    @args.setter
    def args(self, given: tuple[Any, ...]) -> None:
        self.message = str(given[0]) if given else ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON: `type`, `message`, and what else it knows, such as
        `index`, `status` and `retry_after`; `attempts` and a BatchError's `outcomes` likewise.

        Sound and texts stay behind. `CosyError.from_dict` makes it an error again.
        """
        return {"type": type(self).__name__, "message": self.message, **plain(self.__dict__)}

    @staticmethod
    def from_dict(form: Mapping[str, Any]) -> CosyError:
        """Return the error that `to_dict` wrote down; of an unknown type, a CosyError."""
        known = {name: value for name, value in form.items() if name not in ("type", "message")}
        found = globals().get(str(form.get("type")))
        if not (isinstance(found, type) and issubclass(found, CosyError)):
            found = CosyError
        return found(str(form.get("message", "")), known)

    def __str__(self) -> str:
        name = "" if self.id is None else f" {self.id!r}"
        notes = [] if self.index is None else [f"text {self.index}{name}"]
        if self.text_hash is not None:
            notes.append(f"#{self.text_hash}")
        if self.endpoint is not None:
            notes.append(self.endpoint)
        if self.attempts:
            made = self.attempt_count
            notes.append(f"after {made} attempt{'s' if made > 1 else ''}")
        return f"{self.message} [{', '.join(notes)}]" if notes else self.message

    @property
    def attempt_count(self) -> int:
        """Return how many attempts were made: `attempts`, and the one that ended like this."""
        return len(self.attempts) + self._ended_an_attempt()

    def _ended_an_attempt(self) -> bool:
        return self.sent or isinstance(self, ConnectError)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), (self.message,), dict(self.__dict__))

    def reworded(self: _E, message: str) -> _E:
        """Return a copy with another message."""
        return self.with_details(message=message)

    def with_details(self: _E, **details: Any) -> _E:
        """Return a copy that knows more; the cause stays."""
        copy: _E = _rebuild(type(self), (self.message,), {**self.__dict__, **details})
        copy.__cause__ = self.__cause__
        return copy


MAKERS["error"] = CosyError.from_dict


def _rebuild(cls: type[_E], args: tuple[Any, ...], state: dict[str, Any]) -> _E:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class ConfigError(CosyError, ValueError):
    """A setting is unknown or wrong. The message names the field and the fix."""


class InvalidTextError(CosyError, ValueError):
    """A text cannot be sent: empty, too long, or not encodable as UTF-8."""


class ClosedError(CosyError):
    """The client was closed before this was done."""


class RefusedError(CosyError):
    """Not sent, by our own decision. `retry_after` says in how many seconds it may go through."""

    retryable = True
    retry_after: float | None = None


class ShedError(RefusedError):
    """Too much is waiting already."""

    retryable = False


class BreakerOpenError(RefusedError):
    """The endpoint failed too often lately. `retry_after`: seconds left of the pause."""


class RateLimitedError(RefusedError):
    """Our own rate limit has no room before the deadline."""


class NoEndpointError(RefusedError):
    """There is no endpoint to send to: its name has no address now."""


class OverloadError(RefusedError):
    """The endpoint accepts too few of the calls; more of them would only make it worse."""


class DeadlineError(CosyError, TimeoutError):
    """The caller's time ran out. `deadline`: the caller's number (seconds); `phase`: what ran;
    `in_flight`: an attempt was in flight, and is not among `attempts`."""

    sent = True
    deadline: float | None = None
    phase: str | None = None
    in_flight: bool = False

    def _ended_an_attempt(self) -> bool:
        return self.in_flight


class TransportError(CosyError):
    """The network failed. `timed_out`: it might have succeeded with more time."""

    sent = True
    retryable = True
    trips = True
    accepted: ClassVar[bool | None] = False
    timed_out: bool = False


class ConnectError(TransportError):
    """There was no connection: the service surely did not receive the request."""

    sent = False


class ResourceError(TransportError):
    """This machine is out of what a request needs: `resource` is descriptors, ports or memory.

    It says nothing about the endpoint. Where nothing was sent, the text waits until its deadline
    and uses up no attempt.
    """

    sent = False
    trips = False
    accepted = None
    resource: str = ""


class ReplyTimeout(TransportError):
    """The request was sent, but the reply did not come in time. `phase` says which wait ran out."""

    phase: str | None = None
    timed_out = True


class CutError(TransportError):
    """The connection ended in the middle. `partial`: the bytes of the reply's body that came (of a
    call of one text), or the sound of a stream."""


class ServerError(CosyError):
    """The service answered with an error: `status`, `code`, `request_id`, `retry_after` (s).

    `blames`, of one text's error in a reply for several: whom its sentence blames, the text, the
    voice or the service; "unknown" where nobody knows.
    """

    sent = True
    accepted = True
    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    blames: str | None = None


class BadRequestError(ServerError):
    """The service refuses this request and will refuse it again."""


class AuthError(ServerError):
    """The key is missing, wrong or not allowed to do this."""

    hopeless = True


class BillingError(ServerError):
    """The account cannot pay."""

    hopeless = True


class ThrottledError(ServerError):
    """Too many requests for the service's limits.

    `crowded`: the service bounds the requests at the same time, and says that those were too many.
    `by_rate`: it bounds the requests in a time, and says so: fewer at the same time change nothing.
    """

    retryable = True
    accepted = False
    crowded: bool = False
    by_rate: bool = False


class UnavailableError(ServerError):
    """The service cannot answer now."""

    retryable = True
    trips = True
    accepted = False


class TextError(ServerError):
    """The service refused this one text of a batch; the others were served."""


class BadAudioError(CosyError):
    """A 200 without the audio that was promised. `reason` is one word for counters.

    `alone`: only a request for this one text can tell whether the audio is its own.
    """

    sent = True
    retryable = True
    accepted: ClassVar[bool | None] = True
    reason: str = "not_audio"
    alone: bool = False


class UnframedError(BadAudioError, CutError):
    """Sound of which nothing but the connection's end says that it is whole: half of it would look
    the same. It is treated as bad audio, and not as an endpoint's failure."""

    trips = False
    reason: str = "unframed"


class UnexpectedError(CosyError):
    """Something broke that never should; its cause says what."""

    sent = True


class BatchError(CosyError):
    """Some texts of a call failed. `outcomes` holds one entry per text, finished audio included."""

    outcomes: Sequence[Outcome] = ()

    @property
    def failures(self) -> list[Outcome]:
        """Return the outcomes that are errors, in input order."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]


_ADVICE = {
    401: "check api_key (or COSY_SYNC_API_KEY)",
    402: "check the account's balance",
    403: "the key may not do this (check its permissions), or a firewall dislikes the text",
    404: "check the URL's path, and that wire= names what this service speaks",
    405: "check the URL's path: this address does not take POST",
    413: "send fewer or shorter texts a call (batch_size)",
    429: "lower the endpoint's rate or max_connections to what the service allows",
}

_WRONG_ADDRESS = (301, 302, 303, 307, 308, 404, 405)  # for every text: no redirect is followed


def server_error(status: int, message: str, **details: Any) -> ServerError:
    """Build the error that belongs to an HTTP status, with advice where there is any."""
    text = f"the service answered HTTP {status}: {message}" if message else f"HTTP {status}"
    if advice := _ADVICE.get(status):
        text = f"{text}; {advice}"
    if status in _WRONG_ADDRESS:
        details["hopeless"] = True
    return _class_for(status)(text, status=status, **details)


def without_advice(error: ServerError) -> str:
    """Return what an error says without what `server_error` advised by its status alone."""
    return error.message.replace(f"; {_ADVICE.get(error.status or 0, '')}", "", 1)


def _class_for(status: int) -> type[ServerError]:
    if status in (401, 403):
        return AuthError
    if status == 402:
        return BillingError
    if status == 429:
        return ThrottledError
    if status >= 500 or status == 408:
        return UnavailableError
    return BadRequestError if status >= 400 else ServerError
