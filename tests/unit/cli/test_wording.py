"""Messages on the command line name options and variables, not Python."""

import ast
import re
from pathlib import Path

import pytest

import cosy_sync
from cosy_sync import ConfigError
from cosy_sync.cli.exits import meaning
from cosy_sync.cli.wording import OPTIONS, in_options
from cosy_sync.errors import server_error

ROOT = Path(cosy_sync.__file__).parent


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("url: no endpoint; set COSY_SYNC_URL", "--url: no endpoint; set COSY_SYNC_URL"),
        ("max_connections: must be a whole number", "--max-connections: must be a whole number"),
        ("batch_size: the wire 'openai' takes 1", "--batch-size: the wire 'openai' takes 1"),
        ("lower the endpoint's rate or max_connections", "lower --rate or --max-connections"),
        ("check api_key (or COSY_SYNC_API_KEY)", "(--api-key-file or COSY_SYNC_API_KEY)"),
        ("raise PoolConfig(max_connections)", "raise COSY_SYNC_POOL_MAX_CONNECTIONS"),
        ("give pool=PoolConfig(trust_env=False)", "give COSY_SYNC_POOL_TRUST_ENV=false"),
        ("give PoolConfig(ssl_context=f(cafile=...)) with", "give the variable SSL_CERT_FILE with"),
        ("use wire='runtime_http'", "use --wire runtime_http"),
        ("give voice='中文女', or more", "give --voice 中文女, or more"),
        ("such as Voice('longanyang')", "such as --voice longanyang"),
        ("Voice('中文女', instruction=...)", "--voice 中文女 --instruction TEXT"),
        ("Voice(reference='a.wav', transcript='..')", "--reference FILE --transcript TEXT"),
        ("is: extra={'service': 'vllm'} (vLLM)", """is: --extra '{"service": "vllm"}' (vLLM)"""),
        ("it belongs to an address: Endpoint(url, rate=...)", "it belongs to an address: --rate"),
        ("COSY_SYNC_DEADLINE: must be a number", "COSY_SYNC_DEADLINE: must be a number"),
        ("the service answered HTTP 500: it broke", "the service answered HTTP 500: it broke"),
    ],
)
def test_a_message_is_told_in_options(message: str, told: str) -> None:
    assert told in in_options(message)
    assert meaning(ConfigError(message))[1] == in_options(message)


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429])
def test_advice_to_a_refusal_names_options(status: int) -> None:
    told = in_options(server_error(status, "no").message)
    assert not re.search(r"api_key\b|wire=|batch_size|max_connections", told)


def messages() -> set[str]:
    """Return the strings of the library that may reach a user of the command."""
    found = set()
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0]
        if room in ("cli", "server", "testing", "config", "hints.py"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        nodes = list(ast.walk(tree))
        inner = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        inner |= {node.value for node in nodes if isinstance(node, ast.Expr)}  # docstrings
        for node in nodes:
            if node in inner:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "X" for p in node.values]
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return {text for text in found if " " in text and "\n" not in text}


def test_no_message_of_the_library_leaves_python_for_an_option() -> None:
    names = "|".join(name for name in OPTIONS if name not in ("url", "rate", "format"))
    python = re.compile(rf"(\w+Config|Voice|Endpoint)\(|\b({names})=|\bapi_key\b|max_connections")
    left = {text for text in map(in_options, messages()) if python.search(text)}
    # Only the library can be used so.
    left = {text for text in left if "http_client" not in text and "with_options" not in text}
    assert not left
