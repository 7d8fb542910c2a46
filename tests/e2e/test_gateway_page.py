"""The page on gateways: its settings are the example's, and its code runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/gateway.md").read_text("utf-8")
EXAMPLE = (ROOT / "examples/envoy/envoy.yaml").read_text("utf-8")


def lines(text: str) -> list[str]:
    """Return its lines without indentation and comments."""
    bare = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in bare if line]


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_what_the_page_on_gateways_explains_stands_in_the_example(block: str) -> None:
    assert "\n".join(lines(block)) in "\n".join(lines(EXAMPLE))


def test_the_code_of_the_page_on_gateways_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = f"{block}\n(endpoint,) = client.endpoints\nclient.close()\n"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_the_readme_of_the_envoy_example_is_short() -> None:
    assert len((ROOT / "examples/envoy/README.md").read_text("utf-8").splitlines()) <= 14
