"""The truth that an exported graph is judged by: the source's own forward, whole prefixes, no cache.

It knows nothing of graphs. A transformers model that was given another attention implementation for tracing gets a
stock one while the reference runs and its former one back afterwards; the same tokens always give the same numbers.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.equal_scores import lowest_index_first
from jisu.exporter.sources.half_width import is_half
from jisu.exporter.sources.module_kind import is_of_transformers

if TYPE_CHECKING:
    import torch

    from jisu.exporter.sources.source import Source


class Reference(Protocol):
    """A source model that can be asked for its logits."""

    vocab_size: int
    description: str

    def logits(self, token_ids: npt.NDArray[np.int64], positions: slice | None = None) -> npt.NDArray[np.float32]:
        """Next-token logits after each position of one sequence.

        Args:
            token_ids: int64 [T].
            positions: a slice of the T positions, of any step above 0; None for all of them.

        Returns:
            float32 [T, V], or only the rows asked for.
        """
        ...


def prepare_truth(
    reference: Reference,
    sequences: Sequence[npt.NDArray[np.int64]],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Tell a reference that can work on many sequences at once which ones it is going to be asked.

    Args:
        progress: called with the parts of its work that are done, and their number.
    """
    prepare = getattr(reference, "prepare", None)
    if prepare is not None:
        prepare(sequences, progress)


def reference_of(source: Source) -> TorchReference | ModuleReference:
    """The reference that a source's kind of module needs."""
    if is_of_transformers(source.module):
        return TorchReference(source.module)
    return ModuleReference(source.module, vocab_size=source.model.vocab_size)


class ModuleReference:
    """`Reference` of a module of the user's own; a state, where there is one, is empty before every sequence."""

    def __init__(self, module: torch.nn.Module, *, vocab_size: int) -> None:
        import torch

        self._module = module
        self.vocab_size = vocab_size
        self.description = (
            f"{type(module).__name__} in torch {torch.__version__}, {_dtype_name(module)}, each text at once"
        )

    def logits(self, token_ids: npt.NDArray[np.int64], positions: slice | None = None) -> npt.NDArray[np.float32]:
        """See `Reference.logits`."""
        import torch

        from jisu.calibration.model.layer_walk import inference
        from jisu.calibration.model.whole_sequences import run_whole

        ids = torch.from_numpy(np.ascontiguousarray(token_ids, dtype=np.int64))[None]
        with inference(self._module):
            return _as_float32(run_whole(self._module, ids)[0, positions or slice(None)])


class TorchReference:
    """`Reference` of a transformers language model. The largest buffer is that of the rows asked for."""

    def __init__(self, module: torch.nn.Module) -> None:
        """Raises TypeError when the module has no output embedding to read the vocabulary's size from."""
        import torch

        self.module = cast("Any", module)
        embedding = self.module.get_output_embeddings()
        if embedding is None:
            raise TypeError(f"{type(self.module).__name__} has no output embedding: it is no language model")
        self.vocab_size = int(embedding.weight.shape[0])
        # Asking for some rows only is an option of the model's forward, not of every model.
        self._keeps_rows = "logits_to_keep" in inspect.signature(self.module.forward).parameters
        self.description = f"{type(self.module).__name__} in torch {torch.__version__}, {_dtype_name(module)}, no cache"

    @contextlib.contextmanager
    def stock(self) -> Iterator[Any]:
        """Yield the module as its authors ship it: stock attention, evaluation mode, no gradients."""
        with stock_attention(self.module) as module:
            yield module

    def logits(self, token_ids: npt.NDArray[np.int64], positions: slice | None = None) -> npt.NDArray[np.float32]:
        """See `Reference.logits`."""
        import torch

        rows = range(len(token_ids))[positions] if positions is not None else range(len(token_ids))
        device = next(self.module.parameters()).device
        with self.stock() as module:
            ids = torch.from_numpy(np.ascontiguousarray(token_ids, dtype=np.int64))[None].to(device)
            options: dict[str, Any] = {"use_cache": False}
            if self._keeps_rows and len(rows) < len(token_ids):
                options["logits_to_keep"] = torch.arange(rows.start, rows.stop, rows.step, device=device)
                return _as_float32(module(ids, **options).logits[0])
            return _as_float32(module(ids, **options).logits[0, rows.start : rows.stop : rows.step])


@contextlib.contextmanager
def stock_attention(module: Any) -> Iterator[Any]:
    """Yield a module as its authors ship it: stock attention, evaluation mode, no gradients."""
    import torch

    attention = getattr(getattr(module, "config", None), "_attn_implementation", None)
    training = module.training
    stock_name = "sdpa" if getattr(module, "_supports_sdpa", False) else "eager"
    changed = attention not in ("sdpa", "eager", None) and hasattr(module, "set_attn_implementation")
    if changed:
        module.set_attn_implementation(stock_name)
    module.eval()
    try:
        with torch.inference_mode(), lowest_index_first(module):
            yield module
    finally:
        module.train(training)
        if changed:
            module.set_attn_implementation(attention)


def _as_float32(logits: torch.Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = logits.float().cpu().numpy()
    return array


def _dtype_name(module: torch.nn.Module) -> str:
    first = next(module.parameters())
    return "float32" if is_half(first) else str(first.dtype).removeprefix("torch.")
