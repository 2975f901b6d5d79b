#!/usr/bin/env bash
# The slow checks, for before a release: all tests under ThreadSanitizer, the end-to-end tests without sanitizers (some
# need an emulator, which has no room for one), then every fuzz harness for a while.
#
#   scripts/check.sh [seconds per harness, default 300]
set -euo pipefail
cd "$(dirname "$0")/.."
fuzz_seconds=${1:-300}
jobs=$(nproc)

scripts/deps.sh build fuzz

HOB_PRESET=tsan scripts/test.sh
HOB_PRESET=release scripts/test.sh -L e2e -LE slow

cmake --preset fuzz -Wno-dev
cmake --build --preset fuzz -j "$jobs"
n_harnesses=0
for harness in build/fuzz/tests/fuzz/*_fuzz; do
  [ -x "$harness" ] || continue
  name=$(basename "$harness" _fuzz)
  found=build/fuzz/found/$name    # new inputs go here; the checked-in corpus is only read
  mkdir -p "$found"
  corpus=()
  if [ -d "tests/data/$name/corpus" ]; then corpus=("tests/data/$name/corpus"); fi
  echo "== $name for $fuzz_seconds s"
  "$harness" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="$found/" "$found" "${corpus[@]}"
  n_harnesses=$((n_harnesses + 1))
done
if [ "$n_harnesses" -eq 0 ]; then
  echo "check.sh: no fuzz harness was built" >&2
  exit 1
fi
echo "check.sh: all tests under ThreadSanitizer, those without sanitizers and $n_harnesses fuzz harness(es) passed"
