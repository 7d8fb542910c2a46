"""prepare=: each text is changed once, before it is sent and known, whatever the call."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from streams import URL as STREAM_URL
from streams import PlayNet, install, play_net, tone

from cosy_sync import ConfigError, CosyClient, CosyError, InvalidTextError, Outcome, Utterance
from cosy_sync.testing import FakeClock, FakeService
from cosy_sync.text import Lexicon, plain_from_markdown

URL = "http://tts.test/batch"


class Preparer:
    """Marks each text, and remembers what it got and on which thread."""

    def __init__(self, mark: str = "了") -> None:
        self.mark = mark
        self.got: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, text: str) -> str:
        self.got.append(text)
        self.threads.add(threading.get_ident())
        return text + self.mark


class Service(httpx.BaseTransport):
    """A service that keeps the texts of all requests."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.texts: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.texts += json.loads(request.read())["texts"]
        return self.service.handle_request(request)


@pytest.fixture
def service() -> Service:
    return Service()


def over(service: Service, prepare: Any, **settings: Any) -> CosyClient:
    return CosyClient(URL, http_client=httpx.Client(transport=service), prepare=prepare, **settings)


TEXT = "前方路口请左转"
CALLS: dict[str, Callable[[CosyClient], Any]] = {
    "synth": lambda client: client.synth(TEXT),
    "submit": lambda client: client.submit(TEXT).result(10),
    "synth_many": lambda client: client.synth_many([TEXT]),
    "synth_iter": lambda client: list(client.synth_iter([TEXT])),
    "item": lambda client: client.synth_many([Utterance(TEXT, id="a", voice="中文男")]),
    "narrate": lambda client: client.narrate(TEXT),
    "narrate_iter": lambda client: list(client.narrate_iter(TEXT)),
    "dub": lambda client: client.dub([(0.0, 9.0, TEXT)]),
}


@pytest.mark.parametrize("call", CALLS)
def test_each_call_prepares_a_text_once_on_the_callers_thread(service, call) -> None:
    prepare = Preparer()
    with over(service, prepare) as client:
        CALLS[call](client)
    assert prepare.got == [TEXT] and service.texts == [TEXT + "了"]
    assert prepare.threads == {threading.get_ident()}


@pytest.mark.parametrize("call", CALLS)
def test_a_text_that_is_sent_again_is_not_prepared_again(service, call) -> None:
    prepare = Preparer()
    service.service.fail(503)
    with over(service, prepare) as client:
        CALLS[call](client)
    assert prepare.got == [TEXT] and set(service.texts) == {TEXT + "了"}


def test_several_functions_come_one_after_the_other(service) -> None:
    with over(service, [Preparer("一"), Preparer("二")]) as client:
        client.synth("好")
        client.synth("好", prepare=Preparer("三"))
        client.synth("好", prepare=None)
        client.with_options(prepare=[Preparer("四")]).synth("好")
    assert service.texts == ["好一二", "好三", "好", "好四"]


@pytest.mark.parametrize("count", [3, 200])
def test_outcomes_have_the_text_that_was_given(service, count) -> None:
    texts = [f"第{number}句话" for number in range(count)]
    with over(service, Preparer()) as client:
        outcomes = client.synth_many(texts, on_error="return")
        outcomes += list(client.synth_iter(texts))
    assert [outcome.text for outcome in outcomes] == texts * 2
    assert sorted(service.texts) == sorted([text + "了" for text in texts] * 2)
    assert outcomes[0].audio.data == FakeService.wav("第0句话了")


def test_texts_that_become_alike_are_sent_once() -> None:
    go, service = threading.Event(), FakeService()

    def slow(request: httpx.Request) -> httpx.Response:
        assert go.wait(60)
        return service.handle_request(request)

    http_client = httpx.Client(transport=httpx.MockTransport(slow))
    with CosyClient(URL, http_client=http_client, prepare=str.strip) as client:
        first, second = client.submit(" 你好"), client.submit("你好 ")
        go.set()
        assert first.result(10) == second.result(10)
    assert service.calls == [["你好"]]


def test_a_text_is_measured_as_it_is_sent(service) -> None:
    from cosy_sync import BatchConfig

    short = BatchConfig(max_text_chars=10)
    with over(service, lambda text: text[:5], batch=short) as client:
        client.synth("一二三四五六七八九十一二三")
        with pytest.raises(InvalidTextError, match="the text has 15 characters"):
            client.synth("一二三四五", prepare=lambda text: text * 3)
    assert service.texts == ["一二三四五"]


# -- what goes wrong --------------------------------------------------------------------------


def breaks(text: str) -> str:
    raise ValueError(f"cannot read {text}")


WRONG: list[tuple[Callable[[str], Any], str]] = [
    (breaks, "prepare: breaks raised ValueError: see the cause"),
    (lambda text: None, "returned NoneType, not a text; does it lack its return"),
    (lambda text: text.encode(), "returned bytes, not a text"),
    (lambda text: " ", "left nothing of it; leave it out"),
    (
        Lexicon({"路口": "lu4 kou3"}),
        r"prepare: Lexicon raised ConfigError: lexicon: '路口' has pinyin",
    ),
]


