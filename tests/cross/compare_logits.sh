#!/usr/bin/env bash
# Whole models on two architectures: the logits of every model of tests/data/model, by every kernel table of both programs,
# must be the same bytes.
#
#   tests/cross/compare_logits.sh [x86 hob] [aarch64 hob]      (default: presets release and aarch64)
set -euo pipefail
cd "$(dirname "$0")/../.."
x86=${1:-build/release/hob}
arm=${2:-build/aarch64/hob}
qemu=(qemu-aarch64-static -cpu cortex-a76 -L build/aarch64-sysroot)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# logits NAME ISA command...: writes $out/NAME; not an error if this CPU has no such table.
logits() {
  local to=$out/$1 isa=$2
  shift 2
  HOB_FORCE_ISA=$isa "$@" logits "$model" --tokens "$(cat "${model%.gguf}.tokens")" --quiet --threads 2 --out "$to"
}

n_compared=0
for model in tests/data/model/*.gguf; do
  logits scalar scalar "$x86"
  for isa in avx2 avx512; do
    if grep -q "${isa/avx512/avx512_vnni}" /proc/cpuinfo; then logits "$isa" "$isa" "$x86"; fi
  done
  logits arm_scalar scalar "${qemu[@]}" "$arm"
  logits arm_neon neon "${qemu[@]}" "$arm"
  for other in "$out"/*; do
    cmp "$out/scalar" "$other" || { echo "compare_logits.sh: $model: $(basename "$other") differs" >&2; exit 1; }
    n_compared=$((n_compared + 1))
  done
  echo "$model: $(basename -a "$out"/* | tr '\n' ' ')agree"
  rm "$out"/*
done
echo "compare_logits.sh: $n_compared files, all the same bytes"
