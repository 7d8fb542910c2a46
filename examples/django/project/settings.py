"""The project's settings."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("DATA_DIR", BASE_DIR))
SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-this-example")
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

COSY_SYNC = {
    "default": {
        "URL": os.environ.get("COSY_SYNC_URL") or "http://127.0.0.1:9000/batch",
        "OPTIONS": {"voice": "中文女", "deadline": 20},
    }
}

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "cosy_sync.contrib.django",
    "clips",
]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "cosy_sync.contrib.django.SpeechErrorMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "clips.sqlite3"}
}
MEDIA_ROOT = DATA_DIR / "media"
