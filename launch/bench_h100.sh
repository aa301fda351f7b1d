#!/usr/bin/env bash
# The benchmarks that need one GPU, in under 8 minutes on an H100: bash launch/bench_h100.sh [FOLDER]
# Leaves bench.jsonl (a line per run) and bench.md (a table) in FOLDER. CLIPS, PAIRS, SECONDS_EACH, MODEL and ROUNDS
# change the sizes, for a smaller machine.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-bench_results}
alp=${ALP:-.venv/bin/alp}
model=${MODEL:-zipformer_m} seconds=${SECONDS_EACH:-10} rounds=${ROUNDS:-5}
mkdir -p "$out"
lines="$out/bench.jsonl"
: >"$lines"
run() { # a size that does not fit costs its own line and not the others
  echo "bench: $*" >&2
  "$alp" bench "$@" >>"$lines" || echo "bench: failed: $*" >&2
}
for objective in contrastive captioning; do
  for clips in ${CLIPS:-64 256 512}; do
    against=
    [ "$clips" != "$(echo ${CLIPS:-64 256 512} | cut -d' ' -f1)" ] || against=plain,unregularised
    remat=none
    [ "$clips" -lt 512 ] || remat=layers
    run step --clips "$clips" --seconds "$seconds" --rounds "$rounds" --steps 10 --against "$against" \
      --config="configs/pretrain.py:objective=$objective,model=$model" --config.model.compute_dtype=bfloat16 \
      --config.model.remat="$remat" --config.data.text_budget=30
  done
done
run loss --pairs "${PAIRS:-4096,16384,32768}" --against dense
run loss --pairs "${PAIRS:-4096,16384,32768}" --against dense --loss siglip
.venv/bin/python - "$lines" "$out/bench.md" <<'PY'
import json, pathlib, sys

found = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
steps, losses = ([one for one in found if (("sizes" in one) == loss)] for loss in (False, True))


def gb(value):
    return "" if value is None else f"{value / 1e9:.2f}"


def percent(value):
    return "" if value is None else f"{100 * value:.1f} %"


lines = [f"{found[0]['device']}, {found[0]['versions']}", ""] if found else ["nothing was measured"]
lines += ["| objective | clips | s | ms a step | audio-s/s | MFU | memory roofline | temporary GB | moved GB | kernels | others |"]
lines += ["|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"]
for one in steps:
    others = ", ".join(f"{name} {told['times']:.2f}x the time" for name, told in one.get("against", {}).items())
    lines.append(
        f"| {one['objective']} | {one['clips']} | {one['seconds']:g} | {1e3 * one['median_s']:.1f} | "
        f"{one['audio_s_per_s']:,.0f} | {percent(one.get('mfu'))} | {percent(one.get('memory_roofline_share'))} | "
        f"{gb(one['temp_bytes'])} | {gb(one.get('moved_bytes', one['bytes_accessed']))} | {one.get('kernels', '')} | {others} |"
    )
lines += ["", "| loss | pairs | ms | temporary GB | dense: times ours | dense: temporary GB |", "|---|--:|--:|--:|--:|--:|"]
for one in losses:
    for size in one["sizes"]:
        lines.append(
            f"| {one['config']['loss']} | {size['pairs']:,} | {1e3 * size['median_s']:.2f} | {gb(size['temp_bytes'])} | "
            f"{size['times_dense']:.2f} | {gb(size['dense_temp_bytes'])} |"
        )
pathlib.Path(sys.argv[2]).write_text("\n".join(lines) + "\n")
print("\n".join(lines))
PY
