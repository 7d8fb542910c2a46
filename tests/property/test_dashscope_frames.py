"""Whatever a service says on a WebSocket ends as audio or as a CosyError."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cosy_sync.config import ClientConfig
from cosy_sync.errors import CosyError
from cosy_sync.models import Voice
from cosy_sync.wires.base import SpeechOptions
from cosy_sync.wires.dashscope_ws import DashscopeWsWire

CONFIG = ClientConfig(model="m", voice=Voice("longanyang"))
WIRE = DashscopeWsWire("wss://h/x", SpeechOptions.from_config(CONFIG))

EVENTS = ("task-started", "result-generated", "task-finished", "task-failed", "new")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(EVENTS) | JSON,
        "task_id": st.sampled_from(("", "OWN", "other")) | JSON,
        "error_code": st.sampled_from(("InvalidParameter", "Throttling")) | JSON,
        "error_message": JSON,
    },
)
SENTENCES = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers() | JSON,
        "words": JSON
        | st.lists(
            st.fixed_dictionaries({}, optional={"text": JSON, "begin_time": JSON, "end_time": JSON})
        ),
    },
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "header": HEADERS | JSON,
        "payload": st.fixed_dictionaries(
            {"output": st.fixed_dictionaries({"sentence": SENTENCES | JSON}) | JSON}
        )
        | JSON,
    },
)
FRAMES = st.lists(st.binary() | st.text() | MESSAGES, max_size=12)


@given(FRAMES)
def test_any_frames_end_as_audio_or_as_an_error(frames: list[Any]) -> None:
    task = WIRE.task("你好")
    task.open()
    audio, whole = b"", b""
    try:
        for frame in frames:
            if task.done:
                break
            if isinstance(frame, bytes):
                whole += frame
            elif isinstance(frame, dict):
                frame = json.dumps(frame).replace('"OWN"', f'"{task.task_id}"')
            for said in task.receive(frame):
                assert isinstance(said, str)
                assert json.loads(said)["header"]["task_id"] == task.task_id
            audio += task.take()
        assert audio == whole
    except CosyError:
        assert task.done and not task.reusable
    assert all(word.end is not None for word in task.words)
    assert task.done or not task.reusable
