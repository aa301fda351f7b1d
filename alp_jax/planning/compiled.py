"""Compiles one program for a target and reads from the result what it needs there."""

import dataclasses
import time
from typing import Any

from alp_jax.planning.topology import Target
from alp_jax.planning.traffic import Traffic, traffic


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compiled program says about itself; bytes are those of one device."""

    arguments: float
    outputs: float
    aliased: float  # outputs that take the place of arguments
    temporary: float
    traffic: Traffic
    least: Traffic  # where every condition takes its cheapest branch
    compile_s: float

    @property
    def peak(self) -> float:
        """Peak bytes: arguments, outputs that do not take their place, and temporaries."""
        return self.arguments + self.outputs - self.aliased + self.temporary


def compile_for(target: Target, lowered: Any) -> Compiled:
    """Compiles a ``jax.stages.Lowered``; nothing is executed."""
    began = time.monotonic()
    program = lowered.compile(compiler_options=target.options or None)
    seconds = time.monotonic() - began
    memory = program.memory_analysis()
    return Compiled(
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        *traffic(program.as_text(), target.count),
        seconds,
    )
