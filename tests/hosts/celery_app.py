"""A Celery application as users write it: one client for the process, made and used at import."""

import os

from celery import Celery

from cosy_sync import CosyClient
from cosy_sync.instrumentation import PrometheusObserver
from cosy_sync.testing import tone_wav

app = Celery("speech", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])
client = CosyClient(os.environ["TTS_URL"], observers=[PrometheusObserver()])
client.synth_many([f"预热第{number}句" for number in range(8)])


@app.task
def speak(number: int) -> tuple[int, int, int]:
    texts = [f"第{number}号请到{window}号窗口" for window in (1, 2)]
    heard = [client.synth(texts[0]), *client.synth_many(texts[1:])]
    wrong = [text for text, audio in zip(texts, heard, strict=True) if audio.data != tone_wav(text)]
    return os.getpid(), len(texts), len(wrong)
