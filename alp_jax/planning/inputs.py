"""What runs read besides their configuration, looked for before any of them starts."""

from collections.abc import Iterator

from alp_jax.config import RunConfig
from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.core import storage
from alp_jax.core.run_files import CONFIG
from alp_jax.data.store.schema import INFO
from alp_jax.data.text.tokenizer import FILE_NAME
from alp_jax.objectives.registry import sides_of


def missing_inputs(config: RunConfig) -> list[str]:
    """What of the inputs of a run is not there: a line for each, with its setting and the command that makes it."""
    return [line for path, line in _inputs(config) if storage.size(path) < 0]


def _inputs(config: RunConfig) -> Iterator[tuple[str, str]]:
    data, evaluation = config.data, config.evaluation
    yield storage.join(data.path, INFO), f"data set {data.path} (config.data.path): 'alp data build' makes it"
    if data.tokenizer:
        maker = "'alp import hf' brings that of a text checkpoint"
    else:
        sizes = {TEXT: config.model.text.vocab_size, DECODER: config.model.decoder.vocab_size}
        most = min((sizes[side] for side in sides_of(config.objective) if side in sizes), default=0)
        size = f" --vocab_size {most}" if most else ""
        maker = f"'alp tokenizer --data {data.path}{size}' makes it"
    vocabulary = data.tokenizer or storage.join(data.path, FILE_NAME)
    yield vocabulary, f"tokenizer {vocabulary} (config.data.tokenizer): {maker}"
    starts = {"init": config.init, "init_text": config.init_text}
    if evaluation.suite != "none":
        starts |= {"evaluation.lit_text": evaluation.lit_text, "evaluation.lit_decoder": evaluation.lit_decoder}
    for setting, folder in starts.items():
        if folder != "scratch":
            line = f"start {folder} (config.{setting}): 'alp import' or 'alp train' makes it"
            yield storage.join(folder, CONFIG), line
    if data.tags:
        yield data.tags, f"list of tags {data.tags} (config.data.tags): 'alp tags' makes it"
    if evaluation.prompts:
        yield evaluation.prompts, f"prompts {evaluation.prompts} (config.evaluation.prompts): a file of yours"
