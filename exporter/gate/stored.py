"""The checks that compare what lies in an artifact's files with the source, number by number and key by key.

Runs see what their prompts touch; these see all of it. None of them runs the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.gate.facts import check_facts
from jisu.exporter.gate.float_weights import NAME as FLOATS
from jisu.exporter.gate.float_weights import check_float_weights
from jisu.exporter.gate.folder import NAME as FOLDER
from jisu.exporter.gate.folder import SIGNATURE_NAME, check_folder, check_signature
from jisu.exporter.gate.half import WEIGHTS_NAME, check_half_graph, check_half_weights
from jisu.exporter.gate.int8_sums import NAME as SUMS
from jisu.exporter.gate.int8_sums import check_int8_sums
from jisu.exporter.gate.position_tables import NAME as TABLES
from jisu.exporter.gate.position_tables import check_position_tables
from jisu.exporter.gate.run import run_check
from jisu.exporter.gate.weights import check_weights
from jisu.exporter.precision.half_precision import computed_half
from jisu.exporter.precision.precision import precision_named

if TYPE_CHECKING:
    from jisu.calibration.w8a8.matmul import Quantized
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.gate.folder import WriteFiles
    from jisu.exporter.gate.result import Check
    from jisu.exporter.sources.source import Source


def check_integers(artifact: Artifact, source: Source, intended: Mapping[str, Quantized] | None) -> list[Check]:
    """The integers that the files hold, where it is known which were intended."""
    if not intended:
        return []
    encoder = artifact.encoder if artifact.manifest.signature.encoded else None
    return run_check(WEIGHTS_NAME, partial(check_weights, artifact.graph, intended, encoder=encoder))


def check_stored(artifact: Artifact, source: Source, write_files: WriteFiles | None) -> list[Check]:
    """Facts, signature, files beside the graphs, float weights, tables of positions, int8 sums on other CPUs."""
    checks = [check_facts(artifact.manifest.model, source.model)]
    checks += run_check(SIGNATURE_NAME, partial(check_signature, artifact))
    if write_files is not None:
        checks += run_check(FOLDER, partial(check_folder, artifact, source, write_files))
    graphs = [(artifact.graph, artifact.cpu_graph, "")]
    if artifact.manifest.signature.encoded:
        graphs.append((artifact.encoder, artifact.cpu_encoder, "-encoder"))
    for graph, cpu_graph, ending in graphs:
        graph_checks = _check_graph(artifact, source, graph, cpu_graph)
        checks += [replace(check, name=f"{check.name}{ending}") for check in graph_checks]
    return checks


def _check_graph(artifact: Artifact, source: Source, graph: Path, cpu_graph: Path) -> list[Check]:
    precision = precision_named(artifact.manifest.precision)
    checks = []
    if precision.half is not None or computed_half(precision, artifact.manifest.target) is not None:
        beside = precision.half is None
        checks += run_check(WEIGHTS_NAME, partial(check_half_weights, graph, source.module, beside_integers=beside))
        checks += check_half_graph(graph, cpu_graph)
    checks += run_check(FLOATS, partial(check_float_weights, graph, source.module, read=source.count_read))
    if not artifact.manifest.needs_vnni:
        checks += run_check(SUMS, partial(check_int8_sums, graph))
    source.let_go()
    limit = source.model.max_positions
    checks += run_check(TABLES, partial(check_position_tables, graph, source.module, max_positions=limit))
    source.let_go()
    return checks
