#!/usr/bin/env bash
# hob serve beside another OpenAI-compatible server on the same machine and load, in turns.
#
#   bench/compare_servers.sh --hob build/release/hob MODEL.gguf --peer 'llama-server -m MODEL.gguf -np 16 -c 16384 -t 2' \
#       [--users 16] [--lengths 128,128] [--requests 32] [--rounds 3] [--ctx 1024] [--memory SIZE]
#
# --peer: a command that serves on port $PORT (the script appends --port $PORT). Prints one JSON line of
# bench/serve_load.py per server and round, then the median ratio of tok/s and of the p95 time to the first token.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
hob=$here/../build/release/hob model= peer= users=16 lengths=128,128 requests=32 rounds=3 ctx=1024 memory= threads=$(nproc)
while [ $# -gt 0 ]; do
  case $1 in
    --hob) hob=$2; model=$3; shift 3 ;;
    --peer) peer=$2; shift 2 ;;
    --users) users=$2; shift 2 ;;
    --lengths) lengths=$2; shift 2 ;;
    --requests) requests=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --ctx) ctx=$2; shift 2 ;;
    --memory) memory=$2; shift 2 ;;
    --threads) threads=$2; shift 2 ;;
    *) sed -n '2,9p' "$0" | cut -c3- >&2; exit 2 ;;
  esac
done
[ -n "$model" ] || { sed -n '2,9p' "$0" | cut -c3- >&2; exit 2; }
out=$(mktemp -d)
server=
stop_server() { [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; server=; }; }
trap 'stop_server; rm -rf "$out"' EXIT

# load NAME PORT COMMAND...
load() {
  local name=$1 port=$2
  shift 2
  "$@" >"$out/$name.log" 2>&1 &
  server=$!
  for _ in $(seq 1200); do
    kill -0 "$server" 2>/dev/null || { echo "$name ended:" >&2; tail -20 "$out/$name.log" >&2; exit 1; }
    # llama-server says 503 at /health while it loads; hob has /ready for that
    curl -sf -o /dev/null "http://127.0.0.1:$port/v1/models" && { [ "$name" != hob ] ||
      curl -sf -o /dev/null "http://127.0.0.1:$port/ready"; } && curl -sf -o /dev/null "http://127.0.0.1:$port/health" && break
    sleep 0.5
  done
  # a warm-up, so that nobody pays for the first touch
  python3 "$here/serve_load.py" --url "http://127.0.0.1:$port" --requests 2 --concurrency 2 --lengths 32,8 >/dev/null
  python3 "$here/serve_load.py" --url "http://127.0.0.1:$port" --requests "$requests" --concurrency "$users" \
    --lengths "$lengths" --max-len "$ctx" --seed "$round" | tee -a "$out/$name.json" | sed "s/^/$name /"
  stop_server
}

for round in $(seq "$rounds"); do
  load hob 18431 "$hob" serve "$model" --port 18431 --ctx "$ctx" --max-seqs "$users" --kv-tokens $((users * ctx)) \
    --threads "$threads" ${memory:+--memory "$memory"}
  [ -z "$peer" ] || load peer 18432 sh -c "exec $peer --port 18432"
done
[ -z "$peer" ] || python3 - "$out" <<'PY'
import json, statistics, sys
rows = {n: [json.loads(l) for l in open(f"{sys.argv[1]}/{n}.json")] for n in ("hob", "peer")}
pick = lambda f: {n: statistics.median(f(r) for r in rs) for n, rs in rows.items()}
for name, f in (("tok/s", lambda r: r["tok_s"]), ("p95 ttft, s", lambda r: r["ttft"]["p95"]),
                ("mean tpot, s", lambda r: r["tpot"]["mean"])):
    m = pick(f)
    print(f"{name}: hob {m['hob']:.3f}, peer {m['peer']:.3f}, ratio {m['hob'] / m['peer']:.2f}")
PY
