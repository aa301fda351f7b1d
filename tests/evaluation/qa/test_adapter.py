"""The adapter: what it computes, what alone learns, and that planted sounds become the right words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.core.errors import UserError
from alp_jax.evaluation.qa import adapter as adapters
from alp_jax.evaluation.qa import learn
from alp_jax.evaluation.qa.adapter import AdapterConfig
from alp_jax.evaluation.qa.answer import Answerer, answer_all
from alp_jax.evaluation.qa.chat import SYSTEM, LanguageModel, dialogue, lay_out
from alp_jax.evaluation.qa.format import Question
from alp_jax.evaluation.qa.journal import Journal

KINDS = ("dog", "cat", "rain")
SIZES = AdapterConfig(frame_width=4, model_width=32, stack=2, hidden=24, max_frames=6)
LEARN = learn.LearnConfig(steps=30, batch=16, rate=1e-2, looks=3)


def question(i):
    return Question(i, f"clip {i}", "Which kind of sound is heard?", KINDS[i % 3], "kind", "planted")


def sounds(questions):
    """Frames whose first three columns say which kind it is; clip 99 is lost."""
    found = []
    for asked in questions:
        i = int(asked.path.split()[1])
        noise = np.random.default_rng(i).normal(0, 0.1, (3 + i % 4, 4)).astype(np.float32)
        noise[:, i % 3] += 5.0
        found.append(None if i == 99 else noise)
    return found


@pytest.fixture(scope="module")
def trained(language_model):
    questions = [question(i) for i in range(60)]
    return learn.train(questions, sounds, language_model, SIZES, LEARN, {"encoder": "planted"})


def test_the_chat_is_the_published_one_and_spelt_tokens_stay_text(language_model):
    tokenizer = language_model.tokenizer
    talk = dialogue(tokenizer, "Is it a dog?<|im_end|>", "Yes.")
    wanted = (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n",
        "\nIs it a dog?<|im_end|><|im_end|>\n<|im_start|>assistant\n",
        "Yes.<|im_end|>",
    )
    spell = tokenizer._tokenizer.decode
    assert tuple(spell(ids, skip_special_tokens=False) for ids in talk) == wanted
    assert talk.after.count(tokenizer.eos_id) == 1
    batch = lay_out([talk, dialogue(tokenizer, "Why?", "No.")], [2, 3], talk.length(2) + 4, len(talk.reply))
    first = len(talk.before)
    assert batch.sound_BL[0, first - 1 : first + 3].tolist() == [-1, 0, 1, -1]
    for row in range(2):
        count = int(batch.weight_BA[row].sum())
        at = batch.at_BA[row, :count] + 1
        assert batch.token_BL[row, at].tolist() == batch.target_BA[row, :count].tolist()
        assert batch.target_BA[row, count - 1] == tokenizer.eos_id
        assert at[-1] == batch.len_B[row] - 1


def test_the_adapter_sees_stacked_frames_and_no_padding():
    params = adapters.init(jax.random.key(0), SIZES)
    fixed = {"mean": np.full(4, 0.5, np.float32), "std": np.full(4, 2.0, np.float32), "size": np.float32(0.1)}
    frames = np.random.default_rng(0).normal(size=(1, 6, 4)).astype(np.float32)
    got = np.asarray(adapters.apply(params, fixed, frames, np.array([3]), 2))
    assert got.shape == (1, 3, 32)
    second = np.concatenate([(frames[0, 2] - 0.5) / 2, np.zeros(4)])
    hidden = np.maximum(second @ params["first"]["kernel"], 0)
    np.testing.assert_allclose(got[0, 1], 0.1 * (hidden @ params["second"]["kernel"]), rtol=1e-4, atol=1e-6)
    changed = np.concatenate([frames[:, :3], frames[:, 3:] + 9], axis=1)
    np.testing.assert_array_equal(got, adapters.apply(params, fixed, changed, np.array([3]), 2))
    assert adapters.positions([1, 2, 3, 6], 2).tolist() == [1, 1, 2, 3]


def test_the_loss_is_that_of_the_answers_and_only_the_adapter_has_slopes(language_model):
    """By hand: the cross entropy of a whole sequence at the positions of the reply."""
    lessons = learn.Lessons([question(0), question(1)], sounds, language_model, SIZES)
    frames_BTD, len_B, batch = lessons.batch(np.array([0, 1]), 3)
    assert not batch.weight_BA[2].any()
    params = adapters.init(jax.random.key(0), SIZES)
    fixed = learn._fixed(lessons, language_model)
    loss = learn.make_loss(language_model, SIZES.stack)
    arguments = (fixed, language_model.params, frames_BTD, len_B, batch)
    (value, count), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, *arguments)
    apply = learn.language_apply(language_model)

    @jax.jit
    def whole(params):
        sound = adapters.apply(params, fixed, frames_BTD, len_B, SIZES.stack)
        x = learn.join(apply, language_model.params, sound, batch)
        return jax.nn.log_softmax(apply(language_model.params, apply(language_model.params, x, method="hidden"),
                                        method="logits"))  # fmt: skip

    log_p = np.asarray(whole(params))
    spent, tokens = 0.0, 0
    for row in range(2):
        end, reply = batch.len_B[row], lessons.talks[row].reply
        spent -= sum(log_p[row, end - len(reply) - 1 + k, token] for k, token in enumerate(reply))
        tokens += len(reply)
    assert count == tokens
    assert value == pytest.approx(spent / tokens, rel=1e-4)
    assert jax.tree.structure(slope) == jax.tree.structure(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope))
    state = learn.optimizer(LEARN).init(params)
    sizes = {leaf.shape for leaf in jax.tree.leaves(params)} | {()}
    assert {jnp.shape(leaf) for leaf in jax.tree.leaves(state)} == sizes


def test_no_derivative_of_the_language_model_is_formed(language_model):
    """No product has the shape of its feed-forward weights, unless they are what is differentiated by."""
    lessons = learn.Lessons([question(0), question(1)], sounds, language_model, SIZES)
    batch, fixed = lessons.batch(np.array([0, 1]), 2), learn._fixed(lessons, language_model)
    loss = learn.make_loss(language_model, SIZES.stack)
    inner = (language_model.config.hidden_size, language_model.config.intermediate_size)
    shapes = [f"-> tensor<{rows}x{columns}xf32>" for rows, columns in (inner, inner[::-1])]

    def products(by):
        slope = jax.jit(jax.value_and_grad(loss, argnums=by, has_aux=True))
        text = slope.lower(adapters.init(jax.random.key(0), SIZES), fixed, language_model.params, *batch).as_text()
        return [line for line in text.split("\n") if "dot_general" in line and any(shape in line for shape in shapes)]

    assert not products(0)
    assert len(products(2)) >= 3


def test_planted_sounds_are_answered_and_the_language_model_stays(language_model, trained, tmp_path):
    before = jax.tree.map(np.copy, language_model.params)
    history = trained.origin["history"]
    assert trained.origin["held_loss"] < 0.2
    assert [step for step, *_ in history] == [10, 20, 30]
    adapters.save_adapter(tmp_path, trained)
    again = adapters.load_adapter(tmp_path)
    assert again.origin == trained.origin
    asked = [question(i) for i in range(60, 100)]
    answerer = Answerer(language_model, again, max_tokens=8, batch=16)
    records, missing = answer_all(asked, sounds, answerer, Journal(tmp_path / "a.jsonl", {}))
    assert [lost.path for lost in missing] == ["clip 99"]
    assert [record["uniq_id"] for record in records] == list(range(60, 99))
    assert np.mean([record["response"] == record["answer_gt"] for record in records]) > 0.9
    jax.tree.map(np.testing.assert_array_equal, before, language_model.params)


def test_answers_that_are_there_are_not_made_again(language_model, trained, tmp_path):
    journal, asked = Journal(tmp_path / "a.jsonl", {}), [question(i) for i in range(6)]
    journal.add([asked[2].record() | {"response": "kept"}])
    calls = []

    def answerer(questions, frames):
        calls.extend(q.uniq_id for q in questions)
        return [f"new {q.uniq_id}" for q in questions]

    answerer.batch = 4
    records, _ = answer_all(asked, sounds, answerer, journal)
    assert sorted(calls) == [0, 1, 3, 4, 5]
    assert [record["response"] for record in records] == ["new 0", "new 1", "kept", "new 3", "new 4", "new 5"]


def test_what_does_not_fit_is_said(language_model, trained, tmp_path):
    other = dataclasses.replace(trained, origin=trained.origin | {"language_model": "x"})
    with pytest.raises(UserError, match="another language model"):
        Answerer(language_model, other, max_tokens=8, batch=2)
    with pytest.raises(UserError, match="question 99: its sound clip 99 was not found"):
        learn.train([question(i) for i in range(96, 100)], sounds, language_model, SIZES, LEARN, {})
    short = dataclasses.replace(language_model.config, max_position_embeddings=40)
    with pytest.raises(UserError, match="max_position_embeddings = 40: lower --max_frames"):
        learn.Lessons([question(0)], sounds, dataclasses.replace(language_model, config=short), SIZES)
    small = dataclasses.replace(language_model.config, vocab_size=100)
    with pytest.raises(UserError, match=r"the tokenizer has .* vocab_size = 100"):
        LanguageModel(small, {}, language_model.tokenizer)
    with pytest.raises(UserError, match=r"adapter\.stack is 0"):
        dataclasses.replace(SIZES, stack=0)
    adapters.save_adapter(tmp_path, trained)
    (tmp_path / adapters.WEIGHTS).write_bytes(b"12345678")
    with pytest.raises(UserError, match="is damaged"):
        adapters.load_adapter(tmp_path)
    adapters.save_adapter(tmp_path, dataclasses.replace(trained, config=dataclasses.replace(SIZES, hidden=25)))
    with pytest.raises(UserError, match="does not hold the tensors"):
        adapters.load_adapter(tmp_path)
