"""A kind of task in one file, as another distribution would add it: whichever class has the nearest mean."""

import numpy as np

from alp_jax.evaluation.evaluator import Evaluator
from alp_jax.evaluation.measured import from_estimates
from alp_jax.evaluation.stats import bootstrap, metrics
from alp_jax.evaluation.table import Split, hold_out, split_fields


class NearestMean(Evaluator):
    """The label ``kind``; there is no floor."""

    names = ("nearest_mean",)

    @classmethod
    def find(cls, setup):
        table = setup.table
        train, test = table.rows("train"), table.rows("test")
        split = Split(**split_fields(table, train, test, *hold_out(table.groups(train))))
        return cls.from_split(split, setup)

    @classmethod
    def identity(cls, setup):
        return ["nearest mean, version 1"]

    def poolings(self, model):
        return ("mean",)

    def measure(self, features, model, pooling):
        split, labels = self.split, np.array([labels.get("kind") for labels in self.setup.table.labels])
        classes = np.unique(labels[split.train_row])
        x_ND, y_N = features.mean(split.train_row), labels[split.train_row]
        centre_CD = np.stack([x_ND[y_N == name].mean(0) for name in classes])
        distance_NC = ((features.mean(split.test_row)[:, None] - centre_CD) ** 2).sum(2)
        right_N = classes[distance_NC.argmin(1)] == labels[split.test_row]
        drawn = bootstrap.Resamples(split.test_groups)
        chance = {"accuracy": 1 / len(classes)}
        return {self.names[0]: from_estimates({"accuracy": [metrics.mean(right_N)]}, drawn, chance)}

    def floor(self, features):
        return {}
