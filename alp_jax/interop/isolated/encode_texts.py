"""Runs an exported text tower in transformers: ``python -I encode_texts.py FOLDER IN.json OUT.npz``.

IN holds ``texts`` and the ``ids`` that the folder's tokenizer must give them; OUT gets ``hidden_<i>`` (L, D).
"""

import json
import sys

HIDDEN = ("jax", "jaxlib", "flax", "orbax", "alp_jax")


def main(folder: str, source: str, target: str) -> None:
    """Encodes the texts in ``source`` with the export in ``folder`` and writes their hidden states to ``target``.

    Raises:
      SystemExit: transformers finds weights missing or too many, or its tokenizer makes other ids than ours.
    """
    for name in HIDDEN:
        sys.modules[name] = None  # importing it is an error from here on
    import numpy as np
    import torch
    from transformers import AutoTokenizer, BertModel

    with open(source, encoding="utf-8") as file:
        given = json.load(file)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, report = BertModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    problems = {name: sorted(parts) for name, parts in report.items() if parts}
    if problems:
        raise SystemExit(f"it does not hold a BertModel: {problems}")
    for text, ids in zip(given["texts"], given["ids"], strict=True):
        if tokenizer(text).input_ids != ids:
            raise SystemExit(f"its tokenizer makes {tokenizer(text).input_ids} of {text!a}, not {ids}")
    batch = tokenizer(given["texts"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model.eval().float()(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    np.savez(target, **{f"hidden_{i}": hidden[i, : len(ids)].numpy() for i, ids in enumerate(given["ids"])})


if __name__ == "__main__":
    main(*sys.argv[1:])
