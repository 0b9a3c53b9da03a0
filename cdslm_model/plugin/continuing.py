"""Base class of generators that continue prompts with a trained checkpoint: keys, batches, errors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cdslm_eval.core.audio import Clip, content_digest
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.contract import GeneratorInfo, Options, RangeGenerator
from cdslm_eval.plugin.prompts import prompt_part
from cdslm_model.errors import ModelError

if TYPE_CHECKING:
    from cdslm_model.checkpoint import Checkpoint

__all__ = [
    "CheckpointGenerator",
    "CheckpointOptions",
    "ContinuationOptions",
    "ContinuingGenerator",
    "generated_clip",
    "prompt_key",
    "reraised",
    "vocoder_weights",
]


class CheckpointOptions(Options):
    """Options of every generator with a checkpoint.

    Attributes:
        checkpoint: Folder of a run, or a checkpoint in it.
        vocoder: Turns log-mels into samples; None takes the run's own.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoint: str
    vocoder: str | None = None
    device: str = "auto"


class ContinuationOptions(CheckpointOptions):
    """Options of every generator that continues prompts.

    Attributes:
        context: The part of each prompt that is continued: its "end", its "start", or "none" (needs no prompts).
        batch: Clips generated at once; moves speed and memory only.
    """

    context: Literal["end", "start", "none"] = "end"
    batch: int = Field(8, ge=1)


class CheckpointGenerator(RangeGenerator):
    """Generates with a checkpoint, which is found once: what is loaded is what the fingerprint states.

    A run that is still trained writes later checkpoints meanwhile, and its vocoder may as well.
    """

    positional = "checkpoint"
    # what is found; both go to workers with the generator
    _saved: Checkpoint | None = None
    _vocoder: str | None = None

    def find(self, path: str) -> Checkpoint:
        """Return the checkpoint of a path; a subclass refuses those of other models."""
        from cdslm_model import checkpoint

        return checkpoint.find_checkpoint(path)

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint of the options, the same at each call."""
        if self._saved is None:
            with reraised():
                self._saved = self.find(self.options.checkpoint)
        return self._saved

    def vocoder(self) -> str:
        """Return the name of the vocoder of the options, or the run's own, with the weights that it has at first."""
        from cdslm_model.sample.vocoder import fixed_vocoder

        if self._vocoder is None:
            with reraised():
                self._vocoder = fixed_vocoder(self.options.vocoder or self.checkpoint().facts["settings"]["vocoder"])
        return self._vocoder


