#!/usr/bin/env bash
# hob and llama.cpp on the same file, same threads, in turns; medians and their ratio.
#
#   bench/compare_llamacpp.sh --build-peer DIR [cmake options, e.g. -DGGML_NATIVE=OFF -DGGML_AVX2=ON]
#       downloads the source that the Python package llama-cpp-python carries, builds llama-bench (Release, native)
#       in DIR (outside of this repository) and prints its path
#   bench/compare_llamacpp.sh --peer PATH/llama-bench --model FILE [--hob build/release/hob] [--threads 2]
#                             [--rounds 5] [-p 512] [-n 64] [--depth N] [--batch B] [--limit 2G] [--best]
#                             [--peer-args "..."] [--hob-args "..."]
#       --best measures the peer twice per round, with weight repacking off and on, and compares with the better
#       median of each test.
#       --batch decodes -n tokens of B sequences at once (the peer with llama-batched-bench, built beside llama-bench).
#       --limit runs every measurement of both sides in a memory cgroup of that size with a cold page cache (root);
#       the peer then runs from mmap without weight repacking, since repacking needs the whole model in memory,
#       and hob gets --memory LIMIT.
#
# Standard output: one JSON line per test. Alternating the two sides lets drifts of the machine hit both alike.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() { sed -n '2,19s/^# \{0,1\}//p' "$0" >&2; exit 2; }

build_peer() {
  local dir=$1 version=${LLAMA_CPP_PYTHON_VERSION:-0.3.36}
  shift
  "$here/../scripts/deps.sh" build bench
  mkdir -p "$dir"
  cd "$dir"
  if [ ! -d "llama_cpp_python-$version" ]; then
    python3 -m venv venv
    venv/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: "llama-cpp-python==$version"
    tar xf "llama_cpp_python-$version.tar.gz"
  fi
  local source="llama_cpp_python-$version/vendor/llama.cpp"
  cmake -S "$source" -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF "$@" >&2
  cmake --build build --target llama-bench llama-batched-bench -j "$(nproc)" >&2
  echo "$dir/build/bin/llama-bench"
}

[ $# -gt 0 ] || usage
if [ "$1" = --build-peer ]; then
  [ $# -ge 2 ] || usage
  build_peer "$(realpath -m "$2")" "${@:3}"
  exit
fi

peer='' model='' hob=$here/../build/release/hob threads=2 rounds=5 n_prompt=512 n_gen=64 limit='' peer_args='' hob_args=''
depth=0 batch=1 settings=("")
while [ $# -gt 0 ]; do
  if [ "$1" = --best ]; then
    settings=("--repack 0" "--repack 1")
    shift
    continue
  fi
  [ $# -ge 2 ] || usage
  case "$1" in
    --peer) peer=$2 ;; --model) model=$2 ;; --hob) hob=$2 ;; --threads) threads=$2 ;; --rounds) rounds=$2 ;;
    --depth) depth=$2 ;; --batch) batch=$2 ;;
    -p) n_prompt=$2 ;; -n) n_gen=$2 ;; --limit) limit=$2 ;; --peer-args) peer_args=$2 ;; --hob-args) hob_args=$2 ;;
    *) usage ;;
  esac
  shift 2
done
{ [ -x "$peer" ] && [ -f "$model" ] && [ -x "$hob" ]; } || usage

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
read -ra peer_extra <<<"$peer_args"
read -ra hob_extra <<<"$hob_args"
wrap=()
if [ -n "$limit" ]; then
  wrap=("$here/cgroup_run.sh" "$limit")
  peer_extra+=(--load-mode mmap --repack 0 --no-warmup)
  hob_extra+=(--memory "$limit")
fi

# A side that is killed (out of memory) or fails counts as a missing measurement, not as the end of the comparison.
measure() {
  local out=$1
  shift
  if ! "${wrap[@]}" "$@" >"$out" 2>"$out.err"; then
    echo "compare: failed: $* ($(tail -n 1 "$out.err"))" >&2
  fi
  if [ -n "$limit" ]; then grep '^cgroup:' "$out.err" >&2 || true; fi
}
measure_peer() {
  local out=$1
  shift
  if [ "$batch" = 1 ]; then
    measure "$out" "$peer" -m "$model" -t "$threads" -p "$n_prompt" -n "$n_gen" -d "$depth" -r 1 -o jsonl "$@" "${peer_extra[@]}"
  else  # one prompt token per sequence, then n_gen of each
    [ "$*" = "--repack 0" ] && set -- --no-repack || set --
    measure "$out" "$(dirname "$peer")/llama-batched-bench" -m "$model" -t "$threads" -c $((batch * (n_gen + 16))) \
      -npp 1 -ntg "$n_gen" -npl "$batch" --output-format jsonl "$@" "${peer_extra[@]}"
  fi
}
for ((i = 1; i <= rounds; i++)); do
  echo "compare: round $i of $rounds" >&2
  for k in "${!settings[@]}"; do
    read -ra setting <<<"${settings[$k]}"
    measure_peer "$results/peer$k.$i" "${setting[@]}"
  done
  measure "$results/hob.$i" "$hob" bench "$model" --threads "$threads" -p "$n_prompt" -n "$n_gen" -r 1 --depth "$depth" \
    --batch "$batch" --json "${hob_extra[@]}"
done

python3 - "$results" "$(basename "$model")" "$threads" "${limit:-none}" <<'PY'
import json, pathlib, statistics, sys

folder, model, threads, limit = pathlib.Path(sys.argv[1]), *sys.argv[2:]
speeds, shares, build = {}, {}, ""
for path in sorted(folder.glob("*.[0-9]*")):
    side = path.name.split(".")[0]
    if path.suffix == ".err":
        continue
    for line in path.read_text().splitlines():
        if not line.startswith("{"):
            continue
        row = json.loads(line)
        if side.startswith("peer") and "speed_tg" in row:
            test, speed = "decode", row["speed_tg"]
        elif side.startswith("peer"):
            build = f"{row.get('build_commit', '?')} (build {row.get('build_number', '?')})"
            test, speed = ("prefill" if row["n_gen"] == 0 else "decode"), row["avg_ts"]
        else:
            test, speed = row["test"], row["tok_s"]
            if "peak_gb_s" in row:
                shares.setdefault(test, []).append(row["gb_s"] / row["peak_gb_s"])
        speeds.setdefault(test, {}).setdefault(side, []).append(speed)
for test, sides in speeds.items():
    line = {"test": test, "model": model, "threads": int(threads), "limit": limit, "llama_cpp": build}
    for side, values in sorted(sides.items()):
        line[f"{side}_tok_s"] = round(statistics.median(values), 3)
        line[f"{side}_min_max"] = [round(min(values), 3), round(max(values), 3)]
        line[f"{side}_n"] = len(values)
    if test in shares:
        line["hob_share_of_read_bandwidth"] = round(statistics.median(shares[test]), 3)
    peers = [line[f"{side}_tok_s"] for side in sides if side.startswith("peer")]
    if peers and "hob" in sides:
        line["ratio"] = round(line["hob_tok_s"] / max(peers), 3)
    print(json.dumps(line))
if not speeds:
    sys.exit("compare: no measurement succeeded")
PY
