"""Scores equal those of the COCO caption challenge's code, tokens those of the tokenizer it runs."""

import json
import pathlib

import numpy as np
import pytest

from alp_jax.evaluation.captioning.scores import bleu, bleu_counts, cider_d, rouge_l, tells_apart
from alp_jax.evaluation.captioning.tokens import tokenize

# pycocoevalcap 1.2 on made-up captions; tokens by Stanford CoreNLP 3.4.1 as it calls it
GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "captions.json").read_text())
CASES = sorted(set(GOLDEN) - {"tokens"})


def words(case):
    case = GOLDEN[case]
    return [c.split() for c in case["candidates"]], [[r.split() for r in several] for several in case["references"]]


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_reference(case):
    candidates, references = words(case)
    everything = np.ones((1, len(candidates)))
    np.testing.assert_allclose(
        bleu(bleu_counts(candidates, references), everything)[0], GOLDEN[case]["bleu"], atol=1e-9
    )
    np.testing.assert_allclose(rouge_l(candidates, references), GOLDEN[case]["rouge_l"], atol=1e-9)
    np.testing.assert_allclose(cider_d(candidates, references), GOLDEN[case]["cider_d"], atol=1e-9)


def test_weights_stand_for_clips_that_occur_as_often():
    candidates, references = words("mixed")
    weights = np.random.default_rng(0).integers(0, 3, len(candidates))
    again = [i for i, times in enumerate(weights) for _ in range(times)]
    repeated = bleu_counts([candidates[i] for i in again], [references[i] for i in again])
    weighted = bleu(bleu_counts(candidates, references), weights[None])
    np.testing.assert_allclose(weighted, bleu(repeated, np.ones((1, len(again)))), rtol=1e-12)


@pytest.mark.parametrize("place", range(len(GOLDEN["tokens"]["captions"])))
def test_tokens_are_those_of_the_reference(place):
    assert tokenize(GOLDEN["tokens"]["captions"][place]) == GOLDEN["tokens"]["tokens"][place]


def test_references_that_are_alike_tell_no_clips_apart():
    """What CIDEr-D gives a perfect caption is 0 then, and more where any word is not everywhere."""
    dog, two = ["a", "dog", "barks"], ["a", "dog", "barks", "twice"]
    for references in ([[dog]], [[dog]] * 3, [[dog, two], [two, dog]]):
        assert not tells_apart(references)
        assert not cider_d([dog] * len(references), references).any()
    assert tells_apart([[dog], [dog], [two]])
    assert cider_d([dog, dog, two], [[dog], [dog], [two]])[2] > 0
