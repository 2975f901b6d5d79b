#!/usr/bin/env bash
# Schemathesis: thousands of valid and invalid requests made from docs/openapi.yaml against a running server, and whether its
# answers are what that file promises. Last run with schemathesis 4.32.5.
#
#   python3 -m venv clients && clients/bin/pip install schemathesis
#   hob serve tests/data/model/olmoe.gguf --chat-format chatml --ctx 256 &
#   PATH=$PWD/clients/bin:$PATH tests/clients/schemathesis.sh http://127.0.0.1:8080 [examples per operation]
#
# A small --ctx keeps answers without max_tokens short. Not part of the test suite: it needs packages from PyPI.
set -euo pipefail
cd "$(dirname "$0")/../.."
export HOB_URL=${1:?URL of a running server} SCHEMATHESIS_HOOKS=tests/clients/schemathesis_hooks.py PYTHONPATH=.
# valid_requests_are_accepted (in the hooks) stands for positive_data_acceptance.
exec schemathesis run docs/openapi.yaml --url "$HOB_URL" --max-examples "${2:-100}" --continue-on-failure --no-color \
  --checks all --exclude-checks positive_data_acceptance --output-sanitize false --generation-deterministic
