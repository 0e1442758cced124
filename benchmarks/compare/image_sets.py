"""What models that read images are judged on: an image, and behind it the beginning of a text of each domain."""

from __future__ import annotations

from collections.abc import Sequence

from jisu.benchmarks.compare.inputs import Input
from jisu.benchmarks.compare.token_quality import TokenIds, TokenSets
from jisu.exporter.contract.artifact import IMAGES, Artifact
from jisu.exporter.contract.image_settings import read_image_settings
from jisu.exporter.gate.prompts import GatePrompts

# Of each domain; an image is as long as several hundred tokens, and is read before each.
WINDOWS, WINDOW = 2, 96


def image_sets(prompts: GatePrompts, model: Artifact, images: Sequence[Input]) -> TokenSets:
    """The gate's domains, a text of each behind one of the images; no greedy answers."""
    facts = model.manifest.model
    settings = read_image_settings(model.folder / IMAGES)
    texts = {
        domain.name: [_behind(window, facts.bos) for window in domain.windows[:WINDOWS]]
        for domain in prompts.judged.domains
    }
    files = [one.file for one in images]
    return TokenSets(texts=texts, prompts=(), new_tokens=1, images=files, mark=settings.mark)


def _behind(window: TokenIds, first: int | None) -> TokenIds:
    """A window without the token that begins a text: here the image's prompt does."""
    return window[1 : WINDOW + 1] if len(window) > 2 and window[0] == first else window[:WINDOW]
