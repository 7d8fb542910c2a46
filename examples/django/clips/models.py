"""Texts and their recordings."""

from django.db import models


class Clip(models.Model):
    """A text that `manage.py cosy_synth clips.Clip` gives a recording."""

    text = models.TextField()
    audio = models.FileField(upload_to="clips/", blank=True)
