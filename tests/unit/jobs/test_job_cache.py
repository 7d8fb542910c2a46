"""A job and the client's cache know a text by the same digest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import ConfigError, CosyClient, DiskCache, Endpoint, Voice
from cosy_sync.jobs import JobText, run_job
from cosy_sync.jobs.identity import TextDigest
from cosy_sync.server import Server, tone_wav

URL = "http://tts.test/batch"
WORDS = [f"第{number}句话" for number in range(60)]
TEXTS = [JobText(f"t{number}", text) for number, text in enumerate(WORDS)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0) as made:
        yield made


def numbers(text: str) -> str:
    return text.replace("3", "三")


@pytest.mark.parametrize("settings", [{}, {"speed": 1.5, "prepare": numbers}])
def test_the_digest_of_a_jobs_text_is_the_clients(settings: dict[str, Any]) -> None:
    with CosyClient(URL, voice="中文女", **settings) as client:
        digest_of = TextDigest(client)
        assert digest_of(JobText("a", "有3个")).hex() == client.digest("有3个")
        own = digest_of(JobText("b", "有3个", voice="中文男", speed=0.5)).hex()
        assert own == client.digest("有3个", voice="中文男", speed=0.5) != client.digest("有3个")
        same = JobText("c", "有3个", voice="中文女", speed=client.config.speed)
        assert digest_of(same).hex() == client.digest("有3个")


def test_another_voice_of_a_row_keeps_the_clients_instruction() -> None:
    voice = Voice("中文女", instruction="开心地说")
    with CosyClient(URL, wire="runtime_http", voice=voice) as client:
        digest_of = TextDigest(client)
        other = Voice("中文男", instruction="开心地说")
        assert digest_of(JobText("a", "你好", "中文男")).hex() == client.digest("你好", voice=other)
        own = digest_of(JobText("a", "你好", instruction="用四川话说")).hex()
        assert own == client.digest("你好", voice=Voice("中文女", instruction="用四川话说"))


def test_texts_that_nobody_speaks_have_digests_and_wrong_settings_none() -> None:
    with CosyClient(URL, voice="中文女") as client:
        digest_of = TextDigest(client)
        assert len({digest_of(JobText("a", text)) for text in ("", " ", "长" * 9_999)}) == 3
        with pytest.raises(ConfigError, match="speed"):
            digest_of(JobText("a", "你好", speed=9.0))


@pytest.mark.parametrize("place", ["memory", "folder"])
def test_a_jobs_known_texts_cost_no_request(server: Server, tmp_path: Path, place: str) -> None:
    cache: Any = DiskCache(tmp_path / "cache") if place == "folder" else "memory"
    with CosyClient(Endpoint(server.url, rate=None), cache=cache) as client:
        client.synth_many(WORDS[::2])
        before = server.stats()
        assert run_job(TEXTS, tmp_path / "one", client).complete
        assert server.stats()["texts"] - before["texts"] == len(WORDS) // 2
        before = server.stats()
        result = run_job(TEXTS, tmp_path / "two", client)
        assert result.complete and result.counts.spoken == len(WORDS)
        assert server.stats()["requests"] == before["requests"]
        assert client.stats().cache_hits == len(WORDS) * 3 // 2
    for folder in ("one", "two"):
        sounds = {path.stem: path.read_bytes() for path in (tmp_path / folder).glob("*/*.wav")}
        assert sounds == {text.id: tone_wav(text.text) for text in TEXTS}


def test_what_a_job_spoke_is_known_to_a_program_with_the_same_cache(
    server: Server, tmp_path: Path
) -> None:
    url = Endpoint(server.url, rate=None)
    with CosyClient(url, cache=tmp_path / "cache") as client:
        assert run_job(TEXTS, tmp_path / "out", client).complete
    with CosyClient(url, cache=tmp_path / "cache") as client:
        assert all(audio.from_cache for audio in client.synth_many(WORDS))
