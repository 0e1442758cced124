"""Nothing half-written ever looks like an artifact, and nothing that is not ours is removed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jisu.exporter.contract.artifact import (
    GRAPH,
    MANIFEST,
)
from jisu.exporter.contract.errors import InputError
from jisu.exporter.packaging.staging import check_place, publish, refuse_existing, remove_stale, staging_folder


def test_published_folder_has_the_final_name_and_leaves_no_other(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staging_folder(out) as staged:
        (staged / "sub").mkdir()
        (staged / "sub" / "file").write_text("x")
        publish(staged, out)
    assert (out / "sub" / "file").read_text() == "x"
    assert list(tmp_path.iterdir()) == [out]


def test_published_folder_is_readable_by_others(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "out") as staged:
        publish(staged, tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_exception(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), staging_folder(tmp_path / "out") as staged:
        (staged / GRAPH).write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_parents_made_for_a_failed_export_are_removed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), staging_folder(tmp_path / "a" / "b" / "out"):
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []


def test_parents_with_other_content_stay(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), staging_folder(tmp_path / "a" / "out"):
        (tmp_path / "a" / "other").write_text("x")
        raise ValueError("stop")
    assert (tmp_path / "a" / "other").exists()


def test_parents_of_a_published_artifact_stay(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with staging_folder(out) as staged:
        publish(staged, out)
    assert out.is_dir()


def test_staged_folder_does_not_look_like_an_artifact(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "out") as staged:
        assert staged.parent == tmp_path
        assert staged.name.startswith(".out.")
        assert staged.suffix == ".partial"


def test_output_below_a_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="No output folder"), staging_folder(tmp_path / "file" / "out"):
        pass


def test_publish_refuses_a_folder_that_appeared_meanwhile(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="already exists"), staging_folder(out) as staged:
        (staged / "new").write_text("x")
        out.mkdir()  # empty: a plain rename would silently take its place
        publish(staged, out)
    assert list(tmp_path.iterdir()) == [out]
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_refuse_existing_sees_every_kind(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("x")
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="already exists"):
        refuse_existing(out)


def test_refuse_existing_lets_a_free_path_pass(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "out")


def test_what_a_killed_export_left_is_removed(tmp_path: Path) -> None:
    stale, other, empty = (tmp_path / name for name in (".out.a1.partial", ".other.a1.partial", ".out.b2.partial"))
    for place in (stale, other, empty):
        place.mkdir()
    for place in (stale, other):
        (place / GRAPH).write_text("half")
    assert remove_stale(tmp_path / "out") == [stale, empty]
    assert not stale.exists()
    assert not empty.exists()  # of an export that was killed before it wrote anything
    assert other.exists()


def test_a_folder_that_is_taken_for_a_killed_exports_is_made_again(tmp_path: Path, monkeypatch) -> None:
    made = []
    make = tempfile.mkdtemp

    def make_and_lose_the_first(**options: str) -> str:
        made.append(make(**options))
        if len(made) == 1:
            assert remove_stale(tmp_path / "out") == [Path(made[0])]
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose_the_first)
    with staging_folder(tmp_path / "out") as staged:
        assert staged == Path(made[1])
        assert remove_stale(tmp_path / "out") == []  # it is locked


def test_what_a_running_export_writes_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from jisu.exporter.packaging.staging import staging_folder\n"
        "with staging_folder(Path(sys.argv[1])) as staged:\n"
        "    (staged / 'model.onnx').write_text('half'); print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        assert remove_stale(tmp_path / "out") == []
        assert len(list(tmp_path.iterdir())) == 1
        running.kill()
        running.wait()
    assert len(remove_stale(tmp_path / "out")) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 300, "a" * 240, "x/" + "b" * 300, "bad\udcff", "nul\0"])
def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name of the .* cannot be used"):
        check_place(tmp_path / name, checkpoint="m")


@pytest.mark.parametrize("name", ["out", "a" * 220, "a/b/c", "语言"])
def test_other_names_pass(tmp_path: Path, name: str) -> None:
    check_place(tmp_path / name, checkpoint="m")


@pytest.fixture
def published(tiny_artifact, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact.folder, tmp_path / "out"))


def test_an_earlier_artifact_is_replaced_on_request(published: Path) -> None:
    check_place(published, checkpoint=None, overwrite=True)
    with staging_folder(published) as staged:
        (staged / GRAPH).write_text("new")
        publish(staged, published, overwrite=True)
    assert [path.name for path in published.iterdir()] == [GRAPH]
    assert list(published.parent.iterdir()) == [published]


def test_a_damaged_artifact_is_replaced_too(published: Path) -> None:
    (published / GRAPH).unlink()
    refuse_existing(published, overwrite=True)


@pytest.mark.parametrize("kind", ["no manifest", "another manifest", "own file", "own file below", "link", "file"])
def test_what_no_export_wrote_is_never_overwritten(published: Path, kind: str) -> None:
    place = published
    if kind == "no manifest":
        (published / MANIFEST).unlink()
    elif kind == "another manifest":
        (published / MANIFEST).write_text('{"name": "a web application"}')
    elif kind == "own file":
        (published / "README.md").write_text("my notes")
    elif kind == "own file below":
        (published / "notes").mkdir()
        (published / "notes" / ".hidden").write_text("mine")
    elif kind == "link":
        place = published.with_name("link")
        place.symlink_to(published)
    else:
        place = published / GRAPH
    with pytest.raises(InputError, match="cannot be overwritten"):
        refuse_existing(place, overwrite=True)
    with pytest.raises(InputError, match="already exists"):
        refuse_existing(place)


def test_a_place_within_an_artifact_is_refused_with_overwrite_too(published: Path) -> None:
    with pytest.raises(InputError, match="within"):
        check_place(published / "other", checkpoint=None, overwrite=True)
