"""Become a real Triton server: `python triton_server.py FOLDER HTTP_PORT GRPC_PORT [MODEL]...`, run
by a Python that has nvidia-pytriton, which brings the server, and numpy."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

# By name: whether it streams, and what inputs it wants further.
MODELS = {
    "cosyvoice2": (True, ""),
    "cosyvoice2_offline": (False, ""),
    "cosyvoice3": (True, ""),
    "cosyvoice3_offline": (False, ""),
    "further": (True, ', { name: "speed" data_type: TYPE_FP32 dims: [1] }'),
    "broken": (True, ""),
}
# As the repository of CosyVoice's runtime/triton_trtllm has it.
_CONFIG = """
name: "%s"
backend: "python"
max_batch_size: 16
dynamic_batching {}
model_transaction_policy { decoupled: %s }
input [
  { name: "reference_wav" data_type: TYPE_FP32 dims: [-1] optional: true },
  { name: "reference_wav_len" data_type: TYPE_INT32 dims: [1] optional: true },
  { name: "reference_text" data_type: TYPE_STRING dims: [1] optional: true },
  { name: "target_text" data_type: TYPE_STRING dims: [1] } %s
]
output [ { name: "waveform" data_type: TYPE_FP32 dims: [-1] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""


def _write_models(folder: Path, names: list[str]) -> None:
    here = Path(__file__).parent
    for name in names:
        streams, further = MODELS[name]
        code = folder / name / "1" / "model.py"
        code.parent.mkdir(parents=True)
        shutil.copy(here / "triton_backend.py", code)
        shutil.copy(here / "triton_model.py", code.parent)
        config = _CONFIG % (name, str(streams).lower(), further)
        code.parent.with_name("config.pbtxt").write_text(config, "utf-8")


def _copy_backends(package: Path, folder: Path) -> None:
    """The package has a stub for each Python, and the server looks for one."""
    shutil.copytree(package / "tritonserver" / "backends", folder)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stub = "triton_python_backend_stub"
    shutil.copy(
        package / "tritonserver" / "python_backend_stubs" / version / stub, folder / "python" / stub
    )


def main() -> None:
    """Write the models and run the server in this process's place."""
    folder, http, grpc, *names = sys.argv[1:]
    found = importlib.util.find_spec("pytriton")
    assert found is not None and found.origin is not None
    package = Path(found.origin).parent
    root = Path(folder)
    _write_models(root / "models", names or list(MODELS))
    _copy_backends(package, root / "backends")
    here = "127.0.0.1"
    options = {
        "model-repository": root / "models",
        "backend-directory": root / "backends",
        **{"http-address": here, "http-port": http, "grpc-address": here, "grpc-port": grpc},
        **{"allow-metrics": "false", "exit-on-error": "false"},
        "backend-config": f"python,shm-region-prefix-name=cosy{os.getpid()}",
    }
    environment = {
        **os.environ,
        # By it the models' processes find their Python.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "LD_LIBRARY_PATH": str(package.parent / "nvidia_pytriton.libs"),
    }
    program = str(package / "tritonserver" / "bin" / "tritonserver")
    os.execve(program, [program, *(f"--{k}={v}" for k, v in options.items())], environment)


if __name__ == "__main__":
    main()
