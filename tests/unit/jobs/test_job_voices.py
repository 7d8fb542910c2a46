"""A job's texts are spoken as their rows say, each in its own voice."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cosy_sync import ConfigError, CosyClient, Endpoint, Recording, Voice
from cosy_sync.jobs import JobOptions, JobText, run_job
from cosy_sync.jobs.identity import TextDigest
from cosy_sync.server import Server, tone_wav


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0) as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[CosyClient]:
    with CosyClient(Endpoint(server.url, rate=None), voice="中文女") as made:
        yield made


def sounds(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in folder.glob("*/*.wav")}


VOICES = (None, "中文男", "英文女")
TEXTS = [
    JobText(
        f"t{number}",
        f"第{number}句话",
        voice=VOICES[number % 3],
        speed=1.5 if number % 5 == 0 else None,
    )
    for number in range(200)
]
WANTED = {
    text.id: tone_wav(text.text, voice=text.voice or "中文女", speed=text.speed or 1.0)
    for text in TEXTS
}


@pytest.mark.parametrize("whole", [True, False])
def test_each_text_is_spoken_in_its_own_voice_and_speed(
    client: CosyClient, tmp_path: Path, whole: bool
) -> None:
    result = run_job(iter(TEXTS), tmp_path, client, JobOptions(whole=whole))
    assert result.complete and result.counts.spoken == 200
    assert sounds(tmp_path) == WANTED
    again = run_job(iter(TEXTS), tmp_path, client, JobOptions(whole=whole))
    assert again.complete and again.counts.skipped == 200


def test_texts_of_one_voice_share_requests_in_whatever_order_they_come(
    client: CosyClient, server: Server, tmp_path: Path
) -> None:
    before = server.stats()["requests"]
    assert run_job(TEXTS, tmp_path, client).complete
    # Six ways to speak, 200 texts: one by one it would be some 134 requests.
    assert server.stats()["requests"] - before < 40


def test_a_limit_and_a_stop_hold_for_texts_with_voices(client: CosyClient, tmp_path: Path) -> None:
    texts = [text for text in TEXTS if text.voice]
    result = run_job(texts, tmp_path, client, JobOptions(limit=50))
    assert result.limited and result.counts.spoken == 50 == len(sounds(tmp_path))
    assert run_job(texts, tmp_path, client).counts.spoken == len(texts) - 50


def test_what_came_before_a_wrong_line_is_kept(client: CosyClient, tmp_path: Path) -> None:
    def texts() -> Iterable[JobText]:
        yield from TEXTS[1:3]
        raise ConfigError("in, line 3: wrong")

    with pytest.raises(ConfigError, match="line 3"):
        run_job(texts(), tmp_path, client, JobOptions(whole=False))
    assert sounds(tmp_path) == {id: WANTED[id] for id in ("t1", "t2")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (JobText("bad", "你好", speed=9.0, place="in, line 2"), "in, line 2: speed: must be"),
        (JobText("bad", "你好", instruction="开心"), "'bad': voice: the wire .batch. cannot"),
        (JobText("bad", "你好", voice=" "), "'bad': voice: expected the name"),
        (JobText("bad", "\udfff"), "'bad': half a character"),
        (JobText("b\ud800", "你好"), "half a character"),
        (JobText("b\0", "你好"), "hold a NUL"),
        (JobText("", "你好"), "must not be empty"),
        (JobText(7, "你好"), "expected words as id, found int"),  # type: ignore[arg-type]
    ],
)
def test_a_text_that_can_not_be_spoken_as_it_asks_is_refused_before_anything_is_sent(
    client: CosyClient, tmp_path: Path, text: JobText, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run_job([JobText("good", "你好"), text], tmp_path, client)
    assert not sounds(tmp_path)


def test_what_else_the_service_is_told_makes_another_text() -> None:
    digests = set()
    for extra in ({}, {"service": "a"}, {"service": "b"}):
        with CosyClient("http://127.0.0.1:9/batch", extra=extra) as client:
            digests.add(TextDigest(client)(JobText("a", "你好")))
    assert len(digests) == 3


def test_another_recording_of_the_voice_is_another_text() -> None:
    voices = (
        Voice(reference=Recording(wav=b"", sample_rate=16_000, duration=3.0, digest=digest))
        for digest in ("1", "1", "2")
    )
    digests = []
    for voice in voices:
        with CosyClient("http://127.0.0.1:9/tts", wire="runtime_http", voice=voice) as client:
            digests.append(TextDigest(client)(JobText("a", "你好")))
    assert digests[0] == digests[1] != digests[2]
