#!/usr/bin/env bash
# Builds peftkit and compares it with transformers, PEFT, safetensors, gguf-py,
# ggml and llama.cpp (make interop). Arguments go to pytest, for example:
#
#   interop/run.sh -k merge
#
# PEFTKIT_CACHE moves the cache (default interop/.cache), PEFTKIT_DATA names the
# folder of real test data (default ../shared/data); tests that need the data
# skip without it, nothing else skips.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${PEFTKIT_CACHE:-$here/.cache}"

"$here/setup.sh"
cache="$(cd "$cache" && pwd)"
mkdir -p "$cache/bin" "$cache/tmp"
(cd "$here/.." && CGO_ENABLED=0 go build -o "$cache/bin/peftkit" ./cmd/peftkit)

export PEFTKIT_CACHE="$cache"
export PEFTKIT_BIN="$cache/bin/peftkit"
export PEFTKIT_SMOLLM2="$cache/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false TMPDIR="$cache/tmp"

if [[ "${1:-}" == --python ]]; then # a script of this folder instead of the tests
  shift
  cd "$here"
  exec "$cache/py/bin/python" "$@"
fi
# One worker a core, each with a core's threads: most tests wait for one thread.
exec "$cache/py/bin/python" -m pytest -q -n auto --dist worksteal -m "not slow" "$here" -c "$here/pytest.ini" --rootdir "$here" "$@"
