"""How well the frames of a frozen encoder tell when an event sounds: a frame probe, a running median and PSDS.

PSDS is the polyphonic sound detection score, see ``psds``.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core.clip import SAMPLE_RATE, Event
from alp_jax.core.metrics import METRICS
from alp_jax.core.run_files import DETECTION, FRAMES
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.evaluator import Evaluator, Setup
from alp_jax.evaluation.features import Features
from alp_jax.evaluation.measured import Measured
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.probes.sizes import TaskSize, task_size
from alp_jax.evaluation.sed.frame_probe import CLASS_BLOCK, fit_frame_probe, frame_scores, smoothed
from alp_jax.evaluation.sed.psds import ALPHA_ST, Changes, class_changes, psds
from alp_jax.evaluation.sed.task import SedTask, Side, sed_task
from alp_jax.evaluation.stats import bootstrap
from alp_jax.evaluation.stats.metrics import average_precision
from alp_jax.evaluation.table import Shortage

RESAMPLES = 100  # for the interval; few, as each takes a whole score
MEDIAN_S = 0.44  # of the running median over a clip's scores


class DetectionEvaluator(Evaluator):
    """A linear frame probe on the frozen encoder."""

    names = (DETECTION,)

    @classmethod
    def find(cls, setup: Setup) -> tuple[list[Evaluator], dict[str, Shortage]]:
        return cls.from_split(sed_task(setup.dataset, setup.table, setup.config), setup)

    def rows(self) -> np.ndarray:
        """No rows: the audio is mixtures, or clips that are cut to another length than in other tasks."""
        return np.zeros(0, np.int64)

    def poolings(self, model: EvalModel) -> tuple[str, ...]:
        return (FRAMES,)

    def measure(self, features: Features, model: EvalModel, pooling: str) -> dict[str, Measured]:
        return {DETECTION: detect(self.split, features, self.setup.config)}

    def size(self) -> TaskSize:
        task = self.split
        train_s, test_s = (_seconds(side, task.seconds) for side in (task.train, task.test))
        return task_size(task.held, len(task.classes), train_s, test_s, multi=True, events=True)

    def floor(self, features: Features) -> dict[str, Measured]:
        return {DETECTION: detect(self.split, features, self.setup.config)}


@dataclasses.dataclass(frozen=True)
class _Frames:
    """The frames of one side: ``read`` takes positions of clips, ``hop_N`` is the seconds per frame of each clip."""

    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    hop_N: np.ndarray


def detect(task: SedTask, features: Features, config: EvalConfig) -> Measured:
    """Fits a linear frame probe and scores it: values with intervals over test clips, and the selected setting.

    ``psds1`` is the headline. Small encoders seldom score above zero there, so two easier metrics stand beside it:
    ``psds_mean``, without the penalty on the deviation over classes, and ``frame_map``, the mean average precision over
    single frames.
    """
    train, test = _open(task, task.train, features, "train"), _open(task, task.test, features, "test")

    def targets(clips: np.ndarray, frames: int) -> np.ndarray:
        return np.stack([_active(task.train.events[n], task.classes, frames, train.hop_N[n]) for n in clips])

    weight_DC, bias_C, selected = fit_frame_probe(
        train.read,
        targets,
        task.held,
        len(task.classes),
        epochs=config.probe_epochs,
        budget=MemoryBudget.of(config),
        saves=features.saves(DETECTION, task.split_hash, task.seconds),
    )
    drawn = bootstrap.Resamples(task.test.groups, count=RESAMPLES)
    weight_RN = np.concatenate([np.ones((1, len(drawn.member_N))), drawn.apply(lambda weight_rN: weight_rN)])
    changes = _changes(task, test, weight_DC, bias_C)
    scores_AR = psds(changes, _seconds(task.test, task.seconds), weight_RN, (ALPHA_ST, 0.0))
    values = {
        name: bootstrap.scored(name, scores_R[0], scores_R[1:], drawn, METRICS[name].chance)
        for name, scores_R in zip(("psds1", "psds_mean"), scores_AR, strict=True)
    }
    precision, chance = _frame_map(task, test, weight_DC, bias_C)
    values["frame_map"] = {"value": precision, "interval": None, "chance": chance}
    return Measured(values, drawn.unit, selected=selected)


def _frame_map(task: SedTask, test: _Frames, weight_DC: np.ndarray, bias_C: np.ndarray) -> tuple[float, float]:
    """Mean average precision over all test frames, and chance: the mean share of frames in which a class sounds."""
    precisions, chance = [], []
    for block, scores_NTC, len_N in _scores(task, test, weight_DC, bias_C):
        inside_NT = np.arange(scores_NTC.shape[1]) < len_N[:, None]
        shape = task.classes[block], scores_NTC.shape[1]
        target_NTC = np.stack(
            [_active(events, *shape, hop) for events, hop in zip(task.test.events, test.hop_N, strict=True)]
        )
        precisions += [
            average_precision(scores_NTC[inside_NT, c], target_NTC[inside_NT, c]).value
            for c in range(len(task.classes[block]))
        ]
        chance.append(target_NTC[inside_NT].mean(0))
    return float(np.nanmean(precisions)), float(np.concatenate(chance).mean())


def _open(task: SedTask, side: Side, features: Features, name: str) -> _Frames:
    audio = features.elsewhere(side.dataset, side.rows, task.seconds, f"sed-{name}")
    length_N = audio.length(side.rows)
    width = int(length_N.max())
    # duration over frames is off by at most a frame at the end of the clip, whatever hop the encoder has
    hop_N = _seconds(side, task.seconds) / length_N
    return _Frames(lambda clips: audio.frames(side.rows[clips], width), hop_N)


def _active(events: tuple[Event, ...], classes: tuple[str, ...], frames: int, hop: float) -> np.ndarray:
    """float32[T,C], 1 where the middle of a frame lies in an event of the class."""
    found_TC = np.zeros((frames, len(classes)), np.float32)
    middle_T = (np.arange(frames) + 0.5) * hop
    for event in events:
        if event.label in classes:
            inside_T = (middle_T >= event.onset_s) & (middle_T < event.offset_s)
            found_TC[inside_T, classes.index(event.label)] = 1
    return found_TC


def _seconds(side: Side, longest: float) -> np.ndarray:
    return np.minimum(side.dataset.num_samples[side.rows] / SAMPLE_RATE, longest)


def _scores(
    task: SedTask, test: _Frames, weight_DC: np.ndarray, bias_C: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """(slice of classes, scores_NTC, len_N) of the test clips, CLASS_BLOCK classes at a time."""
    clips = np.arange(len(task.test.rows))
    for first in range(0, len(task.classes), CLASS_BLOCK):
        block = slice(first, first + CLASS_BLOCK)
        yield block, *frame_scores(test.read, clips, weight_DC[:, block], bias_C[block])


def _changes(task: SedTask, test: _Frames, weight_DC: np.ndarray, bias_C: np.ndarray) -> Iterator[Changes]:
    """The ``Changes`` of every class, in order."""
    width = max(1, round(MEDIAN_S / float(np.median(test.hop_N)))) | 1
    for block, scores_NTC, len_N in _scores(task, test, weight_DC, bias_C):
        scores_NTC = smoothed(scores_NTC, len_N, width)
        for c, name in enumerate(task.classes[block]):
            events = {
                n: np.array([(e.onset_s, e.offset_s) for e in of_clip if e.label == name]).reshape(-1, 2)
                for n, of_clip in enumerate(task.test.events)
            }
            yield class_changes(scores_NTC[..., c], len_N, test.hop_N, events)