class ContinuingGenerator(CheckpointGenerator):
    """Continues prompts in batches; a subclass loads the checkpoint and generates one batch."""

    prompts = frozenset({"audio"})
    requires: ClassVar[Mapping[str, str]] = {"torch": "torch>=2.5", "safetensors": "safetensors>=0.5"}

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        self.batch_clips = self.options.batch
        self.device: str = self.options.device
        # seed -> model, while a worker holds it open from range to range
        self._opened: dict[int, Any] | None = None
        if self.options.context == "none":
            # Without a context it needs no prompts; the host reads this from the instance.
            self.prompts = frozenset()  # type: ignore[misc]  # narrows the class's value for this instance

    def check_continues(self) -> None:
        """Refuse to have prompts put in front of clips that continue the beginnings of their prompts."""
        super().check_continues()
        if self.options.context == "start":
            raise UsageError(f"{self.name}: with context=start clips do not follow the end of their prompts; use end")

    @abstractmethod
    def load(self, seed: int) -> Any:
        """Return the loaded model, which `generate_batch` gets."""

    @abstractmethod
    def generate_batch(
        self, model: Any, prompts: Sequence[Clip | None], numbers: Sequence[int], seconds: float
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the samples of one batch of continuations.

        Args:
            model: Of `load`.
            prompts: Prompt of each clip; None with `context=none`.
            numbers: Number of each clip, which keys its random numbers.
            seconds: Duration of each.
        """

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Keep the model from range to range; it runs on the device of the options, or of the worker for "auto"."""
        if self.options.device == "auto":
            self.device = device
        self._opened = {}
        try:
            yield
        finally:
            self._opened = None

    def model(self, seed: int) -> Any:
        """Return the loaded model, the same at each call while the generator is open."""
        if self._opened is None:
            return self.load(seed)
        if seed not in self._opened:
            self._opened[seed] = self.load(seed)
        return self._opened[seed]

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield continuations of about the given duration; prompts repeat where there are too few."""
        rate_hz = self.info().rate_hz
        with reraised():
            for model, batch, own in self._batches(prompts, numbers, seed):
                generated = self.generate_batch(model, batch, own, seconds)
                for prompt, number, samples in zip(batch, own, generated, strict=True):
                    yield generated_clip(self._key(prompt, number, prompts), samples, rate_hz)

    def _batches(
        self, prompts: Sequence[Clip], numbers: range, seed: int
    ) -> Iterator[tuple[Any, list[Clip | None], range]]:
        """Yield the model, the prompts and the numbers of each batch."""
        alone = self.options.context == "none"
        if not alone and not len(prompts):
            raise UsageError(
                f"{self.name} continues clips and has no prompts; name a set as prompts, or use context=none"
            )
        model = self.model(seed)
        for start in range(numbers.start, numbers.stop, self.options.batch):
            own = range(start, min(start + self.options.batch, numbers.stop))
            yield model, [None if alone else self._prompt(prompts, number % len(prompts), model) for number in own], own

    @staticmethod
    def _key(prompt: Clip | None, number: int, prompts: Sequence[Clip]) -> str:
        return f"{number:05d}" if prompt is None else prompt_key(prompt, number, len(prompts))

    def context_seconds(self, model: Any) -> float | None:
        """Return how much of a prompt the model reads; None for all of it."""
        del model
        return None

    def _prompt(self, prompts: Sequence[Clip], index: int, model: Any) -> Clip:
        seconds = self.context_seconds(model)
        if seconds is None:
            return prompts[index]
        return prompt_part(prompts, index, seconds, from_end=self.options.context == "end")

    def counted(self, facts: Mapping[str, Any], step: int, conventions: Mapping[str, str]) -> GeneratorInfo:
        """Return N, D and C of a checkpoint, and how each is counted."""
        per_step, settings = facts["per_step"], facts["settings"]
        rate_hz, parameters = facts["mel_spec"]["rate_hz"], facts["parameters"]
        conventions = {**facts["conventions"], **conventions}
        if per_step is None or not step:
            return GeneratorInfo(parameters=parameters, rate_hz=rate_hz, conventions=conventions)
        return GeneratorInfo(
            parameters=parameters,
            tokens=step * per_step["tokens"],
            flops=step * per_step["flops"],
            rate_hz=rate_hz,
            conventions={
                **conventions,
                "6ND": f"{step * per_step['six_nd']:.6g} FLOPs",
                "steps": f"{step} of {settings['batch_size']} windows, seed {settings['seed']}",
            },
        )


def prompt_key(prompt: Clip, number: int, prompts: int) -> str:
    """Return the key of the clip made of a prompt, with a suffix when the prompts repeat."""
    repeat = number // prompts
    return prompt.key if repeat == 0 else f"{prompt.key}-{repeat}"


def generated_clip(key: str, samples: npt.NDArray[np.float32], rate_hz: int | None) -> Clip:
    """Return generated samples as a clip."""
    assert rate_hz is not None  # a checkpoint states its rate
    return Clip(key=key, samples=samples, rate_hz=rate_hz, digest=content_digest(samples, rate_hz))


def vocoder_weights(name: str) -> dict[str, str]:
    """Return the digest of a vocoder's weights, for the fingerprint of a generator; empty for one without weights."""
    from cdslm_model.sample.vocoder import vocoder_digest

    with reraised():
        digest = vocoder_digest(name)
    return {} if digest is None else {"vocoder": digest}


@contextmanager
def reraised() -> Iterator[None]:
    """Raise errors of the model as errors of the evaluation package."""
    try:
        yield
    except ModelError as error:
        raise (UsageError if error.exit_code == 2 else EvalError)(str(error)) from error
