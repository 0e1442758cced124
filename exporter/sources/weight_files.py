"""What becomes of a folder's weight files: which are read, which only lie there, and what an index says of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from jisu.exporter.sources.account import Account, is_ignored
from jisu.exporter.sources.safetensors_files import read_index, weight_files_beside


def account_for_files(
    account: Account, folder: Path, files: Collection[Path], names: Collection[str], *, pickled: bool
) -> Account:
    """Add a statement for each weight file of a folder, and one for each tensor that an index names and no file holds.

    Args:
        account: to add to.
        folder: the checkpoint.
        files: those that are read.
        names: of the tensors in them.
        pickled: whether these are pickles.
    """
    account = account.state("file", [file.name for file in files], fate="used")
    read = {file.name for file in files}
    single = "pytorch_model.bin" if pickled else "model.safetensors"
    table = {} if read == {single} else read_index(folder, pickled=pickled)
    indexed = bool(table) and set(table.values()) == read
    index = f"{single}.index.json"
    if indexed:
        account = account.state("file", index, fate="used")
        lost = [name for name in table if name not in set(names) and not is_ignored(name, account.ignore)]
        account = account.state("tensor", lost, fate="refused", why=f"{index} names them, and no file holds them")
        unnamed = [name for name in names if name not in table]
        if unnamed:
            account = account.remark(f"{index} does not name {len(unnamed)} of the {len(names)} stored tensors.")
    beside = [name for name in weight_files_beside(folder, files) if not (indexed and name == index)]
    why = f"the weights are those of {', '.join(sorted(read)) if len(read) < 3 else f'{len(read)} files of {index}'}"
    return account.state("file", beside, fate="unread", why=why)
