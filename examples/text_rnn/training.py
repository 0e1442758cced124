"""The training loop: batches, one of two losses, one of two optimizers, early stopping, and a checkpoint per epoch."""

from __future__ import annotations

import hashlib
import math
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from examples.text_rnn.batches import batches_of, part_of
from examples.text_rnn.checkpoint import Progress, read_progress, save_progress
from examples.text_rnn.evaluation import mean_loss
from examples.text_rnn.losses import LOSSES, Loss, loss_of
from examples.text_rnn.new_folder import check_new
from examples.text_rnn.optimizers import LEARNING_RATES, LONGEST_GRADIENT, OPTIMIZERS, OptimizerName, build_optimizer
from examples.text_rnn.prepared_data import TOKENIZER, TRAIN, Examples, Preparation
from examples.text_rnn.scores import scores_and_targets
from examples.text_rnn.trained_model import Network, build_module, write_model
from examples.text_rnn.word_vectors import Vectors, vector_size
from jisu import InputError
from jisu.networks import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_VALIDATION_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How to train.

    Attributes:
        loss, optimizer, rate: what is made small, and how; the rate defaults to the optimizer's own.
        epochs: passes over the training data, at most.
        batch_size: texts per step.
        patience: epochs without a lower validation loss after which training stops.
        longest: tokens of a text; what is longer is cut.
        freeze_embeddings: keep given word vectors as they are.
        seed: same seed, same data, same settings: same model.
        threads: that compute; networks this small gain little from more than one, and lose much on a busy machine.
    """

    loss: Loss = "cross-entropy"
    optimizer: OptimizerName = "adam"
    rate: float | None = None
    epochs: int = 10
    batch_size: int = 32
    patience: int = 3
    longest: int = 64
    freeze_embeddings: bool = False
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if self.rate is None and self.optimizer in LEARNING_RATES:
            object.__setattr__(self, "rate", LEARNING_RATES[self.optimizer])
        wrong = [
            f"{name} {getattr(self, name)}"
            for name in ("epochs", "batch_size", "patience", "threads")
            if not getattr(self, name) >= 1
        ]
        if self.loss not in LOSSES:
            wrong.append(f"loss {self.loss!r}")
        if self.optimizer not in OPTIMIZERS:
            wrong.append(f"optimizer {self.optimizer!r}")
        if self.rate is not None and not (0 < self.rate < math.inf):
            wrong.append(f"rate {self.rate}")
        if self.longest < 2:
            wrong.append(f"longest {self.longest}")
        if wrong:
            raise InputError(
                "Training cannot be done like this",
                received=", ".join(wrong),
                allowed=f"a loss of {', '.join(LOSSES)}, an optimizer of {', '.join(OPTIMIZERS)}, a positive rate, "
                "counts of 1 or more and texts of 2 tokens or more",
                fix="Change these settings.",
            )


def train(
    out: Path,
    data: Path,
    examples: Examples,
    *,
    model: ModelSettings,
    training: TrainingSettings,
    preparation: Preparation,
    vectors: Vectors | None = None,
    vocabulary: Mapping[str, int] | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Progress:
    """Train a model and write it to ``out``.

    Args:
        out: a new folder, or the folder of an unfinished training when ``resume``.
        data: the folder of the prepared data that ``examples`` are from.
        vectors, vocabulary: word vectors to begin with, and the token id of each word.
        say: reports each epoch's losses in a line.

    Returns:
        Where the training ended.

    Raises:
        InputError: too few texts, a folder that is there already, or a checkpoint of another training. Nothing has
            been written then.
    """
    identity = _identity(data, model, training, vectors)
    fitted, validated = _split(examples, training.seed)
    torch.set_num_threads(training.threads)
    torch.manual_seed(training.seed)
    module = build_module(model, preparation)
    if vectors is not None and vocabulary is not None:
        _set_embedding(module, vectors, vocabulary, freeze=training.freeze_embeddings)
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert training.rate is not None
    optimizer = build_optimizer(training.optimizer, learned, rate=training.rate)
    if resume:
        progress = read_progress(out, identity)
        module.load_state_dict(progress.weights)
        optimizer.load_state_dict(progress.optimizer)
    else:
        check_new(out)
        progress = Progress(
            identity=identity,
            epoch=0,
            weights={},
            optimizer={},
            best_loss=math.inf,
            best_epoch=0,
            best_weights={},
            history=[],
        )
    while progress.epoch < training.epochs and progress.epoch - progress.best_epoch < training.patience:
        begun = time.perf_counter()
        loss = _epoch(module, optimizer, fitted, training, number=progress.epoch + 1)
        judged = mean_loss(module, validated, loss=training.loss, batch_size=training.batch_size)
        _check_finite(loss, judged, epoch=progress.epoch + 1)
        _advance(progress, module, optimizer, losses=(loss, judged))
        save_progress(out, progress)
        say(
            f"epoch {progress.epoch}/{training.epochs}: training loss {loss:.4f}, validation loss {judged:.4f}"
            f"{', the best so far' if progress.best_epoch == progress.epoch else ''} "
            f"({time.perf_counter() - begun:.1f} s)"
        )
    record = {**asdict(training), "history": progress.history, "best_epoch": progress.best_epoch}
    write_model(out, progress.best_weights, settings=model, data=data, preparation=preparation, record=record)
    return progress


def _epoch(
    module: Network, optimizer: torch.optim.Optimizer, examples: Examples, training: TrainingSettings, *, number: int
) -> float:
    """One pass over the training data; returns its mean loss, a weighted mean of the batches'.

    Order and dropout are drawn from the seed and the epoch's number alone, so that an epoch does not depend on whether
    the ones before it ran in this process.
    """
    seed = random.Random(f"{training.seed} {number}").getrandbits(60)
    torch.manual_seed(seed)
    batches = batches_of(examples, size=training.batch_size, shuffle_seed=seed)
    module.train()
    total, count = 0.0, 0
    with _progress_bar(f"epoch {number}", len(batches)) as advance:
        for batch in batches:
            scores, targets = scores_and_targets(module, batch)
            loss = loss_of(training.loss, scores, targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), LONGEST_GRADIENT)
            optimizer.step()
            total, count = total + loss.item() * len(batch[0]), count + len(batch[0])
            advance()
    return total / count


def _check_finite(*losses: float, epoch: int) -> None:
    if not all(map(math.isfinite, losses)):
        raise InputError(
            "The training has diverged",
            received=f"losses of {' and '.join(map(str, losses))} in epoch {epoch}",
            allowed="finite losses",
            fix="Lower --rate and train again into a new folder.",
        )


def _advance(
    progress: Progress, module: Network, optimizer: torch.optim.Optimizer, *, losses: tuple[float, float]
) -> None:
    progress.epoch += 1
    progress.history.append(losses)
    progress.weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    progress.optimizer = optimizer.state_dict()
    if losses[1] < progress.best_loss:
        progress.best_loss, progress.best_epoch = losses[1], progress.epoch
        progress.best_weights = progress.weights


def _split(examples: Examples, seed: int) -> tuple[Examples, Examples]:
    """Training and validation texts; the test data is for the evaluation alone."""
    count = len(examples.token_ids)
    held_out = max(1, round(count * _VALIDATION_SHARE))
    if count < 2:
        raise InputError(
            "There are too few texts to train on",
            received=count,
            allowed="2 or more, since some are held out to stop in time",
            fix="Give more texts.",
        )
    order = random.Random(seed).sample(range(count), count)
    return part_of(examples, sorted(order[held_out:])), part_of(examples, sorted(order[:held_out]))


def _set_embedding(module: Network, vectors: Vectors, vocabulary: Mapping[str, int], *, freeze: bool) -> None:
    """Give words their vectors; those without one keep a random one of the same spread."""
    weight = module.embedding.weight
    with torch.no_grad():
        known = torch.stack([torch.from_numpy(vector) for vector in vectors.values()])
        weight.mul_(known.std().clamp(min=1e-3))
        for word, vector in vectors.items():
            weight[vocabulary[word]] = torch.from_numpy(vector)
    weight.requires_grad_(not freeze)


def _identity(data: Path, model: ModelSettings, training: TrainingSettings, vectors: Vectors | None) -> dict[str, Any]:
    """What makes a training this one; more epochs only make it longer."""
    hashes = {name: hashlib.sha256((data / name).read_bytes()).hexdigest()[:16] for name in (TRAIN, TOKENIZER)}
    settings = {**model.to_dict(), **asdict(training)}
    del settings["epochs"]
    return {**settings, **hashes, "word vectors": _vectors_identity(vectors)}


def _vectors_identity(vectors: Vectors | None) -> str:
    if vectors is None:
        return "none"
    digest = hashlib.sha256()
    for word in sorted(vectors):
        digest.update(word.encode("utf-8") + vectors[word].tobytes())
    return f"{len(vectors)} of size {vector_size(vectors)}, {digest.hexdigest()[:16]}"


@contextmanager
def _progress_bar(name: str, steps: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error that goes away when it is full; nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=steps)
        yield lambda: bar.advance(task)
