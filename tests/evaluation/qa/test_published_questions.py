"""AIR-Bench as it is published, from its files to a judge's scores: all but trained weights is what a user would have.

``chat_test.json`` has five records of the published file, unchanged.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from alp_jax.cli.main import main
from alp_jax.config import RunConfig
from alp_jax.config.schema import FeatureConfig, ModelConfig, ObjectiveConfig, ViTConfig
from alp_jax.core.errors import UserError
from alp_jax.evaluation.qa import judge
from alp_jax.evaluation.qa.format import audio_path, parse, read_answers, read_questions
from alp_jax.interop.formats.qwen import published_name
from alp_jax.interop.imported import write_run
from alp_jax.interop.reading.foreign import Imported
from alp_jax.models.functional import functionalize
from alp_jax.models.qwen import Qwen, QwenConfig
from alp_jax.train.build import make_model

PUBLISHED = pathlib.Path(__file__).parent / "chat_test.json"
# of Qwen2.5's tokenizer.json
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ADDED = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>")
CHOICE = {
    "path": "1.wav", "question": "What is the gender of the speaker?", "choice_a": "female", "choice_b": "male",
    "answer_gt": "male", "task_name": "Speaker_Gender_Recognition", "dataset_name": "meld", "uniq_id": 7,
}  # fmt: skip


def test_the_published_instructions_become_questions_about_the_published_files():
    questions = read_questions(PUBLISHED)
    first, last = questions[0], questions[-1]
    assert [question.uniq_id for question in questions] == [1, 2, 3, 4, 5]
    assert (first.question, first.answer_gt) == ("Is the machine noise steady or fluctuating?", "Steady.")
    assert first.meta_info.startswith("['A steady hum and deep tone")
    assert audio_path(pathlib.Path("Chat"), first) == pathlib.Path("Chat/sound_QA_clotho/validation_1037.wav")
    assert (last.task_name, last.dataset_name) == ("music_generation_analysis_QA", "musiccaps")
    assert {judge.CATEGORIES[question.task_name] for question in questions} == {"sound", "music"}
    with_input = parse(json.loads(PUBLISHED.read_text())[0] | {"input": "Answer in a word."}, "it", 1)
    assert with_input.question.endswith("fluctuating?\nAnswer in a word.")
    for changes, words in (
        ({"audio_id": "clotho/1.wav"}, r"it: audio_id 'clotho/1.wav' is not TASK_clotho/FILE"),
        ({"audio_id": "sound_QA_clotho"}, "is not TASK_clotho/FILE"),
        ({"output": None}, "it: output is not text"),
        ({"output": " "}, "it: answer_gt is missing, empty or not text"),
        ({"audio_id": "sound_QA_clotho/../../x"}, "points outside"),
    ):
        with pytest.raises(UserError, match=words):
            parse(json.loads(PUBLISHED.read_text())[0] | changes, "it", 1)


def test_a_published_folder_is_its_metadata(tmp_path):
    with pytest.raises(UserError, match=r"has 0 of Chat_meta\.json and Foundation_meta\.json"):
        read_questions(tmp_path)
    (tmp_path / "Foundation_meta.json").write_text(json.dumps([CHOICE]))
    assert [question.uniq_id for question in read_questions(tmp_path)] == [7]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A folder as Qwen2.5's: bfloat16 in two files with an index, tokenizer.json as published, random weights."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("qwen")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.normalizer = tokenizers.normalizers.NFC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(SPLIT), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    made.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([PUBLISHED.read_text()], trainer)
    made.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in ADDED])  # behind the vocabulary
    made.save(str(folder / "tokenizer.json"))
    sizes = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": 2048, "rope_theta": 1000000.0, "rms_norm_eps": 1e-06,
        "vocab_size": made.get_vocab_size() + 20, "tie_word_embeddings": False,
    }  # fmt: skip
    others = {"model_type": "qwen2", "hidden_act": "silu", "torch_dtype": "bfloat16", "use_sliding_window": False}
    (folder / "config.json").write_text(json.dumps(sizes | others | {"architectures": ["Qwen2ForCausalLM"]}))
    init, _ = functionalize(lambda rngs: Qwen(QwenConfig(**sizes), rngs=rngs))
    leaves, _ = jax.tree.flatten_with_path(jax.jit(init)(jax.random.key(0)))
    state = {}
    for path, value in leaves:
        names = tuple(key.key for key in path)
        state[published_name(names)] = (
            np.ascontiguousarray(np.asarray(value.astype(jnp.bfloat16)).T)
            if (names[-1] == "kernel")
            else np.asarray(value.astype(jnp.bfloat16))
        )
    files = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    place = {name: files[k % 2] for k, name in enumerate(sorted(state))}
    for file in files:
        save_file({name: state[name] for name in place if place[name] == file}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The folder of an import with a small encoder of random weights."""
    small = ViTConfig(width=16, num_layers=1, num_heads=2, mlp_dim=16)
    config = RunConfig(
        model=ModelConfig(name="tiny", encoder_kind="vit", vit=small),
        objective=ObjectiveConfig(name="none"),
        features=FeatureConfig(),
    )
    params = jax.jit(make_model(config)[0])(jax.random.key(1))
    folder = tmp_path_factory.mktemp("import") / "encoder"
    write_run(folder, Imported(config, params, "test", {}, None, (), {}), source="test", files={}, data="")
    return folder


def test_questions_are_learnt_answered_and_judged_by_the_commands(qwen, encoder, server, tmp_path, monkeypatch, capsys):
    chat, rng = tmp_path / "Chat", np.random.default_rng(0)
    for question in read_questions(PUBLISHED):
        path = audio_path(chat, question)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(16_000), 16_000)
    sides = ["--model", encoder, "--qa_model", qwen, "--audio", chat, "--max_seconds", 1, "--workers", 1, "--batch", 4]
    sizes = ["--steps", 4, "--hidden", 16, "--max_frames", 20]

    def alp(*words):
        assert main(["qa", *map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    alp("train", *sides, "--questions", PUBLISHED, *sizes, "--out", tmp_path / "adapter")
    ask = ["--questions", PUBLISHED, "--adapter", tmp_path / "adapter", "--max_tokens", 4]
    told = alp("answer", *sides, *ask, "--out", tmp_path / "answers.jsonl")
    assert (told["answers"], told["missing"]) == (5, [])
    assert [question for question, _ in read_answers(tmp_path / "answers.jsonl")] == read_questions(PUBLISHED)

    def reply(prompt, _):
        """What the judge says about the answer that is longer: in either order it scores 6, the other one 3."""
        assert "[Detailed Audio Description]\n" in prompt
        first = prompt.split("Assistant 1s Answer]\n")[1].split("\n[The End")[0]
        return "9 6" if any(first == question.answer_gt for question in read_questions(PUBLISHED)) else "6 9"

    server.reply = reply
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv(judge.URL, f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv(judge.MODEL, "judge")
    told = alp("judge", tmp_path / "answers.jsonl", "--out", tmp_path / "judged" / "ratings.jsonl")
    assert len(server.seen) == 10  # in both orders
    found = {result["task"]: result for result in told["results"]}
    assert found.keys() == {"qa_sound", "qa_music"}
    sound = json.loads((tmp_path / "judged" / "qa_sound-judge.json").read_text())
    assert (sound["value"], sound["metrics"]["reference_score"]["value"], sound["n_test"]) == (6.0, 9.0, 3)
    assert sound["published"]["captioning, scratch"] == 6.69
    assert found["qa_music"]["published"]["contrastive, scratch"] == 5.86
