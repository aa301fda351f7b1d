"""The commands of README.md, as they are written there, in its order, in an empty folder on a tiny data set.

What a command needs and no earlier one made stands there beforehand, in tiny: see ``tests/readme_place.py``.
"""

import pathlib
import re
import shlex

import pytest

from alp_jax.cli.main import main
from tests.readme_place import Place
from tests.tiny_runs import tiny, tones  # noqa: F401

README = pathlib.Path(__file__).parents[1] / "README.md"

# Run with --dry_run in place of the work.
DRY_RUN = {
    "alp train --workdir runs/mine --config=configs/pretrain.py:model=zipformer_xxs,batch_seconds=64 "
    "--config.data.path=data/mine --config.train.steps=500 --evaluate": "minutes of training",
    "alp launch tpu --name c10m --project my-project --zone us-central2-b --accelerator v5litepod-64 "
    "--runtime v2-alpha-tpuv5-lite --repository https://HOST/alp_jax --spot -- train --workdir /mnt/runs/c10m "
    "--config=configs/pretrain.py:objective=contrastive,pairs=10m --config.model.compute_dtype=bfloat16": "TPU VMs",
    "alp launch slurm --nodes 4 -- train --workdir runs/c10m --config=configs/pretrain.py:objective=contrastive,"
    "pairs=10m --config.model.compute_dtype=bfloat16": "a SLURM cluster",
    "alp sweep --sweep configs/sweeps/mini.py --data data/mini --out runs/mini --parallel 2": "14 runs",
    "alp sweep --sweep configs/sweeps/hybrid.py:size=mini --data data/mini --out runs/hybrid --budget_gb 1": "7 runs",
    "alp train --workdir runs/started --config=configs/pretrain.py:init=runs/supervised": "an accelerator for days",
}
# Not run here.
LISTED = {
    "bash launch/quickstart.sh": "0.4 GB of published audio, 15 minutes; each of its stages has tests",
    "bash launch/test.sh": "this test suite",
    "pip install -e .": "the network",
    "pip install -e .[cuda]": "the network",
    "pip install -e .[tpu]": "the network",
    "pip install -e .[cloud]": "the network",
    "pip install -e .[report]": "the network",
    "pip install -e .[torch]": "the network",
    "pip install -e .[torch,onnx]": "the network",
    "pip install -e .[hf]": "the network",
    "alp eval --run runs/demo --suite paper --data data/benchmarks": "published audio; tests/evaluation makes some",
    "alp eval --hf wav2vec2-base --data data/mini --suite mini": "published weights; tests/interop makes small ones",
    "alp qa train --run runs/demo --qa_model models/Qwen2.5-7B-Instruct --questions qa/train.jsonl "
    "--out qa/adapter": "weights of 7 billion parameters; tests/evaluation/qa has a tiny model of the kind",
    "alp qa answer --run runs/demo --qa_model models/Qwen2.5-7B-Instruct --adapter qa/adapter "
    "--questions qa/test.jsonl --out qa/answers.jsonl": "the same weights",
    "alp qa judge qa/answers.jsonl --out qa/judged.jsonl": "an endpoint; tests/evaluation/qa has one",
}


def commands(text: str) -> list[str]:
    """The commands of all bash blocks, one line each, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(words) for line in lines if (words := shlex.split(line, comments=True))]


def dry(command: str) -> list[str]:
    """The arguments of ``alp`` with --dry_run, which belongs before the command that a launcher is given."""
    own, dashes, launched = command.partition(" -- ")
    return [*own.split()[1:], "--dry_run", *(dashes + launched).split()]


def test_no_command_is_listed_that_the_readme_does_not_have():
    written = commands(README.read_text())
    assert not set(DRY_RUN) & set(LISTED)
    assert set(DRY_RUN) | set(LISTED) <= set(written)
    assert len(written) == len(set(written))
    installed = {extra for command in LISTED for extra in re.findall(r"\[(.*)\]", command)}
    extras = re.search(r"optional-dependencies\]\n(.*?)\n\n", (README.parent / "pyproject.toml").read_text(), re.DOTALL)
    assert {name for some in installed for name in some.split(",")} <= set(re.findall(r"^(\w+) =", extras[1], re.M))


def test_blocks_become_commands():
    blocks = ("bash\nalp a  --b 'c d'   # why\nalp e \\\n  f\n\n# none\n", "python\nnot this\n", "bash\ng\n")
    text = "".join(f"words\n```{block}```\n" for block in blocks)
    assert commands(text) == ["alp a --b c d", "alp e f", "g"]
    assert (
        " ".join(dry("alp launch tpu --spot -- train --workdir x"))
        == "launch tpu --spot --dry_run -- train --workdir x"
    )


@pytest.mark.timeout(1200)
def test_every_command_runs_in_its_order(tones, tiny, tmp_path, monkeypatch, capfd):  # noqa: F811
    place = Place(tmp_path, tones, tiny)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the processes in which exports are checked
    monkeypatch.chdir(tmp_path)
    for command in commands(README.read_text()):
        if command in LISTED:
            continue
        place.before(command)
        argv = dry(command) if command in DRY_RUN else command.split()[1:]
        status = main(argv)
        said = capfd.readouterr()
        assert status == 0, f"{command}\n{said.out}\n{said.err}"
        assert command.startswith("alp ")
        assert (said.out + said.err).strip(), command
    made = ["embeddings.parquet", "runs/demo/eval/pitch-mean.json", "runs/demo/eval/steps/curve.json"]
    made += ["data/benchmarks/fsd50k/dataset.json", "runs/paper/ledger.parquet", "report/fits.csv"]
    made += ["runs/bert/tokenizer.json", "export/demo/alp_encoder.py", "export/demo/hear_module.py", "export/onnx"]
    made += ["export/auden/tokenizer.json", "export/bert/model.safetensors", "qa/train.jsonl", "qa/results"]
    assert [name for name in made if not (tmp_path / name).exists()] == []
    assert not any((tmp_path / name).exists() for name in ("runs/started", "runs/c10m", "runs/hybrid"))  # dry runs
