"""Which tokens see later ones is found out by changing one, and a rule that no types tell is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import image_sight, load_source
from jisu.exporter.sources.image_sight import sight_of
from jisu.exporter.sources.image_ways import made_images
from tests.support.image_models import write_image_model


def test_the_types_of_an_image_and_of_a_prompt_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model whose whole prompt sees itself: types of prompts are 0, and 1 those of what follows."""
    source = load_source(write_image_model(tmp_path / "model", "paligemma"))
    assert source.vision is not None
    sight = source.vision.sight
    assert sight is not None
    assert (sight.argument, sight.plain, sight.image, sight.text) == ("token_type_ids", 1, 0, 0)
    assert source.vision.settings.types == {"image": -1, "text": -1}
    assert source.vision.settings.layout == {"before": "", "mark": "<s>", "end": "\n"}
    monkeypatch.setattr(image_sight, "_ARGUMENTS", ())
    with pytest.raises(InputError, match="see those behind them"):
        sight_of(source.vision, made_images(64)[0])


def test_a_text_alone_is_read_from_left_to_right(tmp_path: Path) -> None:
    """Its own forward without types lets all tokens of a call see each other."""
    import torch

    source = load_source(write_image_model(tmp_path / "model", "paligemma"))
    assert source.vision is not None
    ids = torch.arange(8)[None]
    changed = ids.clone()
    changed[0, -1] = 40
    with torch.inference_mode():
        whole, part = (
            [model(input_ids=one, use_cache=False).logits[:, :-1] for one in (ids, changed)]
            for model in (source.vision.model, source.module)
        )
    assert float((part[0] - part[1]).abs().max()) == 0
    assert float((whole[0] - whole[1]).abs().max()) > 0.1


def test_a_decoder_that_sees_back_alone_has_no_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the source is made to let every token see all others, as some do within an image."""
    from transformers.models.llama import modeling_llama

    source: Any = load_source(write_image_model(tmp_path / "model", "llava"))
    assert source.vision.sight is None
    assert source.vision.settings.types is None
    assert source.vision.settings.layout is None
    monkeypatch.setattr(modeling_llama, "create_causal_mask", lambda **_: None)
    for layer in source.module.model.language_model.layers:
        monkeypatch.setattr(layer.self_attn, "is_causal", False)
    with pytest.raises(InputError, match="see those behind them"):
        sight_of(source.vision, made_images(64)[0])


def test_the_reason_is_that_of_its_images_where_texts_alone_fail_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jisu.exporter.sources import folder

    checkpoint = write_image_model(tmp_path / "model", "gemma3")
    own = folder.load_folder

    def fail(*_: Any, **__: Any) -> Any:
        raise InputError("Another reason", received="a", allowed="b", fix="c")

    monkeypatch.setattr(image_sight, "_ARGUMENTS", ())
    monkeypatch.setattr(folder, "load_folder", fail)
    with pytest.raises(InputError, match="see those behind them"):
        own(checkpoint)
