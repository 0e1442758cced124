"""Loading a processor, and what is said of folders that have none, a broken one, or one that wants to run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.image_processor import PROCESSOR_FILES
from tests.support.image_models import write_image_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_image_model(tmp_path / "model", "llava")


def test_a_folder_without_a_processor_is_refused(folder: Path) -> None:
    for name in PROCESSOR_FILES:
        (folder / name).unlink()
    with pytest.raises(InputError, match="does not say how its images are prepared"):
        load_source(folder)


def test_remote_code_is_refused(folder: Path) -> None:
    path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoProcessor": "code.Processor"}}))
    with pytest.raises(InputError, match="remote code"):
        load_source(folder)


def test_a_broken_processor_is_refused(folder: Path) -> None:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_processor_type": "None"}))
    with pytest.raises(InputError, match="image processor"):
        load_source(folder)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("processor_config.json", {"patch_size": None}, "LlavaProcessor cannot prepare images"),
        ("preprocessor_config.json", {"image_std": [0.2, 0.2, []]}, "LlavaProcessor cannot prepare images"),
        ("processor_config.json", {"num_additional_image_tokens": 5}, "do not fit each other"),
        ("config.json", {"architectures": 7}, None),
    ],
)
def test_settings_that_fit_no_image_or_not_the_model_are_refused(
    folder: Path, name: str, changes: dict[str, Any], said: str | None
) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    if said is None:  # the type of the model says what it is
        assert load_source(folder).vision is not None
        return
    with pytest.raises(InputError, match=said):
        load_source(folder)


def test_an_image_token_without_an_embedding_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "image_token_id": 100_000, "image_token_index": 100_000}))
    with pytest.raises(InputError, match="does not say which token stands for an image"):
        load_source(folder)


def test_a_processor_that_gives_no_text_for_an_image_is_named() -> None:
    from types import SimpleNamespace

    from jisu.exporter.sources.image_processor import process_prompt

    def leave_out(**_: Any) -> Any:
        raise NotImplementedError

    class Silent(SimpleNamespace):
        def __call__(self, **options: Any) -> Any:
            return leave_out(**options)

    with pytest.raises(InputError, match="Silent does not say what it writes in the place of one image"):
        process_prompt(Silent(), "<image>", [])


def test_what_is_prepared_with_torchvision_alone_is_refused() -> None:
    from jisu.exporter.sources.image_processor import _refuse_torchvision

    class TorchvisionBackend:
        pass

    class Prepares(TorchvisionBackend):
        pass

    _refuse_torchvision(object(), Path("model"))
    with pytest.raises(InputError, match="prepared with torchvision alone. Received: Prepares"):
        _refuse_torchvision(Prepares(), Path("model"))


def test_videos_stand_in_for_settings_and_are_written() -> None:
    from jisu.exporter.sources.image_processor import NO_VIDEOS

    assert NO_VIDEOS.slice_mode is None
    assert json.dumps(NO_VIDEOS) == "{}"
