"""What the server refuses: errors of one request, and of starting up."""

from __future__ import annotations

from cosy_sync.hints import install_line


class MissingExtraError(RuntimeError):
    """A package of an extra, `[server]` or another, is not installed."""

    def __init__(self, package: str, extra: str = "server") -> None:
        super().__init__(f"{package} is not installed: {install_line(extra)}")


class GrpcPortError(OSError):
    """The address of the wire `runtime_grpc` cannot be listened at."""


class RequestError(Exception):
    """One request refused with a status and the contract's error body."""

    def __init__(
        self, status: int, code: str, message: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def bad_request(message: str) -> RequestError:
    """Make the usual 400."""
    return RequestError(400, "bad_request", message)
