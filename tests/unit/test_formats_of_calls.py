"""format= as a setting: checked sound is encoded when nothing is held, and stays an Audio."""

import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from cosy_sync import Audio, ConfigError, CosyClient, CosyError, HedgeConfig, Outcome, VerifyConfig
from cosy_sync.engine.encoding import Encoding
from cosy_sync.testing import FakeService

soundfile = pytest.importorskip("soundfile", reason="needs the extra audio")

URL = "http://tts.test/batch"
ENCODED = ["mp3", "opus", "ogg", "flac"]
MAGIC = {"mp3": (b"\xff", b"ID3"), "opus": (b"OggS",), "ogg": (b"OggS",), "flac": (b"fLaC",)}


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def over(service: FakeService, url: Any = URL, **settings: Any) -> CosyClient:
    return CosyClient(url, http_client=httpx.Client(transport=service), **settings)


TEXT = "前方路口请左转"
CALLS: dict[str, Callable[[CosyClient], list[Audio]]] = {
    "synth": lambda client: [client.synth(TEXT)],
    "submit": lambda client: [client.submit(TEXT).result(10)],
    "few": lambda client: client.synth_many([TEXT, "再见了朋友们"]),
    "many": lambda client: client.synth_many([f"第{n}句话" for n in range(70)]),
    "lazy": lambda client: [o.result() for o in client.synth_iter([TEXT, "再见了朋友们"])],
    "narrate": lambda client: [client.narrate(TEXT).audio],
    "narrate_iter": lambda client: [each.audio for each in client.narrate_iter(TEXT)],
    "dub": lambda client: [client.dub([(0.0, 9.0, TEXT)]).audio],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("format", ENCODED)
def test_every_call_brings_the_format_with_the_length_of_the_sound(service, call, format) -> None:
    with over(service) as client:
        plain = CALLS[call](client)
    with over(service, format=format) as client:
        encoded = CALLS[call](client)
    for audio, sound in zip(encoded, plain, strict=True):
        assert audio.format == format and audio.data.startswith(MAGIC[format])
        assert (audio.duration, audio.sample_rate) == (sound.duration, sound.sample_rate)
        decoded, rate = soundfile.read(io.BytesIO(audio.data))
        assert len(decoded) / rate == pytest.approx(sound.duration, abs=0.03)
        assert len(audio.pcm()) == sound.pcm_size
    if format == "flac":
        assert encoded == plain


def test_a_call_has_a_format_and_a_quality_of_its_own(service) -> None:
    with over(service, format="mp3") as client:
        small, large = client.synth(TEXT, quality=0.0), client.synth(TEXT, quality=1.0)
        assert len(small.data) < len(client.synth(TEXT).data) < len(large.data)
        assert client.synth(TEXT, format="wav").format == "wav"
        assert client.synth(TEXT, format="flac").format == "flac"


def test_a_narrations_file_has_the_clients_quality_unless_it_has_its_own(service, tmp_path) -> None:
    from cosy_sync import NarrationConfig

    sizes = []
    for settings in (
        {"quality": 0.0},
        {"quality": 1.0},
        {"quality": 0.0, "narration": NarrationConfig(quality=1.0)},
    ):
        with over(service, format="mp3", **settings) as client:
            client.narrate(TEXT, to=tmp_path / "a.mp3")
        sizes.append((tmp_path / "a.mp3").stat().st_size)
    assert sizes[0] < sizes[1] == sizes[2]


def test_a_narration_is_encoded_once_as_a_whole(service, monkeypatch) -> None:
    encoded: list[Any] = []
    monkeypatch.setattr(Encoding, "encode", lambda *args: encoded.append(args) or args[2])
    with over(service, format="mp3") as client:
        narration = client.narrate("今天天气很好。我们出去走走吧！" * 10)
    assert encoded == [] and narration.audio.format == "mp3"


def test_the_users_check_hears_the_sound_before_it_is_encoded(service) -> None:
    heard: list[str] = []

    def check(text: str, audio: Audio) -> bool:
        heard.append(audio.format)
        return True

    with over(service, format="mp3", verify=VerifyConfig(check=check)) as client:
        assert client.synth(TEXT).format == "mp3"
    assert heard == ["wav"]


def test_the_service_is_asked_for_what_it_has(service) -> None:
    import json

    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.read())["format"])
        return service.handle_request(request)

    http_client = httpx.Client(transport=httpx.MockTransport(handle))
    with CosyClient(URL, http_client=http_client, format="mp3") as client:
        client.synth(TEXT)
        client.synth(TEXT, format="pcm")
    assert asked == ["wav", "pcm"]


@pytest.mark.parametrize("call", ["synth", "submit", "few", "many", "lazy"])
def test_nothing_is_held_while_sound_is_encoded(service, monkeypatch, call) -> None:
    seen: list[tuple[int, int]] = []
    with over(service, format="mp3") as client:
        engine = client._core.engine()
        plain = Encoding.encode

        def encode(*args: Any) -> Any:
            seen.append((engine.in_flight(), engine._memory.used))
            return plain(*args)

        monkeypatch.setattr(Encoding, "encode", encode)
        # One request after the other: what is in flight would be this one.
        for _ in range(2):
            CALLS[call](client) if call != "many" else client.synth_many([TEXT] * 40)
    assert seen and set(seen) == {(0, 0)}


