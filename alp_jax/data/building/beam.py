"""The shards of a build on Apache Beam: the same tasks and bytes as with the pool, on any runner.

The unit of work is a shard. Audio never passes through Beam: every task writes its shard straight to the data set. Each
task runs in a child process of the Beam worker, so a file that kills its decoder costs its row and not the worker.
Workers on other machines need alp_jax (a container image or ``--setup_file``), the data set under a URL or a shared
path, and the audio where the clips say it is.
"""

from collections.abc import Callable, Mapping, Sequence

from alp_jax.core.errors import StorageError, UserError
from alp_jax.data.building import shard, worker


def engine(options: Sequence[str], watch: Mapping[str, float]) -> Callable[[Sequence[shard.Task]], None]:
    """A function that writes all shards and waits for them; it raises StorageError if a shard could not be written.

    Args:
      options: Beam's command line options; without ``--runner`` Beam's in-process FnApiRunner is used.
      watch: keyword arguments of ``worker.run``.

    Raises:
      UserError: Beam is not installed, or rejects the options.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    except ImportError as error:
        raise UserError(f"--engine beam needs Apache Beam: pip install 'alp_jax[beam]' ({error})") from None
    try:
        chosen = PipelineOptions(list(options))
        # Beam's own default fetches a program from the network when it runs
        runner = chosen.view_as(StandardOptions).runner or FnApiRunner()
        beam.Pipeline(runner, chosen)
    except (ValueError, SystemExit) as error:
        raise UserError(f"--beam_options {' '.join(options)}: {error}") from None

    def run(tasks: Sequence[shard.Task]) -> None:
        if not tasks:
            return
        pipeline = beam.Pipeline(runner, chosen)
        pipeline | beam.Create(list(tasks)) | beam.Reshuffle() | beam.Map(write, dict(watch))
        try:
            pipeline.run().wait_until_finish()
        except Exception as error:  # runners wrap the error of a task in different types
            raise StorageError(f"the Beam pipeline failed: {type(error).__name__}: {error}") from error

    return run


def write(task: shard.Task, watch: Mapping[str, float]) -> None:
    """Writes one shard in a child process."""
    for _ in worker.run([task], 1, **watch):
        pass
