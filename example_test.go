package peftkit_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	_ "github.com/peftkit/peftkit/plugins/standard"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/train"
)

// Open a model, attach LoRA, train a few steps, and save an adapter that
// Hugging Face PEFT loads.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	check(os.WriteFile(dir+"/data.jsonl", []byte(`{"prompt": "Mr. Darcy", "completion": " smiled."}`+"\n"), 0o644))

	m, err := model.Load("internal/demo/assets/austen.gguf", model.Options{})
	check(err)
	defer m.Close()
	tok, err := tokenizer.FromModel(m.Source)
	check(err)
	ds, err := data.Load(dir+"/data.jsonl", data.Options{Tokenizer: tok, MaxSeqLen: 128})
	check(err)

	lora, err := peft.ByName("lora")
	check(err)
	adapter, err := lora.New(m, peft.Options{"rank": 4, "target_modules": "q_proj,v_proj"}, 42)
	check(err)
	cfg := train.Default()
	cfg.MaxSteps, cfg.LearningRate, cfg.GradAccum = 20, 1e-2, 1
	before, err := train.Evaluate(context.Background(), m, ds)
	check(err)
	_, err = train.Run(context.Background(), cfg, m, adapter, ds)
	check(err)
	after, err := train.Evaluate(context.Background(), m, ds)
	check(err)
	check(peft.Save(context.Background(), dir+"/adapter", adapter, nil))

	fmt.Println(adapter.Summary())
	fmt.Println("learnt:", after.Loss < before.Loss/2)
	// Output:
	// LoRA rank 4 on 8 modules (q_proj, v_proj)
	// learnt: true
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
