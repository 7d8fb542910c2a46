"""What is put around texts, transcripts and instructions, by the model's generation."""

from __future__ import annotations

import pytest

from cosy_sync.wires import prompts

THIRD = "Fun-CosyVoice3-0.5B-2512"


@pytest.mark.parametrize(
    ("model", "generation"),
    [
        ("CosyVoice-300M", 1),
        ("iic/CosyVoice-300M-SFT", 1),
        ("CosyVoice-300M-25Hz", 1),
        ("cosyvoice-v1", 1),
        ("cosyvoice1", 1),
        ("iic/CosyVoice2-0.5B", 2),
        ("cosyvoice-v2", 2),
        ("CosyVoice3", 3),
        ("cosyvoice_v3", 3),
        ("cosyvoice-v3-flash", 3),
        ("cosyvoice-v3.5-plus", 3),
        (THIRD, 3),
        ("cosyvoice-30", None),
        ("cosyvoice-v4", None),
        ("my-voice-3", None),
        ("", None),
        (None, None),
    ],
)
def test_a_models_name_tells_its_generation(model: str | None, generation: int | None) -> None:
    assert prompts.generation(model) == generation
    assert prompts.is_third(model) == (generation == 3)


def test_only_the_third_wants_its_marker_before_the_words_of_a_recording() -> None:
    marked = "You are a helpful assistant.<|endofprompt|>希望你好"
    assert prompts.zero_shot_prompt("希望你好", THIRD) == marked
    assert prompts.zero_shot_prompt(marked, THIRD) == marked
    assert prompts.zero_shot_prompt("希望你好", "CosyVoice2-0.5B") == "希望你好"
    assert prompts.zero_shot_prompt("希望你好", None) == "希望你好"


def test_only_the_third_wants_its_marker_before_a_text() -> None:
    marked = "You are a helpful assistant.<|endofprompt|>你好"
    assert prompts.cross_lingual_text("你好", THIRD) == marked
    assert prompts.cross_lingual_text(marked, THIRD) == marked
    assert prompts.cross_lingual_text("你好", "CosyVoice-300M") == "你好"


def test_an_instruction_ends_with_the_mark_once() -> None:
    assert prompts.instruction("说慢点", "CosyVoice2-0.5B") == "说慢点<|endofprompt|>"
    assert prompts.instruction("说慢点", None) == "说慢点<|endofprompt|>"
    third = "You are a helpful assistant. 说慢点<|endofprompt|>"
    assert prompts.instruction("说慢点", THIRD) == third
    assert prompts.instruction(third, THIRD) == third
    assert prompts.instruction("说慢点<|endofprompt|>", None) == "说慢点<|endofprompt|>"
