"""An embedded server in a process of its own, so that it does not share our interpreter."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def served(*options: str) -> Iterator[str]:
    """Start `cosy-sync serve` with these options; give its batch URL; stop it."""
    command = [sys.executable, "-m", "cosy_sync", "serve", "--port", "0", "--json-ready"]
    child = subprocess.Popen(
        [*command, "--quiet", "--exit-with-parent", *options], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        yield str(json.loads(child.stdout.readline())["url"])
    finally:
        child.terminate()
        child.wait(20)
        child.stdout.close()
