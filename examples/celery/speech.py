"""A fleet of Celery workers that speaks texts into a store.

A worker: celery -A speech worker -c 2
Send:     python speech.py
"""

import os

from celery import Celery

from cosy_sync.contrib.celery import speak_all

redis = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
app = Celery("speech", broker=redis, backend=redis, include=["cosy_sync.contrib.celery"])
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_transport_options = {"visibility_timeout": 1800}
app.conf.task_soft_time_limit, app.conf.task_time_limit = 300, 330


def main() -> None:
    """Send a hundred texts, and tell what became of them."""
    texts = [(f"line-{number}", f"这是第{number}句话，今天天气好。") for number in range(100)]
    print(speak_all(texts, to=os.environ.get("SPEECH", "speech"), size=32).get())


if __name__ == "__main__":
    main()
