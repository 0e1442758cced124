"""What only stands for a file is called by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholder, refuse_placeholders

LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 988097824\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LFS, "git-lfs pointer of 134 bytes, which stands for 988,097,824 bytes.*git lfs pull"),
        (LFS.replace("git-lfs.github", "hawser.github"), "git-lfs pointer"),
        ('# xet version 0\nfilesize = 12345\nhash = "ab"\n', "git-xet pointer.*12,345 bytes"),
        ("/annex/objects/SHA256E-s123--ab.safetensors\n", "git-annex pointer.*git annex get"),
    ],
)
def test_a_pointer_is_named_with_what_fetches_the_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(InputError, match=words):
        refuse_placeholder(tmp_path / "file")
    with pytest.raises(InputError, match=words):
        refuse_placeholders(tmp_path)


def test_a_link_to_nowhere_is_named_with_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to("../blobs/gone")
    with pytest.raises(InputError, match=r"a link to \.\./blobs/gone, where nothing is"):
        refuse_placeholder(tmp_path / "file")


def test_files_links_folders_and_nothing_pass(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a text about version https://git-lfs.github.com/spec/v1")
    (tmp_path / "long").write_text(LFS + " " * 1024)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    refuse_placeholders(tmp_path)
    refuse_placeholder(tmp_path / "nothing")
