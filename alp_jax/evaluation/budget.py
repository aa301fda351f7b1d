"""How much memory the evaluation may take, and what that decides: how many fits run side by side, what is kept."""

import dataclasses

from alp_jax.config.schema import EvalConfig
from alp_jax.core.accelerators import GIB
from alp_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class MemoryBudget:
    """Bytes that a fit may take on the host and on each device; where the host is the device, both count."""

    host: int
    device: int

    @classmethod
    def of(cls, config: EvalConfig) -> "MemoryBudget":
        """The settings ``host_gib`` and ``device_gib``, in bytes."""
        return cls(round(config.host_gib * GIB), round(config.device_gib * GIB))

    def side_by_side(self, fits: int, shared: int, each: int) -> int:
        """How many of ``fits`` run at once: as many as fit into the device, in groups of about equal size.

        Args:
          shared, each: bytes on a device that all fits share, and that each takes.

        Raises:
          UserError: not even one fits.
        """
        most = (self.device - shared) // each
        if most < 1:
            raise UserError(
                f"one fit takes {(shared + each) / GIB:.1f} GiB of a device: raise config.evaluation.device_gib "
                f"= {self.device / GIB:g}"
            )
        groups = -(-fits // most)
        return -(-fits // groups)
