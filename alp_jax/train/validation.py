"""The loss on clips that no run trains on, measured now and then while a run trains.

It is the objective's own loss and its metrics, without augmentation, dropout or regularisers, of the parameters that
would be evaluated. Clips, crops, captions and the rows that are decoded in order are always the same, on any number of
devices that divides ``CLIPS``; a batch has clips of one source, so that every source has a loss of its own. A
contrastive loss compares a clip with the others of its batch, and so with clips of its own source.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from alp_jax.config import RunConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.run_files import Result
from alp_jax.core.target import backend
from alp_jax.data.order.held_out import fixed_draws, validation_rows
from alp_jax.data.pipeline import empty_batch, put_audio, stable_id
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.records import Crop
from alp_jax.data.text.normalise import caption_ids, normalise
from alp_jax.data.text.tags import TagList
from alp_jax.data.text.tokenizer import Tokenizer
from alp_jax.features.logmel import log_mel
from alp_jax.objectives.base import Arrays
from alp_jax.parallel import hosts
from alp_jax.parallel.mesh import batch_part, batch_sharding, batch_shards, on_mesh, put_batch, replicated
from alp_jax.train.build import Parts
from alp_jax.train.state import State

CLIPS = 64  # of a batch
LOSS, TASK = "validation/loss", "validation"


class Validation:
    """Measures the loss of a state; a run of ``config.train.validate_every`` steps has one.

    Raises:
      UserError: there is no clip to measure on.
    """

    def __init__(self, config: RunConfig, dataset: Dataset, tokenizer: Tokenizer, parts: Parts, mesh: Mesh):
        self._config, self._dataset, self._tokenizer, self._mesh = config, dataset, tokenizer, mesh
        chosen = validation_rows(dataset, config.data, config.train.validate_clips)
        self._batches = [(name, rows) for name in chosen for rows in _cut(chosen[name])]
        self._tags = TagList.load(config.data.tags) if config.data.tags else None
        self._measure = _measurement(config, parts, mesh)

    @property
    def clips(self) -> dict[str, int]:
        """How many clips of each source it is measured on."""
        sources = dict.fromkeys(name for name, _ in self._batches)
        return {name: sum(len(rows) for other, rows in self._batches if other == name) for name in sources}

    def of(self, state: State) -> dict[str, float]:
        """``validation/loss`` and the objective's metrics over all clips, and ``validation/SOURCE/loss``.

        Every process has to call it, with the same state; the values are those of all processes.
        """
        params, found = state.get("average", state["params"]), []
        with hosts.stage("measuring the validation loss", quiet=True, every=self._config.train.validate_every):
            for name, rows in self._batches:
                values = jax.device_get(self._measure(params, put_batch(self._read(rows), self._mesh)))
                found.append((name, len(rows), {key: float(value) for key, value in values.items()}))
        means = {f"{TASK}/{key}": _mean(found, key) for key in found[0][2]}
        for name in self.clips:
            means[f"{TASK}/{name}/loss"] = _mean([one for one in found if one[0] == name], "loss")
        return means

    def results(self, values: Mapping[str, float], step: int) -> list[Result]:
        """``values`` of ``of`` after ``step`` steps as results of a run: over all sources, and of each."""
        losses = {TASK: (values[LOSS], sum(self.clips.values()))}
        losses |= {f"{TASK}_{name}": (values[f"{TASK}/{name}/loss"], count) for name, count in self.clips.items()}
        return [
            Result(
                task,
                self._config.objective.name,
                "loss",
                {"loss": {"value": value, "interval": None, "chance": None, "floor": None}},
                {"step": step, "test_clips": clips},
            )
            for task, (value, clips) in losses.items()
        ]

    def _read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """This process's rows of the batch of clips ``rows``, with padding rows where devices do not divide it."""
        part, shares = batch_part(self._mesh)
        shards = batch_shards(self._mesh)
        size = -(-max(CLIPS, len(rows)) // shards) * shards // shares
        own, width = rows[part * size : (part + 1) * size], round(self._config.evaluation.max_seconds * SAMPLE_RATE)
        budget, draws = self._config.data.text_budget, [fixed_draws(self._dataset.id[int(row)].as_py()) for row in own]
        batch = empty_batch(size, width) | {
            "text": np.full((size, budget), self._tokenizer.pad_id, np.int32),
            **{name: np.zeros(size, np.int32) for name in ("text_len", "recording", "caption_group", "source")},
        }
        if self._tags:
            batch["tags"] = np.zeros((size, len(self._tags)), bool)
        crops = [Crop(place, width) for place, _ in draws]
        for i, record in enumerate(self._dataset.read_many(own, audio=crops)):
            assert record.audio is not None, "a crop was asked for"
            put_audio(batch, i, int(own[i]), record.audio)
            caption = record.captions[int(draws[i][1] * len(record.captions))]
            tokens, _ = caption_ids(caption, self._tokenizer, self._config.data)
            batch["text"][i, : len(tokens)], batch["text_len"][i] = tokens, len(tokens)
            batch["recording"][i], batch["caption_group"][i] = (
                stable_id(record.recording),
                stable_id(normalise(caption)),
            )
            if self._tags:
                batch["tags"][i] = self._tags.mask(record)
        del batch["row"]
        return batch


def _cut(rows: np.ndarray) -> list[np.ndarray]:
    """Batches of ``CLIPS`` clips; of fewer where there are not as many. A rest is left out: it has fewer negatives."""
    whole = len(rows) // CLIPS * CLIPS
    return np.split(rows[:whole], whole // CLIPS) if whole else [rows]


def _mean(found: list[tuple[str, int, dict[str, float]]], key: str) -> float:
    return sum(clips * values[key] for _, clips, values in found) / sum(clips for _, clips, _ in found)


def _measurement(config: RunConfig, parts: Parts, mesh: Mesh) -> jax.stages.Wrapped:
    """The jitted (params, batch) -> loss and metrics, float32."""
    rows, platform = batch_sharding(mesh).spec, backend(jax.default_backend)

    @partial(jax.shard_map, mesh=mesh, in_specs=(rows, rows), out_specs=(rows, rows))
    def mel_of_rows(audio_BS: jax.Array, audio_len_B: jax.Array) -> tuple[jax.Array, jax.Array]:
        return log_mel(audio_BS, audio_len_B, config.features, platform)

    def measure(params: Any, batch: Arrays) -> Arrays:
        mel_BTF, len_B = mel_of_rows(batch["audio"], batch["audio_len"])
        inputs = parts.objective.prepare(batch, jax.random.key(0))
        with on_mesh(mesh):
            outputs = parts.apply(params, mel_BTF, len_B, inputs)
        loss, metrics = parts.objective.loss(outputs, inputs, batch)
        return jax.tree.map(lambda x: x.astype(jnp.float32), {**metrics, "loss": loss})

    return jax.jit(measure, out_shardings=replicated(mesh))
