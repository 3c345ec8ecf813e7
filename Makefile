# Targets for those who work on peftkit; `go build` and `go test ./...` are all a
# user needs. Scripts: interop/ (other engines), .ci/run (everything).

GO ?= go
ROUNDS ?= 5
SEEDS ?= 3
MINUTES ?= 9

.PHONY: all build test interop bench-train bench-methods bench-encoder bench-memory bench-kernels finetune ci demo-model clean

all: build

build: ## the static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o peftkit ./cmd/peftkit

test:
	$(GO) test ./...

interop: ## compare with transformers, PEFT, ggml and llama.cpp
	interop/run.sh

bench-train: ## LoRA training of SmolLM2-135M: peftkit and PyTorch + PEFT, alternating
	interop/run.sh --python bench_train.py --rounds $(ROUNDS)

bench-methods: ## training with every method: peftkit and PyTorch + PEFT, alternating; a table
	interop/run.sh --python bench_methods.py --minutes $(MINUTES)

bench-encoder: ## training a classifier on MiniLM: peftkit and PyTorch + PEFT, alternating
	interop/run.sh --python bench_encoder.py --rounds $(ROUNDS)

bench-memory: ## the memory that train expects against the peak of its process; a table
	interop/run.sh --python bench_memory.py

bench-kernels: ## the numeric routines, as shares of the measured peak
	$(GO) test -run '^$$' -bench . -benchtime 300ms ./kernels

finetune: ## fine-tune SmolLM2-135M on a real task; scores before and after
	interop/run.sh --python finetune.py --seeds $(SEEDS)

demo-model: ## train the demo's model anew from Debian's r-cran-janeaustenr (half an hour on two cores)
	mkdir -p interop/.cache/austen
	cd interop/.cache/austen && apt-get download r-cran-janeaustenr && dpkg -x r-cran-janeaustenr_*.deb .
	$(GO) run ./internal/demo/recipe -rdata interop/.cache/austen/usr/lib/R/site-library/janeaustenr/data/Rdata

ci:
	.ci/run

clean:
	rm -rf peftkit interop/.cache
