"""The true sizes of the labelled sets of the paper, for plans and tests that do not have the sets.

Counts are those of the published tables: clips that are still on YouTube are fewer. VoxCeleb2 has no official split by
utterance, so one clip in ten of its development part is taken as test, and half as many to select settings.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class TaskSize:
    """One set: clips that train (with those that select settings), select and test, and what they are.

    Attributes:
      seconds: the length that clips have at most, or all of them. mean_seconds: their mean.
      multi: whether a clip has several classes. events: whether it is about events in time.
    """

    train: int
    held: int
    test: int
    classes: int
    seconds: float
    mean_seconds: float
    multi: bool = False
    events: bool = False

    @property
    def own(self) -> int:
        """Clips that are fitted while settings are selected."""
        return self.train - self.held

    @property
    def clips(self) -> int:
        """Clips whose features are read."""
        return self.train + self.test


def task_size(
    held: np.ndarray, classes: int, train_s: np.ndarray, test_s: np.ndarray, *, multi: bool, events: bool = False
) -> TaskSize:
    """The size of a task whose training and test clips last ``train_s`` and ``test_s`` seconds."""
    seconds = np.concatenate([train_s, test_s])
    longest, mean = float(seconds.max()), float(seconds.mean())
    return TaskSize(len(train_s), int(held.sum()), len(test_s), classes, longest, mean, multi, events)


SIZES = {
    # development and evaluation parts of FSD50K (Fonseca et al. 2022, table 2), its validation split selects
    "fsd50k": TaskSize(40_966, 4_170, 10_231, 200, 30.0, 7.6, multi=True),
    # vggsound.csv; a fifth of the training clips selects
    "vggsound": TaskSize(183_971, 36_794, 15_496, 309, 10.0, 10.0),
    # iden_split.txt
    "voxceleb1": TaskSize(145_265, 6_904, 8_251, 1_251, 30.0, 8.2),
    "voxceleb2": TaskSize(982_809, 54_600, 109_200, 5_994, 30.0, 7.8),
    # 91 actors; no official split: a fifth tests, a fifth of the rest selects
    "crema_d": TaskSize(5_954, 1_191, 1_488, 6, 5.1, 2.5),
    # folders 0 to b train, c selects, d to f test
    "magnatagatune": TaskSize(20_531, 1_825, 5_332, 50, 29.2, 29.1, multi=True),
    "nsynth_instrument": TaskSize(301_883, 12_678, 4_096, 11, 4.0, 4.0),
    # audioset_train_strong.tsv and audioset_eval_strong.tsv: classes that are in both; a fifth selects
    "audioset_strong": TaskSize(103_463, 20_693, 16_996, 407, 10.0, 10.0, multi=True, events=True),
}
