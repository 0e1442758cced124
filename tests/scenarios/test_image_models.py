"""Models of images and texts from checkpoint to answer, against transformers' own processor and `generate`."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.command_line import main
from jisu.exporter.contract.artifact import read_artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.stages import Stages
from jisu.exporter.pipeline import export
from jisu.runtimes import load
from tests.support.counted_features import check_counted
from tests.support.image_models import FAMILIES, noise, write_image_model

QUESTION = "What is in this picture?"
SIZES = {"one": [(50, 90)], "small": [(30, 31)], "two": [(200, 40), (77, 79)]}


def expected_answer(folder: Path, images: list[Any], *, new_tokens: int) -> tuple[list[int], list[int]]:
    """Prompt and greedy answer of transformers to the question with these images."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText

    from jisu.exporter.sources.folder import _read_config
    from jisu.exporter.sources.image_processor import load_processor, taken_by
    from jisu.exporter.sources.tokenizer import load_folder_tokenizer

    config = _read_config(folder)
    processor = load_processor(folder, config, load_folder_tokenizer(folder, config))
    model = AutoModelForImageTextToText.from_pretrained(str(folder)).eval()
    model.generation_config.eos_token_id = None
    parts = [*({"type": "image"} for _ in images), {"type": "text", "text": QUESTION}]
    text = processor.image_token * len(images) + QUESTION
    if processor.tokenizer.chat_template is not None:
        text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    pictures = [Image.fromarray(one) for one in images]
    inputs = processor(images=pictures, text=text, return_tensors="pt", add_special_tokens=False)
    known = taken_by(model, dict(inputs))
    if "image_grid_thw" not in inputs:
        known.pop("mm_token_type_ids", None)
    with torch.no_grad():
        answer = model.generate(**known, max_new_tokens=new_tokens, do_sample=False)
    prompt = inputs["input_ids"][0].tolist()
    return prompt, answer[0, len(prompt) :].tolist()


# One of each mechanism: the whole list takes half a minute more.
TRIED = ("llava", "idefics3", "internvl", "mistral3", "qwen2_5_vl", "qwen3_vl", "gemma3", "paligemma2")


def test_every_family_that_is_tried_can_be_written() -> None:
    assert set(TRIED) <= set(FAMILIES)


@pytest.mark.parametrize("family", TRIED)
def test_answers_about_images_are_those_of_transformers(family: str, image_artifact: Any) -> None:
    checkpoint, artifact = image_artifact(family)
    names = [check["name"] for check in artifact.manifest.gate["checks"] if check["name"].startswith("image-")]
    assert {"image-pixels", "image-tokens", "image-features", "image-decode", "image-prefill-two"} <= set(names)
    with load(artifact.folder) as engine:
        for sizes in SIZES.values():
            images = [noise(*size, seed=number) for number, size in enumerate(sizes)]
            prompt, expected = expected_answer(checkpoint, images, new_tokens=8)
            result = engine.generate(QUESTION, images=images, max_new_tokens=8, ignore_eos=True)
            assert result.prompt_tokens == len(prompt)
            assert list(result.token_ids) == expected
        beams = engine.generate(QUESTION, images=images, max_new_tokens=4, num_beams=2)
        assert beams.prompt_tokens == len(prompt)


@pytest.fixture(scope="module")
def checkpoint(image_artifact: Any) -> Path:
    return image_artifact("llava")[0]


@pytest.fixture(scope="module")
def artifact(image_artifact: Any) -> Path:
    return image_artifact("llava")[1].folder


