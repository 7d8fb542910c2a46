"""What is said of a Markdown document."""

import sys

import pytest

from cosy_sync import ConfigError
from cosy_sync.text import plain_from_markdown

pytest.importorskip("markdown_it", reason="needs the extra markdown")


@pytest.mark.parametrize(
    ("markdown", "said"),
    [
        ("# 第一章\n\n春天**来了**，*花儿*开了。", "第一章。\n\n春天来了，花儿开了。"),
        ("See [the page](https://example.com/x?y=z) now!", "See the page now!"),
        ("![a red fox](fox.png) sits here", "a red fox sits here."),
        ("- one\n- two\n  - three", "one.\n\ntwo.\n\nthree."),
        ("1. 一\n2. 二", "一。\n\n二。"),
        (
            "Run `pip install x` first:\n\n```python\nprint(1)\n```\n\nDone",
            "Run pip install x first:\n\nDone.",
        ),
        ("one\ntwo", "one two."),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a, b.\n\n1, 2."),
        ("> 引用的话", "引用的话。"),
        ("before\n\n---\n\n***\n\n<div>html</div>\n\nafter <b>bold</b>", "before.\n\nafter bold."),
        ("~~old~~ new", "old new."),
        ("a &amp; b &lt; c", "a & b < c."),
        ("", ""),
        ("```\nonly code\n```", ""),
        ("one<br>two<BR />three", "one two three."),
        ("| a<br/>b | c |\n|---|---|", "a b, c."),
        ("---\ntitle: x\ntags:\n  - a\n---\n\n正文。", "正文。"),
        ("\ufeff---\r\n# made by hand\ntitle: x\r\n...\r\nbody", "body."),
        ("+++\ntitle = 'x'\n\n+++\nbody", "body."),
        (
            "---\nNote: prose\n\nbetween rules\n\n---\n\nmore",
            "Note: prose.\n\nbetween rules.\n\nmore.",
        ),
        ("---\n\nkey: prose\n\n---", "key: prose."),
        (
            "一[^1]二[^note]。\n\n[^1]: gone\ngone\n\n    gone\n\n三\n\n[^note]: https://x.yz",
            "一二。\n\n三。",
        ),
        (
            "**注意：**请看。他说**“你好”**他走了。**一 *二*。**三。",
            "注意：请看。他说“你好”他走了。一 二。三。",
        ),
        (r"`2**3**4` and \*\*not\*\*", "2**3**4 and **not**"),
        ("no note[^1] here, [^a-z]", "no note[^1] here, [^a-z]"),
        ("`[^1]`\n\n```\n[^1]: code\n```", "[^1]"),
    ],
)
def test_words_remain_and_marks_go(markdown: str, said: str) -> None:
    assert plain_from_markdown(markdown) == said


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    with pytest.raises(ConfigError, match="pip install 'markdown-it-py"):
        plain_from_markdown("# x")
