"""Django as an application configures it: the example's settings, with its database in memory."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "django"

django = pytest.importorskip("django", reason="needs django (extra test)")
FAKE = {"default": {"BACKEND": "cosy_sync.contrib.django.testing.FakeClient"}}


@pytest.fixture(scope="session")
def configured(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("django")
    sys.path.insert(0, str(EXAMPLE))
    before = os.environ.get("DATA_DIR")
    os.environ.update(DJANGO_SETTINGS_MODULE="project.settings", DATA_DIR=str(data))
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    del os.environ["DJANGO_SETTINGS_MODULE"], os.environ["DATA_DIR"]
    if before is not None:
        os.environ["DATA_DIR"] = before


@pytest.fixture
def settings(configured: None) -> Iterator[object]:
    """What `override_settings` changes stays for one test; clients are closed after it."""
    from django.db import connections
    from django.test import override_settings

    from cosy_sync.contrib.django import speech

    with override_settings(COSY_SYNC=FAKE, DEBUG=False, ALLOWED_HOSTS=["testserver"]) as changed:
        yield changed
    speech.close()
    connections.close_all()
