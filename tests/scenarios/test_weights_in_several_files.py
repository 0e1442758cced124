"""An artifact whose weights lie in several files is the same model wherever its files are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jisu
from jisu.exporter.contract.artifact import GRAPH, WEIGHTS, read_artifact, weight_files
from jisu.exporter.contract.errors import InputError

LIMIT = 60_000
LOOSE = {"precision": "int8", "max_kl": 5.0, "min_top1": 0.0, "max_perplexity_ratio": 50.0}


@pytest.fixture(scope="module")
def artifacts(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The same export with its weights in one file and in several; both were accepted."""
    folder = tmp_path_factory.mktemp("shards")
    return (
        jisu.export(tiny_source, folder / "one", **LOOSE),
        jisu.export(tiny_source, folder / "several", max_shard_size=LIMIT, **LOOSE),
    )


def test_no_file_is_larger_than_allowed_and_none_is_missing(artifacts: tuple[Any, Any]) -> None:
    one, several = artifacts
    names = weight_files(several.manifest.files)
    assert len(names) > 2
    assert weight_files(one.manifest.files) == (WEIGHTS,)
    assert all(several.manifest.files[name].size <= LIMIT for name in names)
    joined = b"".join((several.folder / name).read_bytes() for name in names)
    assert joined == (one.folder / WEIGHTS).read_bytes()
    assert {*several.manifest.files} - {*one.manifest.files} == {*names[1:]}


def test_it_answers_alike_and_is_verified_again(artifacts: tuple[Any, Any]) -> None:
    answers = []
    for artifact in artifacts:
        with jisu.load(artifact.folder) as engine:
            answers.append(engine.generate("hello", max_new_tokens=8).text)
    assert answers[0] == answers[1]
    assert jisu.verify(artifacts[1].folder).accepted


def test_layers_are_compared_in_it(artifacts: tuple[Any, Any], tiny_source: Path) -> None:
    from jisu.exporter.gate.reference import reference_of
    from jisu.exporter.graph.localize import compare_layers
    from jisu.exporter.sources import load_source
    from jisu.exporter.sources.layers import find_layers

    source = load_source(tiny_source)
    stack = find_layers(source.module)
    assert stack is not None
    errors = [
        compare_layers(
            artifact.graph,
            signature=artifact.manifest.signature,
            reference=reference_of(source),
            layers=source.module.get_submodule(stack.path),  # type: ignore[arg-type]
            token_ids=np.arange(5, dtype=np.int64),
        )
        for artifact in artifacts
    ]
    assert errors[0] is not None
    assert errors[0] == errors[1]


def test_plans_are_built_of_all_of_them(artifacts: tuple[Any, Any]) -> None:
    from jisu.runtimes.backends.tensorrt.plan_graph import plan_graphs

    several = artifacts[1]
    assert plan_graphs(several)[0].files == (GRAPH, *weight_files(several.manifest.files))


def test_a_missing_one_is_named(artifacts: tuple[Any, Any]) -> None:
    several = artifacts[1]
    hidden = several.folder / f"{WEIGHTS}-2"
    content = hidden.read_bytes()
    hidden.unlink()
    try:
        with pytest.raises(InputError, match=rf"{WEIGHTS}-2 is missing"):
            read_artifact(several.folder)
    finally:
        hidden.write_bytes(content)
