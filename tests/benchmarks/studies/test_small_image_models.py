"""Small checkpoints of default configurations: what is made small, what is kept, what tokens there are."""

from __future__ import annotations

from jisu.benchmarks.studies.small_image_models import _MROPE, _processor_class, byte_tokenizer, small_config


def test_numbers_become_small_and_what_follows_from_them_follows() -> None:
    from transformers import Qwen3VLConfig

    config = small_config(Qwen3VLConfig(), {"text_config": {"head_dim": 32}}, sections=True)
    text, vision = config.text_config, config.vision_config
    assert (text.hidden_size, text.num_hidden_layers, text.head_dim) == (64, 2, 32)
    assert text.rope_parameters["mrope_section"] == _MROPE
    assert vision.depth == 2
    assert list(vision.deepstack_visual_indexes) == [0, 1]


def test_what_a_whole_says_of_itsparts_of_is_kept() -> None:
    from transformers import LlavaConfig

    whole = LlavaConfig()
    config = small_config(whole, {}, sections=False)
    assert config.vision_config.patch_size == whole.vision_config.patch_size
    assert config.vision_config.image_size == 8 * config.vision_config.patch_size


def test_tokens_that_a_processor_names_are_tokens() -> None:
    tokenizer = byte_tokenizer(_processor_class("internvl"))
    assert len(tokenizer.encode("<|begin_of_image|>", add_special_tokens=False)) == 1
    assert tokenizer.context_image_token == "<image>"
