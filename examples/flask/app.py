"""Speaks what is posted to it."""

import os

from flask import Flask, Response, jsonify, request

from cosy_sync.contrib.flask import CosySync, audio_response, health

app = Flask(__name__)
app.config.update(
    COSY_SYNC_URL=os.environ.get("COSY_SYNC_URL") or "http://127.0.0.1:9000/batch",
    COSY_SYNC_DEADLINE=20,
)
speech = CosySync(app)
app.add_url_rule("/health", view_func=health)


@app.post("/speak")
def speak() -> Response:
    """Speak one text."""
    return audio_response(speech.synth(request.form.get("text", "")))


@app.post("/speak-all")
def speak_all() -> Response:
    """Speak several texts, and tell how long each is."""
    audios = speech.synth_many(request.form.getlist("text"))
    return jsonify(seconds=[audio.duration for audio in audios])
