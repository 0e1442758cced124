from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.backend_options import BackendOptions
from jisu.runtimes.engine import Engine
from jisu.runtimes.opening import load, open_engine
from tests.runtimes.tiny_models import ListBackend, write_artifact

PROMPT = [3, 7, 1, 9, 22]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("tiny") / "artifact"
    write_artifact(folder, "ort-cpu")
    return load(folder, threads=1)


def test_a_pickle_and_a_copy_are_opened_again_by_path(tiny: Engine) -> None:
    expected = tiny.generate_ids([PROMPT], max_new_tokens=4)[0].token_ids
    pickled = pickle.loads(pickle.dumps(tiny))  # noqa: S301  (our own)
    for made in (pickled, copy.copy(tiny), copy.deepcopy(tiny)):
        assert made.backend is not tiny.backend
        assert made.generate_ids([PROMPT], max_new_tokens=4)[0].token_ids == expected
        assert made.backend._opened.get().get_session_options().intra_op_num_threads == 1
        made.close()
    assert tiny.generate_ids([PROMPT], max_new_tokens=4)[0].token_ids == expected


def test_an_engine_around_something_of_this_process_is_not_pickled(tiny: Engine) -> None:
    with pytest.raises(InputError, match="neither pickled nor copied"):
        pickle.dumps(Engine(tiny.artifact, ListBackend()))


def test_options_of_the_backend_may_be_one_object(tiny: Engine) -> None:
    with open_engine(tiny.artifact.folder, "ort-cpu", BackendOptions(threads=1)) as engine:
        assert engine.score(PROMPT).logprobs.tolist() == tiny.score(PROMPT).logprobs.tolist()
        assert engine.backend._opened.get().get_session_options().intra_op_num_threads == 1  # type: ignore[attr-defined]


def test_a_file_that_changed_is_refused_unless_hashes_are_not_compared(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "artifact", "ort-cpu")
    path = artifact.folder / "model.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for checks in ({}, {"check_hashes": True}):
        with pytest.raises(InputError, match="model.onnx"):
            load(artifact.folder, **checks)  # type: ignore[arg-type]


def test_another_backend_is_never_taken_instead(tiny: Engine) -> None:
    with pytest.raises(InputError, match="Allowed: .*ort-cpu"):
        load(tiny.artifact.folder, "ort-gpu")
