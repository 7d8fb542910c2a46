"""What a client makes of its voice: the recording is read once, and is seen by nobody but wires."""

import logging
import pickle
import sys
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import httpx
import pytest

import cosy_sync
from cosy_sync import ClientConfig, ConfigError, CosyClient, Recording, Voice
from cosy_sync.cli import main
from cosy_sync.models import wav_header
from cosy_sync.testing import FakeService
from cosy_sync.wires import BatchWire, Capabilities, SpeechOptions, capabilities_of, registry

URL = "http://tts.test/batch"
SOUND = array("h", [(n * 977) % 20_000 - 10_000 for n in range(24_000)])
WAV = wav_header(24_000, 1, 48_000) + SOUND.tobytes()
SECRET = "这是录音里说的话"


class ListeningWire(BatchWire):
    """Takes whatever a voice can say."""

    capabilities = Capabilities(
        max_texts_per_call=64, voices=frozenset({"name", "reference", "instruction"})
    )
    seen: ClassVar[list[SpeechOptions]] = []

    def __init__(self, endpoint_url: str, options: SpeechOptions) -> None:
        super().__init__(endpoint_url, options)
        self.seen.append(options)


class NarrowWire(ListeningWire):
    """Its services want 16 kHz."""

    capabilities = Capabilities(
        max_texts_per_call=64,
        voices=frozenset({"name", "reference"}),
        reference_rates=(16_000, 16_000),
    )


