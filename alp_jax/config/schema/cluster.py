"""Flags of one start of a command, which are not settings of a run."""

import dataclasses

from alp_jax.config.domain import setting

CLUSTERS = ("env", "none", "slurm", "tpu", "gke")


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """The processes of a run and where this one stands among them."""

    kind: str = setting(
        "env",
        "where to look: env is ALP_COORDINATOR, ALP_NUM_PROCESSES and ALP_PROCESS_ID, or one process",
        choices=CLUSTERS,
    )
    coordinator: str = setting("", "HOST:PORT on which process 0 listens")
    bind: str = setting("", "address:port it binds to when that is not what coordinator resolves to")
    num_processes: int = setting(0, "of the run; 0: from the environment", unit="processes", low=0)
    process_id: int = setting(-1, "number of this process; -1: from the environment", low=0, also=(-1,))
    timeout_s: float = setting(50.0, "for all processes to join", unit="s", above=0)
