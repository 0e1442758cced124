"""The source of an artifact as the truth that others are measured by: whole texts, no cache, its logits only.

run_source FOLDER THREADS [SOURCE]
"""

from __future__ import annotations

import sys

from jisu.benchmarks.peers.worker import Opened, serve


def open_engine() -> Opened:
    import numpy as np
    import torch

    from jisu.exporter.contract.artifact import read_artifact
    from jisu.exporter.gate.conditioned import ConditionedReference
    from jisu.exporter.gate.one_pass_reference import one_pass_reference
    from jisu.exporter.gate.reference import TorchReference, reference_of
    from jisu.exporter.sources.recorded_source import load_recorded_source

    folder, threads, *place = sys.argv[1:]
    torch.set_num_threads(int(threads))
    artifact = read_artifact(folder)
    facts = artifact.manifest.model
    loaded = load_recorded_source(artifact, place[0] if place else None, same_files=True)
    reference = one_pass_reference(loaded) if artifact.manifest.reads_whole_texts else reference_of(loaded)

    def write_logits(tokens: list[int], file: str, source: list[int] | None) -> None:
        ids = np.array(tokens, np.int64)
        if source is None:
            np.save(file, reference.logits(ids))
            return
        assert isinstance(reference, TorchReference) and facts.decoder_start is not None
        about = ConditionedReference(reference, [np.array(source, np.int64)], start=facts.decoder_start)
        np.save(file, about.logits(np.array([0, *tokens[1:]], np.int64)))  # of the only source

    return Opened(version=reference.description, write_logits=write_logits)


if __name__ == "__main__":
    serve(open_engine)
