"""The project's addresses."""

from clips import views
from django.urls import path

from cosy_sync.contrib.django import health

urlpatterns = [
    path("", views.page),
    path("speak", views.speak),
    path("speak-all", views.speak_all),
    path("health", health),
]
