"""What a job reads: every form gives the same texts, and what is wrong names its line."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from cosy_sync import ConfigError
from cosy_sync.jobs import JobText, read_texts


def texts(path: Path, content: str, format: str | None = None) -> list[tuple[str, str]]:
    path.write_text(content, encoding="utf-8")
    return [(text.id, text.text) for text in read_texts(path, format)]


WANTED = [("a1", "你好，世界"), ("a2", "再见")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.jsonl", '{"id": "a1", "text": "你好，世界"}\n\n{"id": "a2", "sentence": "再见"}\n'),
        ("in.ndjson", '\ufeff{"text": "你好，世界", "utt_id": "a1"}\n{"id": "a2", "text": "再见"}'),
        ("in.csv", 'ID,Text\na1,"你好，世界"\na2,再见\n'),
        ("in.tsv", "text\tid\r\n你好，世界\ta1\r\n再见\ta2\r\n"),
        ("metadata.csv", "a1|你 好|你好，世界\na2|再见\n"),
        ("text", "a1 你好，世界\na2 再见\n"),
        ("metadata.jsonl", '{"file_name": "a1.wav", "transcription": "你好，世界"}\n'
         '{"file_name": "a2.mp3", "transcription": "再见"}\n'),
    ],
)  # fmt: skip
def test_every_form_gives_the_same_texts(tmp_path: Path, name: str, content: str) -> None:
    assert texts(tmp_path / name, content) == WANTED


@pytest.mark.parametrize("name", ["in.jsonl.gz", "metadata.csv.gz"])
def test_a_packed_file_is_read_as_what_is_in_it(tmp_path: Path, name: str) -> None:
    content = '{"id": "a1", "text": "你好"}\n' if "jsonl" in name else "a1|你好\n"
    packed = gzip.compress(content.encode())
    (tmp_path / name).write_bytes(packed)
    assert [(text.id, text.text) for text in read_texts(tmp_path / name)] == [("a1", "你好")]
    for broken in (packed[:-9], content.encode()):
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(ConfigError, match="cannot be read"):
            list(read_texts(tmp_path / name))


def test_an_audiofolders_table_is_not_taken_for_ljspeech(tmp_path: Path) -> None:
    content = "file_name,text\nx/a1.wav,你好\n"
    assert texts(tmp_path / "metadata.csv", content) == [("x/a1", "你好")]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("metadata.csv", "a1|一|\na2|二|贰\n", [("a1", "一"), ("a2", "贰")]),
        ("metadata.csv", "text,file_name\r\n你好,a1.wav\r\n", [("a1", "你好")]),
        ("metadata.csv", '\ufeff"file_name","text"\r\na1.wav,你好\r\n', [("a1", "你好")]),
        ("metadata.csv", "id,text\na1,你好\n", [("a1", "你好")]),
        ("text", "a1\t你好 世界\r\na2  再见\n", [("a1", "你好 世界"), ("a2", "再见")]),
        ("in.csv", 'id,text\r\na1,"你\r\n好"\r\n', [("a1", "你\r\n好")]),
        ("in.txt", "\ufeff你好\r\n", [("0000001", "你好")]),
    ],
)
def test_what_other_programs_write_is_read(
    tmp_path: Path, name: str, content: str, wanted: list[tuple[str, str]]
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert [(text.id, text.text) for text in read_texts(path)] == wanted


def test_lines_are_called_by_their_numbers_and_files_by_their_names(tmp_path: Path) -> None:
    assert texts(tmp_path / "one.txt", "你好\n\n再见\n") == [
        ("0000001", "你好"),
        ("0000003", "再见"),
    ]
    (tmp_path / "two.txt").write_text("好的\n", encoding="utf-8")
    both = read_texts([tmp_path / "one.txt", tmp_path / "two.txt"])
    assert [text.id for text in both] == ["one-0000001", "one-0000003", "two-0000001"]


def test_fields_are_found_however_their_names_are_written(tmp_path: Path) -> None:
    row = {"ID": "a", "Text ": "你好", "VOICE": "中文男", "lang": "zh", "Speed": 1.5, "speed": 2}
    (tmp_path / "in.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (tmp_path / "in.csv").write_text("ID,Text ,VOICE,lang,speed\na,你好,中文男,zh,2\n", "utf-8")
    for name in ("in.jsonl", "in.csv"):
        (text,) = read_texts(tmp_path / name)
        assert text == JobText("a", "你好", "中文男", None, 2.0, place=text.place)
        unused: set[str] = set()
        list(read_texts(tmp_path / name, unused=unused))
        assert unused == {"lang"}


def test_a_row_says_how_it_is_spoken(tmp_path: Path) -> None:
    row = {"id": 7, "text": "你好", "voice": "中文男", "instruction": "开心", "speed": "1.5"}
    (tmp_path / "in.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (text,) = read_texts(tmp_path / "in.jsonl")
    assert text == JobText("7", "你好", "中文男", "开心", 1.5, place=text.place)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("in.jsonl", '{"text": "a"}\n{"text": ', "line 2: no JSON"),
        ("in.jsonl", '["a"]', "line 1: expected an object"),
        ("in.jsonl", '{"id": "a"}', "line 1: expected words as text"),
        ("in.jsonl", '{"id": "a", "text": 5}', "line 1: expected words as text"),
        ("in.jsonl", '{"id": [1], "text": "a"}', "as id"),
        ("in.jsonl", '{"text": "a", "speed": "fast"}', "as speed, found 'fast'"),
        ("in.jsonl", '{"text": "a", "speed": true}', "as speed, found True"),
        ("in.csv", "id,text,voice\na1\n", "expected words as text, found none"),
        ("in.tsv", 'id\ttext\na1\t"a" b\n', "a quote inside it is written twice"),
        ("in.csv", "你好\n再见\n", "expected a header with a column named text, found 你好"),
        ("in.csv", "id,text\na,b,c\n", "line 2: more fields"),
        ("metadata.csv", "a|b|c|d\n", "line 1: expected id|text"),
        ("in.txt", '{"text": "a"}\n', "looks like JSON"),
        ("in.docx", "abc", "give --input-format"),
        ("in.csv", "id,text, Text\na,b,c\n", "line 1: two columns are named text"),
        ("in.csv", 'id,text\na,b\nc,"d\ne,f\ng,h\n', "line 3: no table: a field that begins"),
        ("in.csv", 'id,text\nc,"d\n' + "e,f\n" * 40_000, "line 2: no table: a field that begins"),
        ("in.csv", 'id,text\nc,"d\ne,"f"\n', "line 2: no table"),
    ],
)
def test_what_is_wrong_names_the_file_and_the_line(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    with pytest.raises(ConfigError, match="^[^:]*" + name) as caught:
        texts(tmp_path / name, content)
    assert words in caught.value.message


def test_what_is_not_utf8_or_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes("你好".encode("gb18030"))
    with pytest.raises(ConfigError, match=r"in\.txt: not UTF-8; .* -f GB18030"):
        list(read_texts(tmp_path / "in.txt"))
    (tmp_path / "far.txt").write_bytes("你好\n".encode() * 9_000 + b"\xc4\n")
    with pytest.raises(ConfigError, match=r"far\.txt, soon after line [78]\d{3}: not UTF-8"):
        list(read_texts(tmp_path / "far.txt"))
    (tmp_path / "wide.csv").write_text("id,text\n", "utf-16")
    with pytest.raises(ConfigError, match=r"-f UTF-16 -t UTF-8"):
        list(read_texts(tmp_path / "wide.csv"))
    with pytest.raises(ConfigError, match=r"none\.txt: cannot be read: No such file"):
        list(read_texts(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="'xml' is none; known: jsonl, csv"):
        list(read_texts(tmp_path / "in.txt", "xml"))


def test_standard_input_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").write_text("你好\n", encoding="utf-8")
    with open(tmp_path / "in", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert [text.text for text in read_texts("-")] == ["你好"]
        assert not file.closed
