"""A tiny Qwen2.5 with a byte-level vocabulary of its own, which knows how to repeat a word; and a judge's server."""

import collections
import http.server
import json
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file

from alp_jax.evaluation.qa.chat import SYSTEM, LanguageModel, dialogue, lay_out, read_chat_tokenizer
from alp_jax.interop.formats.qwen import load_qwen, published_name
from alp_jax.models.functional import functionalize
from alp_jax.models.qwen import Qwen, QwenConfig

CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
KINDS, QUESTION = ("dog", "cat", "rain"), "Which kind of sound is heard?"
WORDS = f"system\n{SYSTEM} user\n\n{QUESTION} assistant\ndog cat rain"


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory):
    """A model folder as it is published."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("qwen")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([WORDS] * 8, trainer)
    made.save(str(folder / "tokenizer.json"))
    settings = {**CONFIG, "vocab_size": made.get_vocab_size()}
    (folder / "config.json").write_text(json.dumps(settings))
    config = QwenConfig(**{name: value for name, value in settings.items() if name != "model_type"})
    leaves, _ = jax.tree.flatten_with_path(_schooled(config, read_chat_tokenizer(folder)))
    state = {}
    for path, value in leaves:
        names = tuple(key.key for key in path)
        state[published_name(names)] = np.ascontiguousarray(value.T if names[-1] == "kernel" else value)
    save_file(state, folder / "model.safetensors")
    return folder


def _schooled(config, tokenizer):
    """Parameters that learnt to repeat the word that stands in the place of the sound: as much as a test needs."""
    init, apply = functionalize(lambda rngs: Qwen(config, rngs=rngs))
    params = jax.tree.map(lambda x: 5.0 * x if x.ndim > 1 else x, jax.jit(init)(jax.random.key(0)))
    words = [tokenizer.encode(kind)[:2] for kind in KINDS]
    talks = [dialogue(tokenizer, QUESTION, kind) for kind in KINDS]
    batch = lay_out(talks, [len(word) for word in words], 64, 4)
    shown_BL = batch.token_BL.copy()
    for row, word in enumerate(words):
        shown_BL[row, batch.sound_BL[row] >= 0] = word

    def loss(params):
        hidden = apply(params, apply(params, shown_BL, method="embed"), method="hidden")
        logits = apply(params, jnp.take_along_axis(hidden, batch.at_BA[:, :, None], axis=1), method="logits")
        each_BA = optax.softmax_cross_entropy_with_integer_labels(logits, batch.target_BA)
        return jnp.sum(each_BA * batch.weight_BA) / batch.weight_BA.sum()

    tune = optax.adam(1e-2)

    @jax.jit
    def step(_, carry):
        params, state = carry
        change, state = tune.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, change), state

    return jax.tree.map(np.asarray, jax.lax.fori_loop(0, 80, step, (params, tune.init(params)))[0])


@pytest.fixture(scope="session")
def language_model(qwen_folder):
    return LanguageModel(*load_qwen(qwen_folder), read_chat_tokenizer(qwen_folder))


class Stub(http.server.BaseHTTPRequestHandler):
    """Answers with what ``reply(prompt, how often it was asked)`` gives: a text, a status, or None for a hang-up."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        with self.server.lock:
            self.server.asked[prompt] += 1
            self.server.seen.append((self.path, self.headers.get("Authorization"), body["model"], prompt))
        found = self.server.reply(prompt, self.server.asked[prompt])
        if found is None:
            self.connection.close()
            return
        status, text = (found, "") if isinstance(found, int) else (200, found)
        data = json.dumps({"choices": [{"message": {"content": text}}]}).encode() if text != "<html>" else b"<html>"
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        if status == 429:
            self.send_header("Retry-After", "3")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    made.handle_error = lambda *_: None  # a client that no longer waits
    made.asked, made.seen, made.lock = collections.Counter(), [], threading.Lock()
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()
