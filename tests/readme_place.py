"""What the commands of README.md find in their folder, in tiny: data sets, runs, models of other toolboxes."""

import csv
import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import soundfile

from alp_jax.config import MODELS, RunConfig, to_dict
from alp_jax.config.schema import ZipformerConfig
from alp_jax.core import files
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text.open import open_tokenizer
from alp_jax.data.text.portable import portable_tokenizer
from alp_jax.interop.formats import auden, hf_text
from alp_jax.interop.formats.names import to_torch
from alp_jax.interop.formats.reference import FRONTEND_CHANNELS
from alp_jax.scaling.sweep.ledger import collect
from alp_jax.train.build import make_model, read_config
from alp_jax.train.checkpoint import Checkpoints, load_params
from alp_jax.train.run_dir import RunDir, mark_done
from tests.scaling.study import write_study


class Place:
    """The working directory, and what is put there before the first command that begins with a key below.

    Args:
      root: the working directory.
      tones: a built data set with its tokenizer, which becomes data/mini; plans of sweeps, whose rungs are larger, are
        made without it.
      tiny: makes configurations of tiny runs.
    """

    def __init__(self, root: pathlib.Path, tones: pathlib.Path, tiny):
        self.root, self.tones, self.tiny = root, tones, tiny
        self.todo = {
            "alp data build folder": self.recordings,
            "alp embed": lambda: self.run("runs/mine", "data/mine"),
            "alp eval --run": self.demo,
            "alp data build fsd50k": self.fsd50k,
            "alp sweep --sweep configs/sweeps/mini.py": lambda: shutil.move("data/mini", "data/aside"),
            "alp sweep --sweep configs/sweeps/paper.py": lambda: shutil.move("data/aside", "data/mini"),
            "alp sweep status": lambda: self.study("runs/paper"),
            "alp scaling fit": lambda: self.study("runs/mini"),
            "alp import auden": self.auden,
            "alp import icefall": self.icefall,
            "alp import hf": self.bert,
            "alp train --workdir runs/started": self.supervised,
            "alp qa score": self.answers,
        }

    def before(self, command: str) -> None:
        for start in [start for start in self.todo if command.startswith(start)]:
            self.todo.pop(start)()

    def recordings(self) -> None:
        """48 sounds of four pitches, two of a recording, and a table of them that states no split."""
        (self.root / "recordings").mkdir()
        rows = [["file_name", "caption", "label_pitch", "recording"]]
        for i in range(48):
            noise = np.random.default_rng(i).normal(size=4000 + 50 * i)
            wave = np.sin(np.arange(len(noise)) * 0.03 * (1 + i % 4)) + noise
            soundfile.write(self.root / "recordings" / f"{i}.wav", 0.2 * wave / np.abs(wave).max(), 16_000)
            rows.append([f"{i}.wav", f"a sound of pitch {i % 4}, take {i}", f"pitch {i % 4}", f"take {i // 2}"])
        with open(self.root / "captions.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)

    def demo(self) -> None:
        shutil.copytree(self.tones, self.root / "data" / "mini")
        self.run("runs/demo", "data/mini")

    def run(self, name: str, data: str) -> None:
        """A finished contrastive run with drawn parameters."""
        short = {"lit_steps": 0, "attention_steps": 4, "max_train_clips": 24, "max_test_clips": 16}
        config = self.tiny("contrastive", data={"path": data}, evaluation=short, model={"encoder": self.encoder()})
        with RunDir(name, config) as run:
            run.write_environment(open_dataset(data), open_tokenizer(f"{data}/tokenizer.model"))
            save(run.path, drawn(config), config.train.steps)
        mark_done(name)

    def encoder(self) -> ZipformerConfig:
        """One narrow stack behind the front end that all formats can hold."""
        encoder = self.tiny("captioning").model.encoder
        return dataclasses.replace(encoder, frontend_channels=FRONTEND_CHANNELS)

    def fsd50k(self) -> None:
        """Two classes, 12 clips for training, 4 for validation and 8 for the test."""
        tables, rng = self.root / "FSD50K.ground_truth", np.random.default_rng(0)
        tables.mkdir()
        number = 0
        for name, header, sides in (
            ("dev", ["fname", "labels", "mids", "split"], {"train": 12, "val": 4}),
            ("eval", ["fname", "labels", "mids"], {"": 8}),
        ):
            sounds = self.root / "FSD50K" / f"FSD50K.{name}_audio"
            sounds.mkdir(parents=True)
            rows = [header]
            for split, count in sides.items():
                for i in range(count):
                    number += 1
                    soundfile.write(sounds / f"{number}.wav", rng.uniform(-0.1 - i % 2 / 2, 0.5, 8000), 16_000)
                    rows.append([number, ("Bark", "Rain")[i % 2], "/m/0", *([split] if split else [])])
            with open(tables / f"{name}.csv", "w", newline="") as file:
                csv.writer(file).writerows(rows)

    def study(self, name: str) -> None:
        """A finished sweep."""
        if not (self.root / name / "sweep.json").exists():
            write_study(self.root / name, objectives=("contrastive", "captioning"), inits=("scratch",), seeds=(0, 1))
            (self.root / name / "ledger.jsonl").unlink()
            for result in (self.root / name / "runs").glob("*/eval/*"):
                if result.name != "sound_event-mean.json":
                    result.unlink()
            collect(self.root / name / "ledger.jsonl", sorted((self.root / name / "runs").iterdir()))

    def _model(self) -> tuple:
        return read_config("runs/demo"), load_params("runs/demo")[0], open_tokenizer("runs/demo/tokenizer.model")

    def auden(self) -> None:
        """DIR: an audio-text model of the authors' toolbox."""
        (self.root / "DIR").mkdir()
        config, params, tokenizer = self._model()
        about = {"batch_count": 10.0, "pad_id": tokenizer.pad_id, "settings": {}, "origin": {}}
        auden.write_folder(self.root / "DIR", config, params, "clap", **about)
        write_all(self.root / "DIR", portable_tokenizer(tokenizer, []).files)

    def icefall(self) -> None:
        """A recogniser's checkpoint, of which the encoder is taken."""
        import torch

        encoder = dataclasses.replace(self.encoder(), query_head_dim=(32,), value_head_dim=(12,))
        config = self.tiny(model={"encoder": encoder})
        state = to_torch(drawn(config)["encoder"], "zipformer") | {"joiner.output_linear.bias": np.zeros(7, np.float32)}
        torch.save({"model": {key: torch.from_numpy(np.array(x)) for key, x in state.items()}}, "pretrained.pt")

    def bert(self) -> None:
        """DIR: a text tower of transformers."""
        shutil.rmtree(self.root / "DIR")
        (self.root / "DIR").mkdir()
        config, params, tokenizer = self._model()
        hf_text.write_folder(self.root / "DIR", config.model.text, params, pad_id=tokenizer.pad_id, origin={})
        write_all(self.root / "DIR", portable_tokenizer(tokenizer, []).files)

    def supervised(self) -> None:
        """The import of a recogniser as large as the model that begins with it."""
        shutil.rmtree(self.root / "runs" / "supervised" / "checkpoints")
        config = dataclasses.replace(read_config("runs/supervised"), model=MODELS["zipformer_m"])
        like = jax.eval_shape(make_model(config)[0], jax.random.key(0))["encoder"]
        files.write_json(self.root / "runs" / "supervised" / "config.json", to_dict(config))
        params = {"encoder": jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), like)}
        save(self.root / "runs" / "supervised", params, 0)

    def answers(self) -> None:
        """The right answer to every second question."""
        lines = [json.loads(line) for line in (self.root / "qa" / "test.jsonl").read_text().splitlines()]
        for i, line in enumerate(lines):
            line["response"] = line["answer_gt"] if i % 2 else "no idea"
        (self.root / "qa" / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def drawn(config: RunConfig) -> dict:
    """Parameters, none at a start value that would hide it."""
    rng = np.random.default_rng(0)
    like = jax.eval_shape(make_model(config)[0], jax.random.key(0))
    return jax.tree.map(lambda leaf: (0.2 * rng.standard_normal(leaf.shape)).astype(np.float32), like)


def save(run: pathlib.Path, params: dict, step: int) -> None:
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.save(step, {"params": params}, {})
    checkpoints.close()


def write_all(folder: pathlib.Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
