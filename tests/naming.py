"""A name server for tests: answers as it is told, and counts what it was asked."""

from __future__ import annotations

from collections.abc import Sequence

from cosy_sync.errors import ConnectError, CosyError


class Names:
    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers: dict[str, Sequence[str] | CosyError] = dict(answers)
        self.asked: list[str] = []
        self.forgotten: list[tuple[str, str]] = []

    def resolves(self, url: str) -> bool:
        return url in self.answers

    def addresses(self, url: str) -> Sequence[str]:
        self.asked.append(url)
        answer = self.answers[url]
        if isinstance(answer, CosyError):
            raise answer
        return answer

    def forget(self, url: str, address: str) -> None:
        self.forgotten.append((url, address))


DOWN = ConnectError("the name has no address")
