#!/usr/bin/env bash
# From a bare checkout to a Mixture-of-Experts model that answers inside a memory budget smaller than its file.
#
#   scripts/demo.sh ["your question"]
set -euo pipefail
cd "$(dirname "$0")/.."

model=models/demo-moe-f16.gguf
question=${1:-"What is the capital of France, and what is it famous for?"}

step() { printf '\n== %s\n' "$*"; }

step "Packages (installs what is missing)"
scripts/deps.sh build demo

step "Building hob"
cmake --preset release -Wno-dev >/dev/null
cmake --build --preset release --target hob -j "$(nproc)"

step "The demo model: SmolLM2-135M made into 8 experts per layer (docs/demo_model.md)"
if ! python3 tools/make_demo_model.py --check; then
  # Python packages go into their own environment, never into the system's.
  if [ ! -x models/.venv/bin/python ]; then
    mkdir -p models
    python3 -m venv models/.venv
  fi
  models/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r tools/requirements.txt
  models/.venv/bin/python tools/make_demo_model.py
fi

file_mib=$(($(stat -c %s "$model") / 1048576))
budget_mib=$((file_mib * 40 / 100))
step "Running a ${file_mib} MiB model in ${budget_mib} MiB (40 %)"
printf '$ build/release/hob run %s --memory %dM -p "%s"\n\n' "$model" "$budget_mib" "$question"
exec build/release/hob run "$model" --memory "${budget_mib}M" -n 128 --temp 0.2 --seed 1 -p "$question"
