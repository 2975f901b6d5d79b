#!/usr/bin/env bash
# What the disk under FILE gives for random O_DIRECT reads of one expert's slice: the ceiling of expert streaming.
#
#   bench/fio_ceiling.sh FILE [BLOCK [DEPTH [SECONDS]]]      defaults: 1179648 bytes, depth 8, 10 s
#
# BLOCK: bytes of one matrix of one expert, rounded up to 4 KiB here (`hob show --tensors` / number of experts).
# Prints one JSON line.
set -euo pipefail

if [ $# -lt 1 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
file=$1 block=${2:-1179648} depth=${3:-8} seconds=${4:-10}
block=$(((block + 4095) / 4096 * 4096))
command -v fio >/dev/null || "$(dirname "$0")/../scripts/deps.sh" bench

run() {
  fio --name=ceiling --filename="$file" --readonly --rw=randread --direct=1 --ioengine="$1" --bs="$block" \
      --blockalign=4096 --iodepth="$depth" --norandommap --randseed=1 --time_based --runtime="$seconds" \
      --output-format=json
}
result=$(run io_uring 2>/dev/null) || result=$(run libaio)
python3 - "$block" "$depth" <<'PY' 3<<<"$result"
import json, os, sys
with os.fdopen(3) as f:
    text = f.read()
read = json.loads(text[text.index("{"):])["jobs"][0]["read"]
print(json.dumps({"test": "fio_ceiling", "block_bytes": int(sys.argv[1]), "depth": int(sys.argv[2]),
                  "bytes_per_s": read["bw_bytes"], "mb_per_s": round(read["bw_bytes"] / 1e6, 1),
                  "p99_ms": round(read["clat_ns"].get("percentile", {}).get("99.000000", 0) / 1e6, 2)}))
PY
