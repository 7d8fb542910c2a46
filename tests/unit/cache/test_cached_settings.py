"""Each text is looked up and kept as what it is spoken with: a call's settings, or its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosy_sync import (
    Audio,
    AuthError,
    CoalesceConfig,
    ConfigError,
    CosyClient,
    DiskCache,
    Endpoint,
    Utterance,
    Voice,
)
from cosy_sync.engine import encoding
from cosy_sync.server import Server, tone_wav

OTHER = "英文女"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(latency=0, rate=0, max_connections=0) as made:
        yield made


@pytest.fixture
def make(server: Server) -> Iterator[Callable[..., CosyClient]]:
    clients: list[CosyClient] = []

    def build(**settings: Any) -> CosyClient:
        settings = {"voice": "中文女", "cache": "memory", **settings}
        clients.append(CosyClient(Endpoint(server.url, rate=None), **settings))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


def sound(text: str, **settings: Any) -> bytes:
    return tone_wav(text, **{"voice": "中文女", **settings})


def item(number: int) -> Utterance:
    """One of several kinds of items: with an id, a voice and a speed, or without."""
    own: dict[str, Any] = {}
    if number % 2:
        own["id"] = f"row-{number}"
    if number % 3 == 1:
        own["voice"] = OTHER
    if number % 5 == 1:
        own["speed"] = 1.5
    return Utterance(f"第{number}句话", **own)


def sound_of(item: Utterance) -> bytes:
    return sound(item.text, voice=item.voice or "中文女", speed=item.speed or 1.0)


CALLS: dict[str, Callable[..., list[Any]]] = {
    "synth_many": lambda client, items: client.synth_many(items, on_error="return"),
    "synth_iter": lambda client, items: list(client.synth_iter(iter(items))),
}


@pytest.mark.parametrize("count", [7, 200])
@pytest.mark.parametrize("call", CALLS)
def test_items_with_voices_come_back_in_order_with_their_ids_whether_known_or_not(
    make: Any, server: Server, call: str, count: int
) -> None:
    client, items = make(batch_size=16), [item(number) for number in range(count)]
    client.synth_many(items[::2])
    before = server.stats()["texts"]
    outcomes = CALLS[call](client, items)
    assert server.stats()["texts"] - before == count // 2
    assert [each.index for each in outcomes] == list(range(count))
    assert [(each.id, each.text) for each in outcomes] == [(each.id, each.text) for each in items]
    assert [each.audio.from_cache for each in outcomes] == [n % 2 == 0 for n in range(count)]
    assert [each.audio.data for each in outcomes] == [sound_of(each) for each in items]
    assert all(each.audio.from_cache for each in CALLS[call](client, items))


@pytest.mark.parametrize("call", CALLS)
def test_one_text_in_two_voices_is_two_texts(make: Any, call: str) -> None:
    client = make()
    items = ["你好", Utterance("你好", voice=OTHER), Utterance("你好", speed=1.5)]
    client.synth("你好")
    assert [each.audio.from_cache for each in CALLS[call](client, items)] == [True, False, False]
    assert client.synth("你好", voice=OTHER).data == sound("你好", voice=OTHER)
    assert client.synth("你好", voice=OTHER).from_cache
    assert client.synth("你好", speed=1.5).from_cache


def test_an_item_that_wants_what_its_call_has_is_no_other_text(make: Any) -> None:
    client = make()
    client.synth("你好")
    items = [("a", "你好"), Utterance("你好", voice="中文女"), Utterance("你好", speed=1.0)]
    assert all(audio.from_cache for audio in client.synth_many(items))


def test_errors_of_items_bear_their_ids_also_from_the_cache(make: Any, server: Server) -> None:
    client = make()
    items = [("a", "你好"), ("b", " "), ("c", "再见")]
    for _ in range(2):
        outcomes = client.synth_many(items, on_error="return")
        assert [(each.id, each.ok) for each in outcomes] == [("a", 1), ("b", 0), ("c", 1)]
        assert outcomes[1].error.id == "b" and outcomes[1].error.index == 1


# -- a call's settings ----------------------------------------------------------------------------

ONE: dict[str, Callable[..., Audio]] = {
    "synth": lambda client, text, **own: client.synth(text, **own),
    "submit": lambda client, text, **own: client.submit(text, **own).result(10),
    "synth_many": lambda client, text, **own: client.synth_many([text], **own)[0],
    "synth_iter": lambda client, text, **own: next(client.synth_iter([text], **own)).result(),
}


@pytest.mark.parametrize("call", ONE)
def test_a_calls_own_settings_are_looked_up_and_kept_as_such(make: Any, call: str) -> None:
    client, speak = make(), ONE[call]
    client.synth("你好")
    first, second = (speak(client, "你好", voice=OTHER) for _ in range(2))
    assert (first.from_cache, second.from_cache) == (False, True)
    assert second.data == sound("你好", voice=OTHER)
    assert speak(client, "你好").data == sound("你好")
    assert speak(client, "你好", deadline=5.0, tenant="b").from_cache


@pytest.mark.parametrize("call", ONE)
def test_cache_none_of_a_call_goes_past_the_cache(make: Any, call: str) -> None:
    client, speak = make(), ONE[call]
    client.synth("你好")
    assert not speak(client, "你好", cache=None).from_cache
    assert not speak(client, "再见", cache=None).from_cache
    assert not speak(client, "再见").from_cache  # and nothing of it was kept


def test_a_call_has_no_store_of_its_own(make: Any) -> None:
    with pytest.raises(ConfigError, match="cache: its store belongs to the whole client"):
        make().synth("你好", cache=DiskCache("elsewhere"))
    with pytest.raises(ConfigError, match="cache: its store belongs to the whole client"):
        make(cache=None).synth("你好", cache="memory")


def test_threads_with_other_settings_never_get_each_others_audio(make: Any) -> None:
    client, wrong = make(), []

    def speak(number: int) -> None:
        voice = OTHER if number % 2 else "中文女"
        for turn in range(60):
            text = f"第{turn % 6}句话"
            if client.synth(text, voice=voice).data != sound(text, voice=voice):
                wrong.append((number, turn))

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


def test_narrating_with_a_calls_settings_sends_once(make: Any, server: Server) -> None:
    client, text = make(), "今天天气很好。我们去公园吧！\n\n明天会下雨吗？"
    client.narrate(text)
    first = client.narrate(text, voice=OTHER)
    before = server.stats()["texts"]
    assert client.narrate(text, voice=OTHER).audio == first.audio != client.narrate(text).audio
    assert server.stats()["texts"] == before


def test_digest_and_invalidate_take_a_calls_settings(make: Any) -> None:
    client = make()
    client.synth_many(["你好", Utterance("你好", voice=OTHER)])
    assert client.digest("你好", voice=OTHER) == make(voice=OTHER).digest("你好")
    assert client.digest("你好", voice=Voice("中文女")) == client.digest("你好")
    client.cache.invalidate("你好", voice=OTHER)
    assert client.synth("你好").from_cache
    assert not client.synth("你好", voice=OTHER).from_cache
    with pytest.raises(ConfigError, match="voices"):
        client.digest("你好", voices=OTHER)


# -- prepared texts -------------------------------------------------------------------------------


def numbers(text: str) -> str:
    return text.replace("3", "三")


@pytest.mark.parametrize("call", ONE)
def test_a_prepared_text_is_known_by_what_is_sent(make: Any, call: str) -> None:
    client, speak = make(prepare=numbers), ONE[call]
    assert client.digest("有3个") == client.digest("有三个") == make().digest("有三个")
    assert client.digest("有3个", prepare=None) == make().digest("有3个")
    speak(client, "有3个")
    for text in ("有3个", "有三个"):
        known = speak(client, text)
        assert known.from_cache and known.data == sound("有三个")
    assert not speak(client, "有3个", prepare=None).from_cache
    client.cache.invalidate("有3个")
    assert not speak(client, "有三个").from_cache


def test_outcomes_of_known_texts_keep_the_text_that_was_given(make: Any) -> None:
    client = make(prepare=numbers)
    for _ in range(2):
        outcomes = client.synth_many([("a", "有3个"), "有3位"], on_error="return")
        assert [(each.id, each.text) for each in outcomes] == [("a", "有3个"), (None, "有3位")]


# -- formats --------------------------------------------------------------------------------------


def test_audio_is_kept_encoded_and_never_encoded_again(
    make: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    client = make(format="mp3")
    texts = [f"第{number}句话" for number in range(70)]
    first = [client.synth("你好"), *client.synth_many(texts)]
    before = server.stats()["texts"]
    monkeypatch.setattr(encoding.Encoding, "encode", None)
    again = [client.synth("你好"), *client.synth_many(texts)]
    assert server.stats()["texts"] == before
    assert [each.data for each in again] == [each.data for each in first]
    for audio, spoken in zip(again, first, strict=True):
        assert audio.from_cache and audio.format == "mp3" and audio.duration == spoken.duration


def test_other_formats_and_qualities_are_other_audio(make: Any) -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    client, kinds = make(), [{}, {"format": "pcm"}, {"format": "mp3"}]
    kinds += [{"format": "mp3", "quality": 0}, {"format": "mp3", "quality": 1}]
    first = [client.synth("你好", **kind) for kind in kinds]
    again = [client.synth("你好", **kind) for kind in kinds]
    assert not any(audio.from_cache for audio in first) and all(a.from_cache for a in again)
    assert [audio.data for audio in again] == [audio.data for audio in first]
    assert len({client.digest("你好", **kind) for kind in kinds}) == len(kinds)


def test_a_stream_of_an_encoded_format_is_kept_as_samples() -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    settings: dict[str, Any] = {"wire": "openai", "voice": "中文女", "model": "m"}
    with (
        Server(latency=0) as server,
        CosyClient(
            server.url.replace("/batch", "/v1"), cache="memory", format="mp3", **settings
        ) as client,
    ):
        with client.stream("你好世界") as stream:
            heard = b"".join(stream)
        requests = server.stats()["requests"]
        with client.stream("你好世界") as stream:
            assert b"".join(stream) == heard
        assert client.stream("你好世界").audio().format == "mp3"
        assert client.synth("你好世界", format="wav").pcm() == heard
        assert server.stats()["requests"] == requests
        assert not client.synth("你好世界").from_cache


# -- leases ---------------------------------------------------------------------------------------


def test_leases_of_texts_that_are_not_sent_after_all_go_back_at_once(tmp_path: Path) -> None:
    # A wrong key is the verdict on the whole call: most of its texts never become a request.
    texts = [f"第{number}句话" for number in range(2000)]
    with (
        Server(latency=0, api_key="sk-right") as server,
        CosyClient(server.url, api_key="sk-wrong", cache=DiskCache(tmp_path)) as client,
    ):
        outcomes = client.synth_many(texts, on_error="return")
        assert all(isinstance(each.error, AuthError) for each in outcomes)
        assert server.stats()["requests"] < 100
        assert not list((tmp_path / "v1" / "leases").iterdir())


# -- texts that share a batch ---------------------------------------------------------------------

SHARING: dict[str, Callable[[CosyClient, list[str]], list[Audio]]] = {
    "synth": lambda client, texts: [client.synth(texts[0])],
    "submit": lambda client, texts: [client.submit(texts[0]).result(10)],
    "few": lambda client, texts: client.synth_many(texts),
    "few in voices": lambda client, texts: client.synth_many(
        [Utterance(text, voice="中文女" if text.startswith("早") else OTHER) for text in texts]
    ),
}


@pytest.mark.parametrize("call", SHARING)
def test_texts_of_several_calls_in_one_batch_are_kept_each_as_itself(
    make: Any, server: Server, call: str
) -> None:
    client, speak = make(coalesce=CoalesceConfig(linger=0.05)), SHARING[call]
    groups = [[f"{when}上第{n}次{'好' * n}" for when in "早晚中"] for n in range(8)]
    barrier, before = threading.Barrier(len(groups)), server.stats()["requests"]
    spoken: dict[int, list[Audio]] = {}

    def work(number: int) -> None:
        barrier.wait(10)
        spoken[number] = speak(client, groups[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(groups))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert server.stats()["requests"] - before < len(groups)
    for number, texts in enumerate(groups):
        known = speak(client, texts)
        assert all(audio.from_cache for audio in known)
        assert [audio.data for audio in known] == [audio.data for audio in spoken[number]]
        if call != "few in voices":
            assert [audio.data for audio in known] == [sound(text) for text in texts[: len(known)]]
