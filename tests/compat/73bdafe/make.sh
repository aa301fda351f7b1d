#!/usr/bin/env bash
# Makes this folder's fixtures in the current directory with the alp_jax that PYTHONPATH names: make.sh HERE PYTHON
set -euo pipefail
source=$1 python=$2
export JAX_PLATFORMS=cpu XLA_FLAGS=--xla_backend_optimization_level=0 JAX_COMPILATION_CACHE_DIR=$PWD/cache
cp "$source/tiny.py" "$source/grid.py" .
"$python" - <<'PY'
import csv, pathlib
import numpy as np, soundfile

rng = np.random.default_rng(0)
pathlib.Path("sounds").mkdir()
with open("captions.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["file_name", "caption_1", "caption_2", "split", "tags", "label_pitch", "group"])
    for i in range(56):
        pitch, seconds = i % 2, rng.uniform(0.12, 0.25)
        t = np.arange(int(16000 * seconds)) / 16000
        wave = np.round((0.3 * np.sin(2 * np.pi * 220 * 4**pitch * t)) * 256) / 256 + i / 32768
        soundfile.write(f"sounds/{i:02}.wav", wave, 16000, subtype="PCM_16")
        word = ("low", "high")[pitch]
        split = "train" if i < 36 else "test"
        table.writerow([f"{i:02}.wav", f"a {word} tone", f"{word} note {i}", split, f"tone;{word}", word, f"group {i // 2}"])
PY
"$python" -m alp_jax data build folder --audio sounds --metadata captions.csv --out data --shards 2 --workers 1
"$python" -m alp_jax tokenizer --data data --vocab_size 284
"$python" -m alp_jax sweep --sweep grid.py --out sweep
"$python" -m alp_jax sweep table --out sweep
"$python" -m alp_jax export torch --run sweep/runs/hybrid-64-* --out export
mkdir runs
mv sweep/runs/hybrid-64-* runs/
rm -f runs/*/.lock runs/*/.lease runs/*/output.txt
tar --sort=name --owner=0 --group=0 --numeric-owner -c data runs export tiny.py sweep/ledger.* | gzip -9n >made.tar.gz
