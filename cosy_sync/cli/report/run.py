"""What one run left behind: a row for every text, and the summary of all."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One text of the run: its audio or its error, with timing."""

    # Position in the input; shown as it is.
    index: int
    text: str
    category: str
    # Path of the WAV file relative to the page, with forward slashes; None if there is none.
    file: str | None
    # Seconds of speech.
    seconds: float | None
    # Seconds from the start of the run to the sending of the text's batch call.
    started: float
    # Seconds from `started` to the reply.
    latency: float
    # Number of the batch call; texts of one call share it.
    batch: int
    error: str | None
    # Size of the WAV file.
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The run as a whole. Zero in a `serial_` field says that it was not measured."""

    texts: int
    failed: int
    speech_seconds: float
    wall_seconds: float
    texts_per_second: float
    # Seconds of call latency, counted once for each text.
    p50: float
    p99: float
    requests: int
    retries: int
    throttled: int
    connections_peak: int
    peak_requests_per_second: float
    # The same work one text after another, measured on `serial_count` texts.
    serial_texts_per_second: float
    serial_count: int
    speedup: float
    # Seconds of wall time per second of speech.
    real_time_factor: float
    engine: str
    endpoint: str
    version: str
    # ISO 8601.
    created: str
