"""What models that read images or recordings are judged on: one of these, and behind it the beginning of a text.

There is a text of each domain. What stands for an image or a recording in a prompt is in the artifact's settings.
"""

from __future__ import annotations

from collections.abc import Sequence

from jisu.benchmarks.compare.inputs import Input
from jisu.benchmarks.compare.token_quality import TokenIds, TokenSets
from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGES, RECORDINGS, Artifact
from jisu.exporter.contract.image_settings import read_image_settings
from jisu.exporter.contract.recording_settings import read_recording_settings
from jisu.exporter.gate.prompts import GatePrompts

# Of each domain; an image is as long as several hundred tokens, and is read before each.
WINDOWS, WINDOW = 2, 96


def mark_of(model: Artifact) -> str:
    """The text of the token that stands for an image, or a recording, in a prompt."""
    if model.manifest.model_kind == AUDIO_TEXT:
        return read_recording_settings(model.folder / RECORDINGS).mark
    return read_image_settings(model.folder / IMAGES).mark


def shown_sets(prompts: GatePrompts, model: Artifact, inputs: Sequence[Input]) -> TokenSets:
    """The gate's domains, a text of each behind one of the inputs; no greedy answers."""
    facts = model.manifest.model
    texts = {
        domain.name: [_behind(window, facts.bos) for window in domain.windows[:WINDOWS]]
        for domain in prompts.judged.domains
    }
    files = [one.file for one in inputs]
    return TokenSets(texts=texts, prompts=(), new_tokens=1, shown=files, mark=mark_of(model))


def _behind(window: TokenIds, first: int | None) -> TokenIds:
    """A window without the token that begins a text: here what is shown begins the prompt."""
    return window[1 : WINDOW + 1] if len(window) > 2 and window[0] == first else window[:WINDOW]
