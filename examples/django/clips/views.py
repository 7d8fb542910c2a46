"""The page, and what it asks for."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from cosy_sync.contrib.django import audio_response, synth, synth_many


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    return render(request, "clips/page.html")


@require_POST
def speak(request: HttpRequest) -> HttpResponse:
    """Speak one text."""
    return audio_response(synth(request.POST.get("text", "")), request)


@require_POST
def speak_all(request: HttpRequest) -> HttpResponse:
    """Speak several texts, and tell how long each is."""
    audios = synth_many(request.POST.getlist("text"))
    return JsonResponse({"seconds": [audio.duration for audio in audios]})
