"""A real S3 server: SeaweedFS, where it is installed."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WEED = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
KEYS = {"access_key_id": "key", "secret_access_key": "secret"}


@contextmanager
def serve_seaweed(folder: Path) -> Iterator[str]:
    """Serve an empty bucket, `speech`, for as long as the block lasts."""
    assert WEED is not None
    credentials = {"accessKey": KEYS["access_key_id"], "secretKey": KEYS["secret_access_key"]}
    identity = {
        "name": "me",
        "credentials": [credentials],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, port = free_ports(4)
    command = [WEED, "server", "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-dir", str(folder)]
    command += ["-master.port", str(master), "-volume.port", str(volume), "-filer"]
    command += ["-filer.port", str(filer), "-s3", "-s3.port", str(port)]
    command += ["-s3.port.iceberg", "0", "-s3.port.lance", "0"]
    command += ["-s3.config", str(folder / "s3.json"), "-master.volumeSizeLimitMB", "64"]
    command += ["-volume.max", "0"]  # as many as the disk has room for; else 8, of 64 MB each
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(f"http://127.0.0.1:{port}")
        made = subprocess.run(
            [WEED, "shell", "-master", f"127.0.0.1:{master}"],
            input=b"s3.bucket.create -name speech\nexit\n",
            capture_output=True,
            timeout=30,
        )
        assert b"created bucket speech" in made.stdout
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()  # asked to end, it takes half a minute
        process.wait()


def free_ports(count: int) -> list[int]:
    # Its gRPC ports lie 10 000 above: all must be below 55 536.
    sockets, ports = [], []
    while len(ports) < count:
        each = socket.socket()
        each.bind(("127.0.0.1", 0))
        sockets.append(each)
        port = each.getsockname()[1] % 20_000 + 20_000
        if port not in ports:
            ports.append(port)
    for each in sockets:
        each.close()
    return ports


def wait_for(url: str) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the S3 server did not start")
