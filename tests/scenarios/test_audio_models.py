"""Models of recordings and texts from checkpoint to answer, against transformers' own processor and `generate`."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jisu.command_line import main
from jisu.exporter.contract.artifact import read_artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.recordings import voice
from jisu.exporter.pipeline import export
from jisu.runtimes import load
from jisu.runtimes.speech.cuts import CUTS
from tests.support.audio_models import FAMILIES, WINDOW
from tests.support.counted_features import check_counted

QUESTION = "What is said?"
RATE = 16_000
# In seconds: short, odd, two, and more than a window where the model takes it.
LENGTHS: dict[str, list[float]] = {"short": [0.1], "odd": [1.2345], "two": [1.7, 0.61], "long": [2.3 * WINDOW]}


def recordings_of(seconds: list[float]) -> list[npt.NDArray[np.float32]]:
    return [voice(RATE, one, seed=number, pitch=100.0 + 60 * number) for number, one in enumerate(seconds)]


def expected_answer(folder: Path, recordings: list[Any], *, new_tokens: int) -> tuple[list[int], list[int]]:
    """Prompt and greedy answer of transformers to the question with these recordings."""
    import torch

    from jisu.exporter.sources.audio_processor import load_audio_processor, process_recordings
    from jisu.exporter.sources.audio_text import audio_text_class
    from jisu.exporter.sources.folder import _read_config
    from jisu.exporter.sources.image_processor import taken_by
    from jisu.exporter.sources.tokenizer import load_folder_tokenizer

    config = _read_config(folder)
    processor = load_audio_processor(folder, config, load_folder_tokenizer(folder, config))
    kind: Any = audio_text_class(config)
    model = kind.from_pretrained(str(folder)).eval()
    model.generation_config.eos_token_id = None
    parts = [*({"type": "audio"} for _ in recordings), {"type": "text", "text": QUESTION}]
    text = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
    )
    inputs = process_recordings(processor, text, recordings, RATE)
    with torch.no_grad():
        answer = model.generate(**taken_by(model, inputs), max_new_tokens=new_tokens, do_sample=False)
    prompt = inputs["input_ids"][0].tolist()
    return prompt, answer[0, len(prompt) :].tolist()


# One of each mechanism: the whole list takes longer.
TRIED = ("qwen2_audio", "audioflamingo3", "qwen3_asr")


def test_every_family_that_is_tried_can_be_written() -> None:
    assert set(TRIED) <= set(FAMILIES)


@pytest.mark.parametrize("family", TRIED)
def test_answers_about_recordings_are_those_of_transformers(family: str, audio_artifact: Any) -> None:
    checkpoint, artifact = audio_artifact(family)
    names = {check["name"] for check in artifact.manifest.gate["checks"]}
    assert {"recording-sound", "recording-lengths", "recording-features", "recording-order"} <= names
    # Of a network that attends in windows, one recording has several.
    assert ("recording-prefill-several-windows" in names) == (family == "qwen3_asr")
    settings = json.loads((artifact.folder / "recordings.json").read_text())
    longest = settings["longest"]
    assert settings["separate"] == (settings["preparation"] == "each-window")
    with load(artifact.folder) as engine:
        for seconds in LENGTHS.values():
            recordings = recordings_of(seconds)
            if settings["most"] is not None and settings["most"] < len(recordings):
                with pytest.raises(InputError, match="takes fewer recordings in one prompt"):
                    engine.generate(QUESTION, audios=recordings)
                continue
            if longest is not None and longest < len(recordings[0]):
                with pytest.raises(InputError, match="longer than the model hears"):
                    engine.generate(QUESTION, audios=recordings)
                continue
            prompt, expected = expected_answer(checkpoint, recordings, new_tokens=8)
            result = engine.generate(QUESTION, audios=recordings, max_new_tokens=8, ignore_eos=True)
            assert result.prompt_tokens == len(prompt)
            assert list(result.token_ids) == expected


@pytest.fixture(scope="module")
def checkpoint(audio_artifact: Any) -> Path:
    return audio_artifact("qwen2_audio")[0]


@pytest.fixture(scope="module")
def artifact(audio_artifact: Any) -> Path:
    return audio_artifact("qwen2_audio")[1].folder


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV file of stereo samples at the model's rate."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    (samples,) = recordings_of([1.1])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.repeat(samples, 2) * 32767).astype("<i2").tobytes())
    return path


def test_command_line_reads_a_recording(
    artifact: Path, talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["generate", str(artifact), QUESTION]
    assert main([*ask, "--audio", str(talk), "--max-new-tokens", "4"]) == 0
    assert "prompt tokens" in capsys.readouterr().err
    two = ["--audio", str(talk), "--audio", str(talk)]
    assert main([*ask, *two, "--system", "Be brief.", "--max-new-tokens", "2"]) == 0
    messages = tmp_path / "messages.json"
    parts = [{"type": "text", "text": "Listen:"}, {"type": "audio"}]
    messages.write_text(json.dumps([{"role": "user", "content": parts}]))
    with_messages = ["generate", str(artifact), "--messages", str(messages), "--max-new-tokens", "2"]
    assert main([*with_messages, "--audio", str(talk)]) == 0
    capsys.readouterr()
    assert main(with_messages) == 2
    assert "no recording is given" in capsys.readouterr().err
    assert main([*with_messages, *two]) == 2
    assert "another number of recordings than marks" in capsys.readouterr().err


def test_recordings_that_cannot_be_read_are_refused(
    artifact: Path, talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, empty = tmp_path / "broken.wav", tmp_path / "empty.wav"
    broken.write_bytes(b"RIFF" + talk.read_bytes()[40:90])
    empty.write_bytes(b"")
    for path in (broken, empty, tmp_path / "none.wav"):
        assert main(["generate", str(artifact), QUESTION, "--audio", str(path)]) == 2
        assert path.name in capsys.readouterr().err
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n')
    assert main(["generate", str(artifact), "--input", str(prompts), "--audio", str(talk)]) == 2
    assert "belong to one prompt" in capsys.readouterr().err


def test_recordings_are_read_in_every_way_to_ask(artifact: Path, talk: Path) -> None:
    with load(artifact) as engine:
        plain = engine.generate(QUESTION, audios=[talk], max_new_tokens=6, ignore_eos=True)
        stream = engine.stream(QUESTION, audios=[talk], max_new_tokens=6, ignore_eos=True)
        assert "".join(stream) == plain.text
        messages = [{"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": QUESTION}]}]
        chatted = engine.chat(messages, audios=[talk], max_new_tokens=6, ignore_eos=True)
        assert chatted.token_ids == plain.token_ids
        later = asyncio.run(engine.agenerate(QUESTION, audios=[talk], max_new_tokens=6, ignore_eos=True))
        assert later.token_ids == plain.token_ids
        (samples,) = recordings_of([0.8])
        one = engine.generate(QUESTION, audios=samples, max_new_tokens=4, ignore_eos=True)
        pair = engine.generate(QUESTION, audios=[(samples, RATE)], max_new_tokens=4, ignore_eos=True)
        other = engine.generate(QUESTION, audios=(samples, RATE), max_new_tokens=4, ignore_eos=True)
        assert one.token_ids == pair.token_ids == other.token_ids
        slower = engine.generate(QUESTION, audios=[(samples, RATE // 2)], max_new_tokens=4)
        assert slower.prompt_tokens > one.prompt_tokens
        raw = engine.generate("<|AUDIO|> and then?", chat=False, audios=[samples], max_new_tokens=2)
        before = engine.generate(" and then?", chat=False, audios=[samples], max_new_tokens=2)
        assert raw.token_ids == before.token_ids
        beams = engine.generate(QUESTION, audios=[talk], max_new_tokens=4, num_beams=2)
        assert beams.prompt_tokens == plain.prompt_tokens
        assert engine.generate("A text alone.", max_new_tokens=2).token_ids


def test_errors_say_what_is_wrong(artifact: Path, talk: Path, tiny_artifact: Any, image_artifact: Any) -> None:
    with load(artifact) as engine:
        for options, message in (
            ({"audios": [talk], "images": ["a.png"]}, "images or recordings, not both"),
            ({"images": ["a.png"]}, "reads no images here"),
            ({"audios": [np.zeros(0, np.float32)]}, "is empty"),
            ({"audios": [np.zeros(20, np.float32)]}, "too short for the model to hear"),
            ({"audios": ["<|AUDIO|>"]}, "cannot be read"),
        ):
            with pytest.raises(InputError, match=message):
                engine.generate(QUESTION, **options)
        with pytest.raises(InputError, match="belong to one prompt"):
            engine.generate([QUESTION, QUESTION], audios=[talk])  # type: ignore[call-overload]
        with pytest.raises(InputError, match="another number of recordings"):
            engine.generate("<|AUDIO|><|AUDIO|>", chat=False, audios=[talk])
    for other in (tiny_artifact.folder, image_artifact("llava")[1].folder):
        with load(other) as engine, pytest.raises(InputError, match="reads no recordings here"):
            engine.generate(QUESTION, audios=[talk])


def test_a_dry_run_says_what_would_be_done(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], image_artifact: Any
) -> None:
    assert main(["export", str(checkpoint), "--out", str(tmp_path / "dry"), "--dry-run"]) == 0
    assert "Qwen2AudioForConditionalGeneration" in capsys.readouterr().out
    images = image_artifact("llava")[0]
    assert main(["export", str(images), "--out", str(tmp_path / "dry"), "--dry-run"]) == 0
    assert not (tmp_path / "dry").exists()


def test_a_dry_run_counts_what_hears(checkpoint: Path, artifact: Path, tmp_path: Path) -> None:
    check_counted(checkpoint, artifact, "hearing.onnx", out=tmp_path / "out")


def test_a_damaged_folder_is_refused(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    (copy / "hearing.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="is damaged"):
        load(copy)
    monkeypatch.delitem(CUTS, "one-window")
    with pytest.raises(InputError, match="cut in a way that this version does not know"):
        load(artifact)


def test_reduced_precision_hears(
    checkpoint: Path, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = export(str(checkpoint), out=tmp_path / "int8", precision="int8")
    sizes = [read_artifact(one).manifest.files["hearing.onnx.data"].size for one in (small.folder, artifact)]
    assert sizes[0] < 0.7 * sizes[1]
    assert main(["inspect", str(small.folder)]) == 0
    assert "hearing_graph 8 bits in blocks of 32" in capsys.readouterr().out
    (limit,) = (check["limit"] for check in small.manifest.gate["checks"] if check["name"] == "recording-features")
    assert limit == 0.3
    with load(small.folder) as engine:
        assert engine.generate(QUESTION, audios=recordings_of([0.7]), max_new_tokens=2).prompt_tokens


def test_other_targets_and_backends_say_so(checkpoint: Path, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reads recordings, which the target ort-cuda does not"):
        export(str(checkpoint), out=tmp_path / "cuda", target="ort-cuda")
    with pytest.raises(InputError, match="reads no recordings"):
        load(artifact, backend="torch", source=str(checkpoint))


def test_running_needs_neither_torch_nor_transformers(artifact: Path, talk: Path) -> None:
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'PIL'): sys.modules[name] = None\n"
        "from jisu.runtimes import load\n"
        f"with load({str(artifact)!r}) as engine:\n"
        f"    print(engine.generate('What?', audios=[{str(talk)!r}], max_new_tokens=2).prompt_tokens)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
