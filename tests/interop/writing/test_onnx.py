"""Encoders as ONNX graphs: onnxruntime computes what JAX computes, for clips and batches unlike the traced ones."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from alp_jax.cli.main import main
from alp_jax.core.errors import UserError
from alp_jax.interop.formats import export_folder
from alp_jax.interop.isolated import process
from alp_jax.interop.writing import onnx, parity, torch_folder
from alp_jax.interop.writing.compare import jax_results

NEEDS = "writing and running ONNX graphs needs the extras torch and onnx"
pytest.importorskip("torch", reason=NEEDS)
graphs = pytest.importorskip("onnx", reason=NEEDS)
onnxruntime = pytest.importorskip("onnxruntime", reason=NEEDS)


class Written:
    """A model, its clips and what JAX computes for them; ``write`` exports it, with other parameters if given."""

    def __init__(self, tiny, objective, causal):
        config = tiny.run_config(objective, causal=causal)
        if causal:  # the 48 frames of the traced clip are less than a chunk
            encoder = dataclasses.replace(config.model.encoder, chunk_size=(64,), left_context_frames=(64,))
            config = dataclasses.replace(config, model=dataclasses.replace(config.model, encoder=encoder))
        self.run, self.clips = tiny.run(config), tiny.sounds()
        self.config, self.params = config, self.run.params
        self.expected = jax_results(config, self.params, self.clips)

    def check(self, made):
        return parity.verify(made, self.clips, self.expected, runtime="onnx")

    def write(self, out, params=None, check=None):
        return onnx.write_onnx(out, self.run._replace(params=params or self.params), check or self.check)


@pytest.fixture(scope="module")
def contrastive(tiny, tmp_path_factory):
    """(model, folder of its graph)."""
    model, out = Written(tiny, "contrastive", causal=False), tmp_path_factory.mktemp("onnx") / "out"
    model.result = model.write(out)
    return model, out


@pytest.fixture(scope="module")
def causal(tiny, tmp_path_factory):
    """As ``contrastive``, with chunked attention and without a space shared with text."""
    model, out = Written(tiny, "captioning", causal=True), tmp_path_factory.mktemp("onnx") / "out"
    model.result = model.write(out, check=lambda made: {"clips": 0, "frames": 0, "pooled": 0, "tolerance": 0})
    return model, out


def run_graph(out, audio_BS, len_B):
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {"audio": np.asarray(audio_BS, np.float32), "lengths": np.asarray(len_B, np.int64)}
    return dict(zip(names, session.run(None, given), strict=True))


def test_a_folder_holds_one_graph_that_says_what_it_takes(contrastive):
    model, out = contrastive
    assert max(model.result[name] for name in ("frames", "pooled", "embed")) <= 1e-4
    assert model.result["frames"] > 0.0  # two implementations
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "config.json", "model.onnx"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    settings = json.loads((out / "config.json").read_text())
    assert settings["alp"]["format"] == "onnx"
    assert settings["onnx"]["sample_rate"] == 16000
    graph = graphs.load(out / "model.onnx").graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert shapes["audio"] == ["batch", "samples"]
    assert shapes["lengths"] == ["batch"]
    assert shapes["pooled"] == ["batch", 24]
    assert shapes["embed"] == ["batch", 12]
    assert set(shapes) == settings["onnx"]["inputs"].keys() | settings["onnx"]["outputs"].keys()
    operators = {node.op_type for node in graph.node}
    assert "MatMul" in operators
    assert not operators & {"DFT", "STFT", "MelWeightMatrix", "If", "Loop"}
    readme = (out / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in shapes)


@pytest.mark.parametrize("kind", ["contrastive", "causal"])
def test_lengths_and_batches_unlike_the_traced_ones_agree_with_jax(kind, request, tiny):
    """The trace saw two clips of at most a second; here are shorter, longer, alone and many, behind any padding."""
    model, out = request.getfixturevalue(kind)
    rng = np.random.default_rng(1)
    lengths = [80, 333, 1359, 1360, 16000, 47001]
    clips = [rng.normal(0, 2000, length).astype(np.int16) for length in lengths]
    expected = jax_results(model.config, model.params, clips)
    for rows in ([0], [1], [2], [5], [0, 1, 2], [3, 5, 0, 4, 2]):
        audio_BS = rng.uniform(-1, 1, (len(rows), max(lengths[i] for i in rows) + 123))
        for row, i in zip(audio_BS, rows, strict=True):
            row[: lengths[i]] = clips[i] / 32768
        found = run_graph(out, audio_BS, [lengths[i] for i in rows])
        for place, i in enumerate(rows):
            frames = found["frames"][place, : found["frame_lengths"][place]]
            assert parity.difference(frames, expected.frames[i]) <= 1e-4, (rows, i)
            assert parity.difference(found["pooled"][place], expected.pooled_ND[i]) <= 1e-4
            if kind == "contrastive":
                assert parity.difference(found["embed"][place], expected.embed_NE[i]) <= 1e-4
        assert ("embed" in found) == (kind == "contrastive")


def test_a_silent_clip_and_a_quiet_one_agree_with_jax(contrastive):
    """Where the logarithm magnifies rounding: digital silence, one step of int16, and a tone above silence."""
    model, out = contrastive
    time = np.arange(8000)
    clips = [np.zeros(8000, np.int16), (time % 7 == 0).astype(np.int16)]
    clips.append((12000 * np.sin(0.3 * time) * (time > 4000)).astype(np.int16))
    expected = jax_results(model.config, model.params, clips)
    found = run_graph(out, np.stack(clips) / 32768, [8000] * 3)
    for have, want in zip(found["frames"], expected.frames, strict=True):
        assert parity.difference(have, want) <= 1e-4


def test_a_perturbed_weight_is_noticed_and_nothing_is_left(tmp_path, contrastive):
    model = contrastive[0]
    params = jax.tree.map(np.copy, model.params)
    params["encoder"]["encoders"]["1"]["layers"]["0"]["self_attn2"]["out_proj"]["kernel"][3, 5] += 0.02
    with pytest.raises(parity.ParityError, match="differs from JAX by frames"):
        model.write(tmp_path / "out", params)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_a_graph_is_one_line_and_leaves_nothing(tmp_path, contrastive, monkeypatch):
    model = contrastive[0]
    with monkeypatch.context() as patch:
        patch.setattr(onnx, "MAX_BYTES", 1000)
        with pytest.raises(UserError, match=r"2 GiB .* --format torch"):
            model.write(tmp_path / "out")
    text = torch_folder.single_file().replace("import json\n", "import json\nimport jax\n", 1)
    monkeypatch.setattr(torch_folder, "single_file", lambda: text)
    with pytest.raises(parity.ParityError, match=r"cannot write the encoder as an ONNX graph: .*jax") as raised:
        model.write(tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["torch", "onnx", "onnxruntime"])
def test_without_a_package_the_message_says_what_to_install(tmp_path, monkeypatch, capfd, missing):
    find = process.importlib.util.find_spec
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    arguments = ["export", "torch", "--format=onnx", f"--run={tmp_path}", f"--out={tmp_path / 'out'}"]
    assert main(arguments) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("alp: ")]
    assert len(lines) == 1
    assert f"needs {missing}," in lines[0]
    assert "pip install 'alp_jax[torch,onnx]'" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_the_verb_writes_a_graph(folders, tmp_path, capfd):
    _, run, _ = folders
    out = tmp_path / "onnx"
    assert main(["export", "torch", "--format=onnx", f"--run={run}", f"--out={out}", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["format"] == "onnx"
    assert result["clips"] >= 3
    assert 0 < result["frames"] <= 1e-4
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "config.json", "model.onnx"]
    assert [p.name for p in tmp_path.iterdir()] == ["onnx"]
    export_folder.check_target(out)  # a later export may replace it
