#!/usr/bin/env bash
# Installs what is missing, builds with ASan + UBSan, runs every test. The last lines are ctest's own summary.
#
#   scripts/test.sh [ctest arguments]        HOB_PRESET=release scripts/test.sh   (another preset)
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${HOB_PRESET:-dev}
jobs=$(nproc)

groups=(build test)
if [ "$(uname -m)" = x86_64 ]; then groups+=(cross); fi
scripts/deps.sh "${groups[@]}"
cmake --preset "$preset" -Wno-dev
cmake --build --preset "$preset" -j "$jobs"
exec ctest --preset "$preset" -j "$jobs" --no-label-summary "$@"
