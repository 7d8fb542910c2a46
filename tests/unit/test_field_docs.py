"""Every setting says what it is: under its field, where `help()` and editors show it."""

import dataclasses
import pydoc

import pytest

import cosy_sync.config
from cosy_sync.config import CallSettings, ClientConfig, Settings
from cosy_sync.fields import field_docs
from cosy_sync.testing import ServerConfig

CLASSES = [
    value
    for name in cosy_sync.config.__all__
    if dataclasses.is_dataclass(value := getattr(cosy_sync.config, name))
]


@pytest.mark.parametrize("cls", [*CLASSES, ServerConfig], ids=lambda cls: cls.__name__)
def test_each_field_of_a_config_class_has_a_docstring(cls: type) -> None:
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    assert sorted(field_docs(cls)) == sorted(names)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_help_tells_each_field(cls: type) -> None:
    told = pydoc.render_doc(cls, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    for name, said in field_docs(cls).items():
        assert f"{name}: {said.split()[0]}" in told


@pytest.mark.parametrize("kind", [CallSettings, Settings])
def test_keyword_arguments_are_explained_as_their_fields_are(kind: type) -> None:
    # Editors show what stands here for CosyClient(url, deadline=...) and synth(text, speed=...).
    whole, said = field_docs(ClientConfig), field_docs(kind)
    assert sorted(said) == sorted(kind.__annotations__.keys() & said.keys())
    assert set(kind.__annotations__) - set(said) <= set(CallSettings.__annotations__)
    for name in said.keys() - {"instruction", "batch_size"}:
        assert whole[name].startswith(said[name])


def test_help_goes_without_the_fields_where_there_is_no_source() -> None:
    made: dict[str, type] = {}
    exec("class Made:\n    size: int = 1\n    '''How much.'''\n", made)
    assert field_docs(made["Made"]) == {}