def test_command_line_reads_an_image(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    picture = tmp_path / "cat.png"
    Image.fromarray(noise(40, 60)).save(picture)
    assert main(["generate", str(artifact), QUESTION, "--image", str(picture), "--max-new-tokens", "4"]) == 0
    assert "prompt tokens" in capsys.readouterr().err
    truncated = tmp_path / "half.png"
    truncated.write_bytes(picture.read_bytes()[:200])
    assert main(["generate", str(artifact), QUESTION, "--image", str(truncated)]) == 2
    assert "cannot be decoded" in capsys.readouterr().err
    assert main(["generate", str(artifact), QUESTION, "--image", str(tmp_path / "none.png")]) == 2
    options = ["--image", str(picture), "--max-new-tokens", "2"]
    assert main(["generate", str(artifact), QUESTION, "--system", "Be brief.", *options]) == 0
    messages = tmp_path / "messages.json"
    parts = [{"type": "text", "text": "Look:"}, {"type": "image"}]
    messages.write_text(json.dumps([{"role": "user", "content": parts}]))
    assert main(["generate", str(artifact), "--messages", str(messages), *options]) == 0
    assert main(["generate", str(artifact), "--messages", str(messages), "--max-new-tokens", "2"]) == 2
    assert "no image is given" in capsys.readouterr().err
    assert main(["generate", str(artifact), "--input", str(messages), *options]) == 2


def test_images_are_read_without_torch(artifact: Path) -> None:
    code = (
        "import sys, numpy as np\nfrom jisu.runtimes import load\n"
        f"with load({str(artifact)!r}) as engine:\n"
        "    engine.generate('a', images=[np.zeros((9, 9, 3), np.uint8)], max_new_tokens=1)\n"
        "print([name for name in ('torch', 'transformers', 'onnx', 'onnx_ir', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_text_alone_is_read_without_images(artifact: Path) -> None:
    with load(artifact) as engine:
        assert engine.generate("No picture.", max_new_tokens=3, ignore_eos=True).token_ids
        several = engine.generate(["One.", "Two texts."], max_new_tokens=3, ignore_eos=True)
        alone = engine.generate("Two texts.", max_new_tokens=3, ignore_eos=True)
        none = engine.generate("Two texts.", images=[], max_new_tokens=3, ignore_eos=True)
    assert several[1].token_ids == alone.token_ids == none.token_ids


@pytest.mark.parametrize(
    ("prompt", "images", "message"),
    [
        ("<image> a", None, "no image is given"),
        ("<image><image> a", [noise(20, 20)], "another number of images"),
        ("<image> a", [noise(20, 20), noise(20, 20)], "another number of images"),
        ("a", [np.zeros((2, 2), np.float32)], "not an array of pixels"),
    ],
)
def test_marks_and_images_have_to_agree(artifact: Path, prompt: str, images: Any, message: str) -> None:
    with load(artifact) as engine, pytest.raises(InputError, match=message):
        engine.generate(prompt, chat=False, images=images)


def test_users_cannot_write_marks(artifact: Path) -> None:
    """In a message the text of a mark is plain text; beside images of one prompt it is more likely a mistake."""
    image = noise(20, 20)
    parts = [{"type": "image"}, {"type": "text", "text": "<image> a"}]
    with load(artifact) as engine:
        plain = engine.chat([{"role": "user", "content": parts}], images=[image], max_new_tokens=2)
        with pytest.raises(InputError, match="1 times <image> and 1 image"):
            engine.generate("<image> a", images=[image], max_new_tokens=2)
    assert plain.prompt_tokens > 0


def test_conversations_have_images_where_their_messages_say(artifact: Path) -> None:
    image = noise(20, 20)
    parts = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    turns = [{"role": "user", "content": parts}]
    with load(artifact) as engine:
        answer = engine.generate(QUESTION, images=[image], max_new_tokens=6, ignore_eos=True)
        assert engine.chat(turns, images=[image], max_new_tokens=6, ignore_eos=True).token_ids == answer.token_ids
        longer = [*turns, {"role": "assistant", "content": "A dog."}, *turns]
        assert engine.chat(longer, images=[image, noise(9, 30)], max_new_tokens=2).prompt_tokens > answer.prompt_tokens
        with pytest.raises(InputError, match="another number of images"):
            engine.chat(longer, images=[image], max_new_tokens=2)
        with pytest.raises(InputError, match="cannot be left out"):
            engine.chat(longer, images=[image, image], drop_oldest=True)
        with pytest.raises(InputError, match="does not read a recording"):
            engine.chat([{"role": "user", "content": [{"type": "audio"}, parts[1]]}])


def test_one_that_also_continues_texts_is_exported_for_texts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers loads for texts is no less of a model for texts, where its images cannot be read."""
    from jisu.exporter.sources import image_sight

    monkeypatch.setattr(image_sight, "_ARGUMENTS", ())
    checkpoint = write_image_model(tmp_path / "model", "gemma3")
    said = io.StringIO()
    artifact = export(str(checkpoint), out=tmp_path / "out", stages=Stages(verbose=True, stream=said))
    assert artifact.manifest.model_kind == "text-generation"
    assert "It reads texts alone, no images. Gemma3ForConditionalGeneration lets" in said.getvalue().replace("\n", " ")
    with load(artifact.folder) as engine, pytest.raises(InputError, match="reads no images"):
        engine.generate("a", images=[noise(20, 20)])


def test_a_folder_that_lost_a_graph_is_no_artifact(artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["vision.onnx"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="files has no vision.onnx"):
        load(copy)


def test_images_go_to_models_that_read_them(artifact: Path, tiny_artifact: Any) -> None:
    with load(tiny_artifact.folder) as engine, pytest.raises(InputError, match="reads no images"):
        engine.generate("a", images=[noise(20, 20)])
    with pytest.raises(InputError, match="reads no images"):
        load(artifact, "torch")


def test_other_targets_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which the target tensorrt does not yet"):
        export(str(checkpoint), out=tmp_path / "out", target="tensorrt")


def test_reduced_precision_reads_images(checkpoint: Path, artifact: Path, tmp_path: Path) -> None:
    small = export(str(checkpoint), out=tmp_path / "int8", precision="int8")
    assert small.manifest.quantization["vision_graph"] == "8 bits in blocks of 32"
    sizes = [read_artifact(one).manifest.files["vision.onnx.data"].size for one in (small.folder, artifact)]
    assert sizes[0] < 0.7 * sizes[1]
    with load(small.folder) as engine:
        assert engine.generate(QUESTION, images=[noise(30, 40)], max_new_tokens=2).prompt_tokens


def test_a_dry_run_counts_what_reads_images(image_artifact: Any, tmp_path: Path) -> None:
    checkpoint, artifact = image_artifact("idefics3")
    check_counted(checkpoint, artifact.folder, "vision.onnx", out=tmp_path / "out")


def test_axes_of_positions_are_found_for_each_kind_of_layer() -> None:
    from types import SimpleNamespace

    from jisu.exporter.sources.image_text import has_axes

    def with_rope(rope: Any) -> Any:
        text = SimpleNamespace(rope_parameters=rope)
        return SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))

    sections = {"rope_theta": 1.0, "mrope_section": [1, 1, 2]}
    assert has_axes(with_rope(sections)) and has_axes(with_rope({"full_attention": sections}))
    assert not has_axes(with_rope({"rope_theta": 1.0})) and not has_axes(with_rope(None))


def test_a_model_without_features_of_images_is_refused() -> None:
    from types import SimpleNamespace

    from jisu.exporter.sources.image_text import image_features_of

    with pytest.raises(InputError, match="no get_image_features"):
        image_features_of(SimpleNamespace(base_model=SimpleNamespace()))


def test_an_encoder_and_a_decoder_that_also_read_images_say_so() -> None:
    from transformers import LlavaConfig, T5Config, T5Gemma2Config

    from jisu.exporter.sources.image_text import note_on_images

    assert "no images" in note_on_images(T5Gemma2Config())[0]
    assert note_on_images(T5Config()) == [] == note_on_images(LlavaConfig())
