"""What the wire runtime_http writes, byte for byte, and what it refuses to."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cosy_sync.config import ClientConfig
from cosy_sync.errors import ConfigError, InvalidTextError
from cosy_sync.messages import Request
from cosy_sync.models import Recording, Voice
from cosy_sync.wires import SpeechOptions, create_wire
from cosy_sync.wires.runtime_http import RuntimeHttpWire

BASE = "http://gpu1:50000"
OLD = "http://gpu1:50000/api/inference"
WAV = b"RIFF\x00\xff\r\n--a recording\r\n"
REFERENCE = Recording(WAV, 16_000, 3.0, "d1")
THIRD = "CosyVoice3"

NAMED = Voice("中文女")
INSTRUCTED = Voice("中文女", instruction="开心")
CLONED = Voice(reference=REFERENCE, transcript="希望你好")
CROSS = Voice(reference=REFERENCE)
DIRECTED = Voice(reference=REFERENCE, instruction="用四川话说")


def wire(url: str = BASE, **settings: Any) -> RuntimeHttpWire:
    settings = {"voice": NAMED, **settings}
    options = SpeechOptions.from_config(ClientConfig(**settings))
    made = create_wire("runtime_http", url, options)
    assert isinstance(made, RuntimeHttpWire)
    return made


def encoded(url: str = BASE, text: str = "你好", **settings: Any) -> Request:
    return wire(url, **settings).encode([text], "r1")


def shown(request: Request) -> str:
    """Return the body with BOUNDARY for the random one, which the header must name."""
    kind = dict(request.headers)["Content-Type"]
    found = re.fullmatch("multipart/form-data; boundary=([0-9a-f]{32})", kind)
    assert found is not None
    return (
        request.body.decode("latin-1")
        .replace(found[1], "BOUNDARY")
        .encode("latin-1")
        .decode("utf-8", "backslashreplace")
    )


def part(name: str, value: str) -> str:
    return f'--BOUNDARY\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


def upload(name: str) -> str:
    return (
        f'--BOUNDARY\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\nRIFF\x00\\xff\r\n--a recording\r\n\r\n--BOUNDARY--\r\n"
    )


class TestTheForms:
    def test_a_name_makes_an_urlencoded_sft(self) -> None:
        request = encoded(text="你好 & a+b=1%\n")
        assert request.method == "POST"
        assert request.url == "http://gpu1:50000/inference_sft"
        assert request.body == (
            b"tts_text=%E4%BD%A0%E5%A5%BD+%26+a%2Bb%3D1%25%0A&spk_id=%E4%B8%AD%E6%96%87%E5%A5%B3"
        )
        assert request.headers == (
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            ("X-Request-Id", "r1"),
        )

    def test_a_name_with_an_instruction_makes_an_instruct_without_any_mark(self) -> None:
        request = encoded(voice=INSTRUCTED)
        assert request.url == "http://gpu1:50000/inference_instruct"
        assert request.body == (
            b"tts_text=%E4%BD%A0%E5%A5%BD&spk_id=%E4%B8%AD%E6%96%87%E5%A5%B3"
            b"&instruct_text=%E5%BC%80%E5%BF%83"
        )

    def test_a_recording_with_its_transcript_makes_a_zero_shot(self) -> None:
        request = encoded(voice=CLONED)
        assert request.url == "http://gpu1:50000/inference_zero_shot"
        assert shown(request) == (
            part("tts_text", "你好") + part("prompt_text", "希望你好") + upload("prompt_wav")
        )

    def test_a_recording_alone_makes_a_cross_lingual(self) -> None:
        request = encoded(voice=CROSS)
        assert request.url == "http://gpu1:50000/inference_cross_lingual"
        assert shown(request) == part("tts_text", "你好") + upload("prompt_wav")

    def test_a_recording_with_an_instruction_makes_an_instruct2_with_the_end_mark(self) -> None:
        request = encoded(voice=DIRECTED)
        assert request.url == "http://gpu1:50000/inference_instruct2"
        assert shown(request) == (
            part("tts_text", "你好")
            + part("instruct_text", "用四川话说<|endofprompt|>")
            + upload("prompt_wav")
        )

    def test_a_transcript_beside_an_instruction_is_not_sent(self) -> None:
        voice = Voice(reference=REFERENCE, transcript="希望你好", instruction="用四川话说")
        assert shown(encoded(voice=voice)) == shown(encoded(voice=DIRECTED))

    def test_multipart_leaves_a_text_as_it_is(self) -> None:
        text = '"quoted"\r\n--x\r\n\r\n+%26'
        assert part("tts_text", text) in shown(encoded(voice=CROSS, text=text))


class TestTheServerOf2024:
    @pytest.mark.parametrize(
        ("voice", "path", "fields"),
        [
            (NAMED, "sft", b"tts=a&role=%E4%B8%AD%E6%96%87%E5%A5%B3"),
            (
                INSTRUCTED,
                "instruct",
                b"tts=a&role=%E4%B8%AD%E6%96%87%E5%A5%B3&instruct=%E5%BC%80%E5%BF%83",
            ),
        ],
    )
    def test_its_forms(self, voice: Voice, path: str, fields: bytes) -> None:
        request = encoded(OLD, "a", voice=voice)
        assert request.url == f"{OLD}/{path}"
        assert request.body == fields

    def test_its_uploads(self) -> None:
        request = encoded(OLD, "a", voice=CLONED)
        assert request.url == f"{OLD}/zero-shot"
        assert shown(request) == part("tts", "a") + part("prompt", "希望你好") + upload("audio")
        request = encoded(OLD, "a", voice=CROSS)
        assert request.url == f"{OLD}/cross-lingual"
        assert shown(request) == part("tts", "a") + upload("audio")

    def test_it_has_no_way_to_direct_a_recording(self) -> None:
        with pytest.raises(ConfigError, match="; not a reference recording with an instr"):
            wire(OLD, voice=DIRECTED)

    def test_it_is_asked_one_text_at_a_time_and_never_streams(self) -> None:
        can = wire(OLD).capabilities
        assert (can.max_connections, can.streaming) == (1, False)
        with pytest.raises(ConfigError, match="whole replies only"):
            wire(OLD).listen("a", lambda _: pytest.fail("sent"), "r1")

    def test_it_says_its_rate_itself(self) -> None:
        wire(OLD, sample_rate=24_000, model="CosyVoice-300M")


class TestTheAddress:
    @pytest.mark.parametrize(
        ("url", "asked"),
        [
            ("http://gpu1:50000/", "http://gpu1:50000/inference_sft"),
            ("https://gw.example/tts/", "https://gw.example/tts/inference_sft"),
            ("https://gw.example/tts?key=1", "https://gw.example/tts/inference_sft?key=1"),
            ("http://gpu1/inference_sft", "http://gpu1/inference_sft"),
            ("http://gpu1/a/inference_sft/?k=v", "http://gpu1/a/inference_sft?k=v"),
            ("http://gpu1/api", "http://gpu1/api/inference_sft"),
            ("http://gpu1/x/api/inference/", "http://gpu1/x/api/inference/sft"),
            ("http://gpu1/x/api/inference/sft", "http://gpu1/x/api/inference/sft"),
        ],
    )
    def test_the_route_is_put_behind_the_base_or_was_there(self, url: str, asked: str) -> None:
        assert encoded(url).url == asked

    def test_a_route_in_the_url_is_taken_with_a_transcript_too_much(self) -> None:
        request = encoded(f"{BASE}/inference_cross_lingual", voice=CLONED)
        assert request.url == f"{BASE}/inference_cross_lingual"
        assert "希望" not in shown(request)

    @pytest.mark.parametrize(
        ("path", "voice", "words"),
        [
            ("/inference_sft", INSTRUCTED, "/inference_sft takes a speaker's name; not"),
            ("/inference_sft", CROSS, "not a reference recording"),
            ("/inference_zero_shot", CROSS, "takes a reference recording with its transcript"),
            ("/inference_instruct", NAMED, "takes a speaker's name with an instruction"),
            ("/inference_instruct2", CLONED, "takes a reference recording with an instruction"),
            ("/api/inference/instruct", NAMED, "takes a speaker's name with an instruction"),
        ],
    )
    def test_a_route_in_the_url_must_suit_the_voice(
        self, path: str, voice: Voice, words: str
    ) -> None:
        with pytest.raises(ConfigError, match=f"voice: .*{words}"):
            wire(BASE + path, voice=voice)

    @pytest.mark.parametrize(
        "voice", [Voice("中文女", reference=REFERENCE), Voice(instruction="开心")]
    )
    def test_a_voice_that_no_route_can_say_is_refused(self, voice: Voice) -> None:
        with pytest.raises(ConfigError, match="voice: this runtime takes a speaker's name, or"):
            wire(voice=voice)

    def test_there_is_no_speaker_of_its_own(self) -> None:
        with pytest.raises(ConfigError, match=r"voice: .*give voice='中文女'"):
            wire(voice=None)

    def test_a_repr_shows_no_query(self) -> None:
        assert repr(wire(f"{BASE}?key=SECRET")) == f"<RuntimeHttpWire {BASE}/inference_sft>"


class TestTheThird:
    def test_the_words_of_a_recording_are_marked_and_the_text_stays(self) -> None:
        body = shown(encoded(voice=CLONED, model=THIRD))
        assert part("tts_text", "你好") in body
        assert part("prompt_text", "You are a helpful assistant.<|endofprompt|>希望你好") in body

    def test_a_text_is_marked_where_nothing_else_can_be(self) -> None:
        body = shown(encoded(voice=CROSS, model=THIRD))
        assert part("tts_text", "You are a helpful assistant.<|endofprompt|>你好") in body

    def test_the_text_of_a_named_speaker_is_marked(self) -> None:
        body = encoded(model=THIRD, text="a").body
        assert body.startswith(b"tts_text=You+are+a+helpful+assistant.%3C%7Cendofprompt%7C%3Ea&")

    def test_an_instruction_is_marked_and_the_text_stays(self) -> None:
        body = shown(encoded(voice=DIRECTED, model=THIRD))
        assert part("tts_text", "你好") in body
        marked = "You are a helpful assistant. 用四川话说<|endofprompt|>"
        assert part("instruct_text", marked) in body

    def test_a_mark_of_ones_own_is_left_alone(self) -> None:
        text = "Be brief.<|endofprompt|>你好"
        assert part("tts_text", text) in shown(encoded(voice=CROSS, model=THIRD, text=text))

    def test_the_model_itself_is_not_sent(self) -> None:
        assert "cosyvoice" not in shown(encoded(voice=CLONED, model=THIRD)).lower()


class TestWhatIsRefused:
    def test_speed(self) -> None:
        with pytest.raises(ConfigError, match="speed: the wire 'runtime_http' cannot set it"):
            wire(speed=1.5)

    def test_a_rate_that_no_model_has(self) -> None:
        with pytest.raises(ConfigError, match="22050, 24000 Hz, not 16000"):
            wire(sample_rate=16_000)

    @pytest.mark.parametrize(
        ("model", "right", "wrong"),
        [
            ("CosyVoice-300M", 22_050, 24_000),
            ("CosyVoice2-0.5B", 24_000, 22_050),
            (THIRD, 24_000, 22_050),
        ],
    )
    def test_a_rate_that_this_model_has_not(self, model: str, right: int, wrong: int) -> None:
        wire(model=model, sample_rate=right)
        with pytest.raises(ConfigError, match=f"{model} speaks at {right} Hz; set sample_rate="):
            wire(model=model, sample_rate=wrong)

    @pytest.mark.parametrize(
        ("model", "rate", "good", "bad"),
        [
            ("CosyVoice-300M-Instruct", 22_050, INSTRUCTED, DIRECTED),
            ("CosyVoice2-0.5B", 24_000, DIRECTED, INSTRUCTED),
            (THIRD, 24_000, DIRECTED, INSTRUCTED),
        ],
    )
    def test_an_instruction_in_a_way_that_this_model_has_not(
        self, model: str, rate: int, good: Voice, bad: Voice
    ) -> None:
        wire(model=model, sample_rate=rate, voice=good)
        with pytest.raises(ConfigError, match=f"voice: {model} takes an instruction only with"):
            wire(model=model, sample_rate=rate, voice=bad)

    @pytest.mark.parametrize(
        ("rate", "seconds", "good"),
        [(16_000, 30.0, True), (15_999, 3.0, False), (16_000, 30.1, False)],
    )
    def test_a_recording_that_the_server_would_not_take(
        self, rate: int, seconds: float, good: bool
    ) -> None:
        voice = Voice(reference=Recording(WAV, rate, seconds, "d"))
        if good:
            wire(voice=voice)
        else:
            with pytest.raises(ConfigError, match=f"{seconds:.1f} s at {rate} Hz; .*at most 30 s"):
                wire(voice=voice)

    def test_a_recording_that_nobody_read(self) -> None:
        with pytest.raises(ConfigError, match="make a client with it"):
            wire(voice=Voice(reference="me.wav"))

    @pytest.mark.parametrize("voice", [NAMED, CROSS])
    def test_half_a_character(self, voice: Voice) -> None:
        with pytest.raises(InvalidTextError, match="half a character"):
            encoded(voice=voice, text="a\ud800")

    def test_another_scheme(self) -> None:
        with pytest.raises(ConfigError, match="url: the wire 'runtime_http' needs http://"):
            wire("grpc://gpu1:50000")


class TestExtraFields:
    def test_they_go_along_as_forms_write_them(self) -> None:
        extra = {"stream": True, "seed": 7, "split": False, "style": "a b", "x": 0.5}
        body = encoded(text="a", extra=extra).body
        assert body.startswith(b"tts_text=a&stream=true&seed=7&split=false&style=a+b&x=0.5&spk_id=")
        assert part("seed", "7") in shown(encoded(voice=CROSS, extra=extra))

    @pytest.mark.parametrize("name", ["tts_text", "spk_id", 'a"b', "a\r\nb", "", "1a"])
    def test_a_name_that_is_ours_or_none_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match="is no name for a further form field"):
            wire(extra={name: "1"})

    @pytest.mark.parametrize("value", [None, [1], {"a": 1}])
    def test_a_value_that_forms_cannot_hold_is_refused(self, value: object) -> None:
        with pytest.raises(ConfigError, match="'x' must be text or a number"):
            wire(extra={"x": value})


class TestHeaders:
    def test_a_key_is_sent_for_a_gateway(self) -> None:
        assert ("Authorization", "Bearer KEY") in encoded(api_key="KEY").headers

    def test_a_users_headers_come_along_but_never_contradict(self) -> None:
        given = {"Accept": "audio/*", "X-Team": "a", "content-type": "x/y", "X-Request-Id": "mine"}
        headers = encoded(headers=given).headers
        assert headers == (
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept-Encoding", "identity"),
            ("Accept", "audio/*"),
            ("X-Team", "a"),
            ("X-Request-Id", "r1"),
        )

    def test_the_key_of_a_user_counts_where_both_are_given(self) -> None:
        headers = dict(encoded(api_key="KEY", headers={"authorization": "Basic x"}).headers)
        assert "Authorization" not in headers
        assert headers["authorization"] == "Basic x"


def test_what_its_services_bear() -> None:
    can = wire().capabilities
    assert can.max_texts_per_call == 1
    assert can.formats == ("pcm",)
    assert (can.max_connections, can.idle_expiry) == (4, 4.0)
    assert can.streaming
