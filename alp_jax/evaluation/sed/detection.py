"""How well the frames of a frozen encoder tell when an event sounds: a frame probe, a running median and PSDS.

PSDS is the polyphonic sound detection score, see ``psds``.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence

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
from alp_jax.evaluation.sed.frame_probe import SMOOTHED, class_blocks, fit_frame_probe, frame_scores, smoothed
from alp_jax.evaluation.sed.psds import ALPHA_ST, PSDS_RESAMPLES, Changes, class_changes, psds
from alp_jax.evaluation.sed.task import SedTask, Side, sed_task
from alp_jax.evaluation.stats import bootstrap
from alp_jax.evaluation.stats.metrics import average_precision
from alp_jax.evaluation.table import Shortage

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
    index = {name: c for c, name in enumerate(task.classes)}

    def targets(clips: np.ndarray, frames: int) -> np.ndarray:
        target_NTC = np.zeros((len(clips), frames, len(task.classes)), np.float32)
        for i, n in enumerate(clips.tolist()):
            for event in task.train.events[n]:
                if event.label in index:
                    times = np.array([[event.onset_s, event.offset_s]])
                    target_NTC[i, _active(times, frames, train.hop_N[n]), index[event.label]] = 1
        return target_NTC

    weight_DC, bias_C, selected = fit_frame_probe(
        train.read,
        targets,
        task.held,
        len(task.classes),
        epochs=config.probe_epochs,
        budget=MemoryBudget.of(config),
        saves=features.saves(DETECTION, task.split_hash, task.seconds),
    )
    drawn = bootstrap.Resamples(task.test.groups, count=PSDS_RESAMPLES)
    weight_RN = np.concatenate([np.ones((1, len(drawn.member_N))), drawn.apply(lambda weight_rN: weight_rN)])
    precisions = _Precisions()
    changes = _changes(task, test, weight_DC, bias_C, MemoryBudget.of(config), precisions)
    scores_AR = psds(changes, _seconds(task.test, task.seconds), weight_RN, (ALPHA_ST, 0.0))
    values = {
        name: bootstrap.scored(name, scores_R[0], scores_R[1:], drawn, METRICS[name].chance)
        for name, scores_R in zip(("psds1", "psds_mean"), scores_AR, strict=True)
    }
    values["frame_map"] = precisions.result()
    return Measured(values, drawn.unit, selected=selected)


class _Precisions:
    """Average precision of every class over all test frames, and the share of frames in which it sounds."""

    def __init__(self) -> None:
        self._value: list[float] = []
        self._share: list[float] = []

    def add(self, score_F: np.ndarray, active_F: np.ndarray) -> None:
        """The next class."""
        self._value.append(average_precision(score_F, active_F).value)
        self._share.append(float(active_F.mean(dtype=np.float64)))

    def result(self) -> dict:
        """Mean average precision, and chance, which is the mean share."""
        value, chance = float(np.nanmean(self._value)), float(np.mean(self._share))
        return {"value": value, "interval": None, "chance": chance}


def _open(task: SedTask, side: Side, features: Features, name: str) -> _Frames:
    audio = features.elsewhere(side.dataset, side.rows, task.seconds, f"sed-{name}")
    length_N = audio.length(side.rows)
    width = int(length_N.max())
    # duration over frames is off by at most a frame at the end of the clip, whatever hop the encoder has
    hop_N = _seconds(side, task.seconds) / length_N
    return _Frames(lambda clips: audio.frames(side.rows[clips], width), hop_N)


def _active(times_E2: np.ndarray, frames: int, hop: float) -> np.ndarray:
    """bool[T], whether the middle of a frame lies in an event with these onsets and offsets."""
    middle_T1 = (np.arange(frames)[:, None] + 0.5) * hop
    return ((middle_T1 >= times_E2[:, 0]) & (middle_T1 < times_E2[:, 1])).any(1)


def _seconds(side: Side, longest: float) -> np.ndarray:
    return np.minimum(side.dataset.num_samples[side.rows] / SAMPLE_RATE, longest)


def _changes(
    task: SedTask, test: _Frames, weight_DC: np.ndarray, bias_C: np.ndarray, budget: MemoryBudget, into: _Precisions
) -> Iterator[Changes]:
    """The ``Changes`` of every class, in order; the test frames are read once for as many classes as fit into memory.

    Precisions are of the scores as they are, changes of their running medians.
    """
    clips, width = np.arange(len(task.test.rows)), max(1, round(MEDIAN_S / float(np.median(test.hop_N)))) | 1
    events = _by_class(task.test.events)
    frames = test.read(clips[:1])[0].shape[1]
    for block in class_blocks(len(task.classes), len(clips), frames, len(weight_DC), budget):
        scores_CNT, len_N = frame_scores(test.read, clips, weight_DC[:, block], bias_C[block])
        inside_NT = np.arange(frames) < len_N[:, None]
        for c, name in enumerate(task.classes[block]):
            if c % SMOOTHED == 0:
                smooth_CNT = smoothed(scores_CNT[c : c + SMOOTHED], len_N, width)
            active_NT = np.zeros(inside_NT.shape, np.float32)
            for n, times in events[name].items():
                active_NT[n] = _active(times, frames, test.hop_N[n])
            into.add(scores_CNT[c][inside_NT], active_NT[inside_NT])
            yield class_changes(smooth_CNT[c % SMOOTHED], len_N, test.hop_N, events[name])


def _by_class(events: Sequence[tuple[Event, ...]]) -> dict[str, dict[int, np.ndarray]]:
    """Class -> clip -> float64[E,2], onsets and offsets."""
    times: dict[str, dict[int, list]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for clip, of_clip in enumerate(events):
        for event in of_clip:
            times[event.label][clip].append((event.onset_s, event.offset_s))
    return {name: {clip: np.array(pairs) for clip, pairs in of.items()} for name, of in times.items()}
