#!/usr/bin/env bash
# A dense 1 B model in hob beside the same shape in vLLM's CPU backend, in turns: 16 sequences, 128 tokens of prompt and 128 of
# answer each, two threads on both sides.
#
#   bench/compare_vllm.sh MODEL.gguf --python VENV/bin/python [--hob build/release/hob] [--rounds 3] [--seqs 16] [-- --eager --w8a8]
#
# MODEL.gguf: Llama-3.2-1B's shape. VENV: a Python with vLLM for CPU (docs/benchmarks.md says how); what stands behind --
# goes to bench/vllm_offline.py. One JSON line per side and round, then the median of hob / vLLM.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
hob=$here/../build/release/hob model= python= rounds=3 seqs=16
while [ $# -gt 0 ]; do
  case $1 in
    --python) python=$2; shift 2 ;;
    --hob) hob=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --seqs) seqs=$2; shift 2 ;;
    --) shift; break ;;
    -*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *) model=$1; shift ;;
  esac
done
if [ -z "$model" ] || [ -z "$python" ]; then sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

run_hob() {
  {
    "$hob" bench "$model" --threads 2 --batch "$seqs" -p 128 -n 0 -r 1 --json --quiet
    "$hob" bench "$model" --threads 2 --batch "$seqs" -p 0 -n 127 --depth 128 -r 1 --json --quiet
  } | python3 -c '
import json, sys
r = {x["test"]: x["tok_s"] for x in map(json.loads, sys.stdin) if x.get("test") in ("prefill", "decode")}
n = int(sys.argv[1])
seconds = n * 128 / r["prefill"] + n * 127 / r["decode"]
print(json.dumps({"hob": 1, "seqs": n, "total_tok_s": round(n * 128 / seconds, 2), "prefill_tok_s": round(r["prefill"], 2),
                  "decode_tok_s": round(r["decode"], 2)}))' "$seqs"
}

for _ in $(seq "$rounds"); do
  "$python" "$here/vllm_offline.py" --seqs "$seqs" --repeats 1 "$@" 2>/dev/null | grep '^{' | tee -a "$lines"
  run_hob | tee -a "$lines"
done
python3 - "$lines" <<'PY'
import json, statistics, sys
runs = [json.loads(line) for line in open(sys.argv[1])]
for key in ["total_tok_s", "prefill_tok_s", "decode_tok_s"]:
    sides = [[r[key] for r in runs if ("hob" in r) == hob] for hob in (True, False)]
    ratios = [h / v for h, v in zip(*sides)]
    print(f"{key}: hob / vLLM {statistics.median(ratios):.2f} (rounds: {', '.join(f'{r:.2f}' for r in ratios)})")
PY