class OpenWire(ListeningWire):
    """What it can do depends on the endpoint."""

    capabilities = property(lambda self: ListeningWire.capabilities)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def wires(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SpeechOptions]]:
    here = sys.modules[__name__]
    known: Mapping[str, tuple[str, str]] = {
        **registry._BUILT_IN,
        **{name: (__name__, f"{name.title()}Wire") for name in ("listening", "narrow", "open")},
    }
    monkeypatch.setattr(registry, "_BUILT_IN", MappingProxyType(known))
    real = registry.importlib.import_module
    monkeypatch.setattr(
        registry.importlib,
        "import_module",
        lambda name, package=None: here if name == f".{__name__}" else real(name, package),
    )
    ListeningWire.seen.clear()
    yield ListeningWire.seen


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what was read, as it is read."""
    done: list[Any] = []
    real = cosy_sync.audio.load_recording

    def load(source: Any, **options: Any) -> Recording:
        if not isinstance(source, Recording):
            done.append(source)
        return real(source, **options)

    monkeypatch.setattr("cosy_sync.wire_rules.load_recording", load)
    return done


def client(voice: Voice, wire: str = "listening", **settings: Any) -> CosyClient:
    return CosyClient(
        URL, wire=wire, voice=voice, http_client=httpx.Client(transport=FakeService()), **settings
    )


def test_a_wire_only_meets_a_recording(wires: list[SpeechOptions]) -> None:
    with client(Voice(reference=WAV, transcript=SECRET)) as made:
        made.synth("你好")
        made.with_options(speed=1.5).synth("你好")
    assert len(wires) >= 3
    for options in wires:
        assert options.voice is not None
        assert isinstance(options.voice.reference, Recording)
        assert options.voice.reference.wav == WAV
        assert options.voice.transcript == SECRET


def test_the_same_voice_is_read_once(reads: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    path.write_bytes(WAV)
    voice = Voice(reference=path)
    with client(voice) as first, client(voice) as second:
        path.unlink()
        views = [first.with_options(voice=voice, deadline=5.0 + n) for n in range(3)]
        views += [second.with_options(deadline=5.0)]
        assert {view.config.voice for view in views} == {first.config.voice}
        for view in views:
            view.synth("你好")
    assert reads == [path]


def test_views_of_one_voice_share_their_callers() -> None:
    voice = Voice(reference=(SOUND, 24_000))
    with client(voice) as made:
        engine = made._core.engine()
        for seconds in (1.0, 2.0, 3.0):
            made.with_options(voice=voice, deadline=seconds).synth("你好")
        assert len(engine._runners._kept) == 1
        made.with_options(voice=Voice(reference=WAV, transcript=SECRET)).synth("你好")
        assert len(engine._runners._kept) == 2


def test_each_rate_is_read_for_itself(reads: list[Any]) -> None:
    pytest.importorskip("soxr", reason="needs the extra audio")
    voice = Voice(reference=WAV)
    for wire, rate in (("listening", 24_000), ("narrow", 16_000), ("open", 24_000)):
        with client(voice, wire) as made:
            assert made.config.voice is not None
            assert isinstance(made.config.voice.reference, Recording)
            assert made.config.voice.reference.sample_rate == rate
    assert reads == [WAV, WAV]


def test_a_prepared_voice_is_brought_to_another_wires_rate() -> None:
    pytest.importorskip("soxr", reason="needs the extra audio")
    with client(Voice(reference=WAV)) as made:
        voice = made.config.voice
    assert voice is not None
    with client(voice, "narrow") as made:
        assert made.config.voice.reference.sample_rate == 16_000  # type: ignore[union-attr]


def test_a_wire_that_takes_no_recording_says_so_before_it_is_read(reads: list[Any]) -> None:
    for reference in (WAV, "nowhere.wav"):
        with pytest.raises(ConfigError, match="cannot take a reference recording; it takes: a sp"):
            client(Voice(reference=reference), "batch")
    assert reads == []


def test_a_bad_recording_is_refused_when_the_client_is_made() -> None:
    with pytest.raises(ConfigError, match=r"reference: cannot read the recording 'nowhere.wav'"):
        client(Voice(reference="nowhere.wav"))
    with client(Voice("中文女")) as made, pytest.raises(ConfigError, match="is empty"):
        made.with_options(voice=Voice(reference=b""))


def test_a_transcript_forbids_cutting_the_recording() -> None:
    long = wav_header(24_000, 1, 48_000 * 31) + SOUND.tobytes() * 31
    with pytest.raises(ConfigError, match="and the transcript with it"):
        client(Voice(reference=long, transcript=SECRET))
    with pytest.warns(UserWarning, match="only its first 29 s"), client(Voice(reference=long)):
        pass


def test_what_a_wire_can_do_is_known_before_it_is_built() -> None:
    assert capabilities_of("narrow") is NarrowWire.capabilities
    assert capabilities_of("open") is None
    with pytest.raises(ConfigError, match="there is no 'nothing'"):
        capabilities_of("nothing")


def test_a_recording_and_its_words_are_shown_nowhere(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    voice = Voice(reference=WAV, transcript=SECRET)
    shown = [repr(voice), repr(ClientConfig(voice=voice))]
    with client(voice) as made:
        made.synth("你好")
        shown += [repr(made), repr(made.config), repr(made.config.voice), repr(made.stats())]
        shown += [repr(ListeningWire.seen)]
    for wrong in (WAV, (SOUND, 24_000)):
        with pytest.raises(ConfigError, match="voice: must be a Voice") as caught:
            ClientConfig(voice=wrong)  # type: ignore[arg-type]
        shown += [str(caught.value)]
    with pytest.raises(ConfigError) as caught:
        client(Voice(reference=WAV[:-1], transcript=SECRET))
    output = capsys.readouterr()
    everything = "".join([*shown, str(caught.value), caplog.text, output.out, output.err])
    assert SECRET not in everything
    assert len(everything) < 20_000 and repr(WAV[44:60])[2:-1] not in everything


def test_a_voice_travels_to_another_process_with_its_recording() -> None:
    voice = Voice(reference=WAV)
    with client(voice) as made:
        again = pickle.loads(pickle.dumps(made.config.voice))
    assert again == made.config.voice and again.reference.wav == WAV


# -- the command line ---------------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Voice]:
    """Return the voices that clients of the command line were made with."""
    voices: list[Voice] = []

    def refuse(*_: object, **settings: Any) -> CosyClient:
        voices.append(settings.get("voice"))
        raise ConfigError("enough")

    monkeypatch.setattr("cosy_sync.cli.options.CosyClient", refuse)
    return voices


def test_the_command_lines_options_make_a_voice(given: list[Voice]) -> None:
    start = ["synth", "你好", "--url", URL]
    for options, expected in (
        (["--reference", "a.wav"], Voice(reference="a.wav")),
        (
            ["--reference", "a.wav", "--transcript", SECRET, "--instruction", "轻声说"],
            Voice(reference="a.wav", transcript=SECRET, instruction="轻声说"),
        ),
        (["--voice", "中文女", "--instruction", "轻声说"], Voice("中文女", instruction="轻声说")),
        (["--voice", "中文女"], "中文女"),
        ([], None),
    ):
        assert main([*start, *options]) != 0
        assert given.pop() == expected


def test_an_instruction_goes_with_the_environments_speaker_and_a_recording_does_not(
    given: list[Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSY_SYNC_VOICE", "中文男")
    start = ["synth", "你好", "--url", URL]
    assert main([*start, "--instruction", "轻声说"]) != 0
    assert given.pop() == Voice("中文男", instruction="轻声说")
    assert main([*start, "--reference", "a.wav"]) != 0
    assert given.pop() == Voice(reference="a.wav")


def test_a_transcript_alone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "你好", "--url", URL, "--transcript", SECRET]) == 2
    told = capsys.readouterr().err
    assert "belongs to a reference recording" in told and SECRET not in told


def test_a_missing_recording_is_told_on_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["synth", "你好", "--url", URL, "--wire", "listening", "--reference", "nowhere.wav"]
    assert main(argv) == 2
    assert "cannot read the recording 'nowhere.wav'" in capsys.readouterr().err
