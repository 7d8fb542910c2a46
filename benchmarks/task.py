"""What is measured: places of the upstream, tasks for workers, contenders, settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

__all__ = ["Contender", "Place", "Setting", "Task"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """One address of the upstream and what it answers.

    Args:
        form: plain (bytes without meaning), json or multipart (a right reply of the batch wire),
            speech (of the wire openai; only with a latency).
        texts: Texts that the reply holds.
        size: Bytes of the reply where it is plain, of each text's samples where it is not.
        latency: Seconds until the reply begins.
        ports: Ports that the same answer is served on.
    """

    form: str
    texts: int = 1
    size: int
    latency: float = 0.0
    ports: int = 1

    @property
    def reply_name(self) -> str:
        """Name the reply; places that differ in latency alone share it."""
        return f"{self.form}-{self.texts}-{self.size}"

    @property
    def name(self) -> str:
        """Name the place; it is its path as well, where it has a latency."""
        name = f"{self.reply_name}-{round(self.latency * 1000)}ms"
        return f"{name}/v1/audio/speech" if self.form == "speech" else name


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker is told.

    Args:
        urls: Where to send; several are endpoints with limits of their own.
        in_flight: Connections, and so requests under way.
        warm: Seconds before the window opens.
        seconds: Length of the window.
        latency: Seconds that the upstream takes at least.
        texts: How many texts, where the work is finite.
        rate: Requests per second to each endpoint; 0 means as many as possible.
        variant: Which of its ways a peer takes.
        free: Not pinned to one core, as a user's own process.
    """

    urls: tuple[str, ...] = ()
    in_flight: int = 50
    warm: float = 0.8
    seconds: float = 2.0
    latency: float = 0.0
    texts: int = 0
    rate: float = 0.0
    variant: str = ""
    free: bool = False

    @property
    def most_calls(self) -> int:
        """Return how many calls the ideal client makes from the start to the window's end."""
        return int(self.in_flight * ((self.warm + self.seconds) / self.latency + 1))


@dataclass(frozen=True)
class Contender:
    """A row of a table: a peer, and which of its ways it takes.

    `form` overrides the form of the place that it is sent to.
    """

    label: str
    peer: str
    variant: str = ""
    form: str = ""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One part of a table: the same task for every contender."""

    key: str
    title: str
    place: Place
    task: Task
    contenders: tuple[Contender, ...] = field(default=())
    unit: str = "requests"

    @property
    def heading(self) -> str:
        """Return the title, and which cores the client may use."""
        return f"{self.title}, client {'free on all cores' if self.task.free else 'on one core'}"

    def freed(self) -> Setting:
        """Return the same setting with a client that may use all cores."""
        return replace(self, key=f"{self.key}-free", task=replace(self.task, free=True))
