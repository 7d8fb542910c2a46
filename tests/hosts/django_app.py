"""A Django project in one file: a view that speaks, its client made and used before any fork."""

import os

import django
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path

from cosy_sync.testing import tone_wav

OPTIONS = {"deadline": float(os.environ.get("DEADLINE", "60"))}

settings.configure(
    ALLOWED_HOSTS=["*"],
    COSY_SYNC={"default": {"URL": os.environ["TTS_URL"], "OPTIONS": OPTIONS}},
    INSTALLED_APPS=["cosy_sync.contrib.django"],
    MIDDLEWARE=["cosy_sync.contrib.django.SpeechErrorMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only-for-tests",
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402

from cosy_sync.contrib.django import asynth_many, speech, synth, synth_many  # noqa: E402


def begin(request: HttpRequest) -> list[str]:
    """Note that the application has the request; return its texts, 1 to 3."""
    number = int(request.GET["n"])
    if log := os.environ.get("BEGUN"):
        with open(log, "a") as file:  # one short line is written as a whole
            file.write(f"{number}\n")
    return [f"第{number}号请到{window}号窗口" for window in range(1 + number % 3)]


def answer(texts, heard) -> JsonResponse:
    wrong = sum(audio.data != tone_wav(text) for text, audio in zip(texts, heard, strict=True))
    return JsonResponse({"pid": os.getpid(), "texts": len(texts), "wrong": wrong})


def speak(request: HttpRequest) -> JsonResponse:
    texts = begin(request)
    return answer(texts, synth_many(texts))


async def speak_async(request: HttpRequest) -> JsonResponse:
    texts = begin(request)
    return answer(texts, await asynth_many(texts))


def speak_one(request: HttpRequest) -> JsonResponse:
    texts = begin(request)
    return answer(texts, [synth(text) for text in texts])


def ready(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"pid": os.getpid()})


urlpatterns = [
    path("", speak),
    path("async", speak_async),
    path("one", speak_one),
    path("ready", ready),
]
application = get_wsgi_application()
asgi = get_asgi_application()

if os.environ.get("USED_BEFORE", "1") == "1":
    # Whatever is open now is what a fork would share.
    speech["default"].synth_many([f"预热第{number}句" for number in range(8)])