def test_the_texts_of_one_batch_are_encoded_side_by_side_where_there_are_cores(
    service, monkeypatch
) -> None:
    monkeypatch.setattr("cosy_sync.engine.encoding._cores", lambda: 2)
    both, plain = threading.Barrier(2), Encoding._encode

    def encode(self: Encoding, result: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(20)  # each waits for the other: one after the other, it would never end
        return plain(self, result)

    monkeypatch.setattr(Encoding, "_encode", encode)
    with over(service, format="flac") as client:
        audios = client.synth_many([TEXT, "再见了朋友们"])
    assert audios == [
        Audio(FakeService.wav(t), "wav", 24000, 1, 44, len(FakeService.wav(t)) - 44)
        for t in (TEXT, "再见了朋友们")
    ]
    assert not both.broken and len(service.calls) == 1


def test_a_serial_client_encodes_on_the_callers_thread(service, monkeypatch) -> None:
    threads, plain = set(), Encoding._encode

    def encode(self: Encoding, result: Any) -> Any:
        threads.add(threading.get_ident())
        return plain(self, result)

    monkeypatch.setattr(Encoding, "_encode", encode)
    with over(service, format="flac", serial=True) as client:
        client.synth_many([f"第{n}句话" for n in range(10)])
        client.synth(TEXT)
    assert threads == {threading.get_ident()}


def test_an_encoder_that_breaks_is_the_texts_error(service, monkeypatch) -> None:
    monkeypatch.setattr(
        Audio, "as_format", lambda *args: (_ for _ in ()).throw(RuntimeError("broken"))
    )
    with over(service, format="mp3") as client:
        outcomes = client.synth_many([TEXT, "再见了朋友们"], on_error="return")
        assert {type(each.error).__name__ for each in outcomes} == {"UnexpectedError"}


def test_what_an_endless_call_holds_is_counted_as_encoded(service) -> None:
    with over(service, format="mp3") as client:
        engine = client._core.engine()
        call = engine.run_many(_utterances(), client._bulk, lazy=True)
        assert all(outcome.ok for outcome in call.outcomes())
        assert call._reorder._held == 0


def _utterances() -> Iterator[Any]:
    from cosy_sync import Utterance

    yield from (Utterance(f"第{n}句话", index=n) for n in range(200))


def test_texts_of_several_callers_are_encoded_once(service, monkeypatch) -> None:
    sizes: list[int] = []
    plain = Encoding.encode
    monkeypatch.setattr(
        Encoding, "encode", lambda *args: sizes.append(len(args[2])) or plain(*args)
    )
    with over(service, format="mp3") as client:
        futures = [client.submit(TEXT) for _ in range(5)]
        assert len({future.result(10).data for future in futures}) >= 1
    assert sum(sizes) == client.stats().texts_ok or sum(sizes) <= 5


def test_what_cannot_be_encoded_is_the_texts_error_and_no_others(service, monkeypatch) -> None:
    plain = Audio.as_format

    def refuse(audio: Audio, format: str, quality: float | None = None) -> Audio:
        if format == "mp3" and audio.duration < 1:
            raise ConfigError("format: there is no sound in it to encode")
        return plain(audio, format, quality)

    monkeypatch.setattr(Audio, "as_format", refuse)
    with over(service, format="mp3") as client:
        outcomes: list[Outcome] = client.synth_many(["好", TEXT], on_error="return")
        assert [each.ok for each in outcomes] == [False, True]
        assert "no sound in it to encode" in str(outcomes[0].error)
        assert len(service.calls) == 1  # it is not sent again
        with pytest.raises(CosyError, match="no sound"):
            client.synth("好")


def test_two_endpoints_and_a_hedge_encode_alike(service) -> None:
    urls = [URL, "http://other.test/batch"]
    with over(service, urls, format="flac", hedge=HedgeConfig(enabled=True)) as client:
        assert client.synth(TEXT).format == "flac"


def test_a_missing_extra_is_told_when_the_client_is_made(service, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ConfigError, match="format: writing mp3 needs soundfile: pip install"):
        over(service, format="mp3")
    with over(service) as client:
        with pytest.raises(ConfigError, match="needs soundfile"):
            client.with_options(format="ogg")
        with pytest.raises(ConfigError, match="needs soundfile"):
            client.synth(TEXT, format="flac")
    assert service.calls == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"format": "aac"}, "format: must be one of pcm, wav, mp3"),
        ({"format": "mp3", "quality": 2}, "quality: must be 0"),
        ({"quality": 0.5}, "quality: wav loses nothing"),
        ({"format": "flac", "quality": 0.5}, "quality: flac loses nothing"),
        ({"format": "mp3", "bitrate": 64}, "write quality="),
    ],
)
def test_what_no_encoder_takes_is_refused_when_it_is_set(service, settings, words) -> None:
    with pytest.raises(ConfigError, match=words):
        over(service, **settings)