@pytest.mark.parametrize(("prepare", "words"), WRONG)
@pytest.mark.parametrize("call", CALLS)
def test_a_function_that_fails_is_named_and_nothing_is_sent(service, prepare, words, call) -> None:
    with over(service, prepare) as client, pytest.raises(CosyError, match=words) as caught:
        for outcome in CALLS[call](client):  # synth_iter's
            outcome.result()
    assert TEXT not in str(caught.value) and service.texts == []
    assert caught.value.text_hash is not None


def test_a_cue_that_is_spoken_twice_is_prepared_once(service) -> None:
    prepare = Preparer()
    with over(service, prepare) as client:
        dubbed = client.dub([(0.0, 0.3, TEXT), (0.3, 0.6, TEXT)], max_speed=2)
    assert prepare.got == [TEXT, TEXT] and service.texts == [TEXT + "了"] * 3
    assert [segment.text for segment in dubbed.segments] == [TEXT, TEXT]


def test_one_text_that_cannot_be_prepared_leaves_the_others(service) -> None:
    def prepare(text: str) -> str:
        return breaks(text) if "坏" in text else text

    with over(service, prepare) as client:
        outcomes = client.synth_many(["好的", ("b", "坏的"), "好了"], on_error="return")
    assert [each.ok for each in outcomes] == [True, False, True]
    assert isinstance(outcomes[1], Outcome) and outcomes[1].text == "坏的"
    assert "text 1 'b'" in str(outcomes[1].error)
    assert isinstance(outcomes[1].error.__cause__, ValueError)


def test_a_blank_text_is_refused_as_ever_and_the_function_never_meets_it(service) -> None:
    prepare = Preparer()
    with over(service, prepare) as client, pytest.raises(InvalidTextError, match="is empty"):
        client.synth(" ")
    assert prepare.got == []


def test_ctrl_c_in_a_function_is_ctrl_c(service) -> None:
    def interrupt(text: str) -> str:
        raise KeyboardInterrupt

    with over(service, interrupt) as client, pytest.raises(KeyboardInterrupt):
        client.synth(TEXT)


async def later(text: str) -> str:
    return text


@pytest.mark.parametrize("wrong", ["upper", 5, [str.strip, None], later, [later]])
def test_what_is_no_function_is_refused_when_it_is_set(service, wrong) -> None:
    with pytest.raises(ConfigError, match="prepare: expected a function from text to text"):
        over(service, wrong)


# -- streams, long texts, what we bring -----------------------------------------------------------


@pytest.fixture
def net(monkeypatch) -> Iterator[tuple[CosyClient, PlayNet]]:
    install(monkeypatch)
    clock = FakeClock()
    net = play_net(monkeypatch, clock)
    with CosyClient(STREAM_URL, wire="drip", clock=clock, prepare=Preparer()) as client:
        yield client, net


def test_a_stream_speaks_the_prepared_text(net) -> None:
    client, played = net
    played.script(tone(TEXT + "了"))
    with client.stream(TEXT) as speech:
        assert speech.audio().pcm() == tone(TEXT + "了")
    assert json.loads(played.requests[0].body)["text"] == TEXT + "了"


def test_a_streams_whole_sound_is_in_the_format_of_the_call(net) -> None:
    pytest.importorskip("soundfile", reason="needs the extra audio")
    client, played = net
    played.script(tone(TEXT))
    with client.stream(TEXT, prepare=None, format="flac") as speech:
        audio = speech.audio()
    assert audio.format == "flac" and audio.pcm() == tone(TEXT)


def test_pieces_of_a_text_are_not_prepared_and_say_so() -> None:
    url = "wss://tts.test/api-ws/v1/inference"
    settings: dict[str, Any] = {"wire": "dashscope_ws", "api_key": "k", "voice": "longxiaochun"}
    with (
        CosyClient(url, prepare=str.strip, model="cosyvoice-v2", **settings) as client,
        pytest.raises(ConfigError, match=r"stream\(pieces, prepare=None\)"),
    ):
        client.stream(iter(["一二", "三"]))


def test_a_long_text_is_prepared_before_it_is_cut(service) -> None:
    prepare = Preparer()
    text = "今天天气很好。我们出去走走吧！" * 20
    with over(service, prepare) as client:
        narration = client.narrate(text)
    assert prepare.got == [text] and len(narration.segments) > 2
    assert narration.segments[-1].text.endswith("了")


def test_a_lexicon_and_markdown_are_such_functions(service) -> None:
    with over(service, [plain_from_markdown, Lexicon({"SQL": "sequel"})]) as client:
        client.synth("## 说说 **SQL** 吧")
        client.narrate("# 标题\n\n说说 [SQL](https://sql.test) 吧")
    assert service.texts[0] == "说说 sequel 吧。"
    assert set(service.texts[1:]) == {"标题。", "说说 sequel 吧。"}


def test_the_machines_hold_none_of_the_users_functions(service) -> None:
    import gc
    import weakref

    prepare = Preparer()
    found = weakref.ref(prepare)
    client = over(service, prepare)
    client.synth(TEXT)
    engine = client._core.engine()
    client.close()
    gc.collect()
    del client, prepare
    gc.collect()
    assert engine is not None and found() is None
