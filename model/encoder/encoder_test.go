package encoder_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// edit replaces keys of config.json; nil removes one.
func edit(t *testing.T, m *formats.Model, keys map[string]any) *formats.Model {
	var cfg map[string]any
	require.NoError(t, json.Unmarshal(m.Config, &cfg))
	for k, v := range keys {
		if cfg[k] = v; v == nil {
			delete(cfg, k)
		}
	}
	raw, err := json.Marshal(cfg)
	require.NoError(t, err)
	m.Config = raw
	return m
}

func TestRefuses(t *testing.T) {
	bert, roberta, distil := testmodel.BERT(3), testmodel.RoBERTa(3), testmodel.DistilBERT(3)
	cases := map[string]struct {
		source testmodel.Encoder
		keys   map[string]any
		want   error
		says   string
	}{
		"other class":      {bert, map[string]any{"architectures": []string{"BertGenerationDecoder"}}, model.ErrUnsupported, "BertGenerationDecoder"},
		"pre-norm XL":      {roberta, map[string]any{"architectures": []string{"XLMRobertaXLModel"}}, model.ErrUnsupported, "XLMRobertaXLModel"},
		"decoder":          {bert, map[string]any{"is_decoder": true}, model.ErrUnsupported, "is_decoder"},
		"activation":       {bert, map[string]any{"hidden_act": "mish"}, model.ErrUnsupported, `hidden_act "mish"`},
		"heads":            {bert, map[string]any{"num_attention_heads": 5}, model.ErrMismatch, "no multiple"},
		"absurd layers":    {bert, map[string]any{"num_hidden_layers": 1 << 40}, model.ErrMismatch, "num_hidden_layers"},
		"negative":         {distil, map[string]any{"dim": -32}, model.ErrMismatch, "dim is -32"},
		"no types":         {bert, map[string]any{"type_vocab_size": 0}, model.ErrMismatch, "type_vocab_size"},
		"padding beyond":   {roberta, map[string]any{"pad_token_id": 39}, model.ErrMismatch, "max_position_embeddings is 40"},
		"negative padding": {roberta, map[string]any{"pad_token_id": -3}, model.ErrMismatch, "pad_token_id"},
		"one layer more":   {bert, map[string]any{"num_hidden_layers": 3}, model.ErrMismatch, "missing: bert.encoder.layer.2."},
		"one layer fewer":  {distil, map[string]any{"n_layers": 1}, model.ErrMismatch, "not known"},
		"wrong size":       {distil, map[string]any{"hidden_dim": 65}, model.ErrMismatch, "wrong shape"},
		"epsilon":          {bert, map[string]any{"layer_norm_eps": 0}, model.ErrMismatch, "layer_norm_eps"},
		"dropout":          {bert, map[string]any{"classifier_dropout": 1.5}, model.ErrMismatch, "classifier_dropout is 1.5"},
		"negative dropout": {distil, map[string]any{"attention_dropout": -0.1}, model.ErrMismatch, "attention_dropout is -0.1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := model.FromFile(edit(t, c.source.HF(), c.keys))
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func open(t *testing.T, m *formats.Model) *model.Checkpoint {
	ck, err := model.FromFile(m)
	require.NoError(t, err)
	return ck
}

func TestRefusesTasks(t *testing.T) {
	ck := open(t, testmodel.BERT(3).HF())
	_, err := model.Build(ck, model.Options{Task: model.CausalLM})
	require.ErrorIs(t, err, model.ErrUnsupported)
	require.ErrorContains(t, err, "SEQ_CLS, TOKEN_CLS, FEATURE_EXTRACTION")
	_, err = model.Build(ck, model.Options{Task: model.SequenceClassification, Labels: []string{"a", "b"}})
	require.ErrorIs(t, err, model.ErrMismatch)
	require.ErrorContains(t, err, "classifier.weight is [3 32]")
}

// A bare base model, norms with TensorFlow's names, tables that old files carry
// and heads of pretraining.
func TestOldAndBareNames(t *testing.T) {
	source := testmodel.BERT(3)
	want := open(t, source.HF())
	m := source.HF()
	for _, u := range m.Tensors {
		u.Name = strings.TrimPrefix(u.Name, "bert.")
		u.Name = strings.Replace(strings.Replace(u.Name, "LayerNorm.weight", "LayerNorm.gamma", 1), "LayerNorm.bias", "LayerNorm.beta", 1)
	}
	extra := func(name string, n int) {
		m.Tensors = append(m.Tensors, tensor.FromFloats(name, []int{1, n}, make([]float32, n)))
	}
	extra("embeddings.position_ids", 40)
	extra("cls.predictions.transform.LayerNorm.gamma", 32)
	extra("cls.predictions.bias", 48)
	ck := open(t, m)
	require.Len(t, ck.Entries, len(want.Entries)+2)
	require.Len(t, ck.Notes, 1)
	require.Contains(t, ck.Notes[0], "2 tensors cls.*")
	for i, e := range want.Entries {
		require.Equal(t, e.HF, ck.Entries[i].HF)
		require.Equal(t, e.T.Data, ck.Entries[i].T.Data)
		require.Equal(t, m.Tensors[i].Name == e.HF, ck.Entries[i].Stored == "", e.HF)
	}
	last := ck.Entries[len(ck.Entries)-2]
	require.Equal(t, "cls.predictions.transform.LayerNorm.weight", last.HF)
	require.True(t, last.Unused, "GGUF has no place for it")
}

// What the checkpoint lacks is drawn, listed, and of the head.
func TestFreshHeads(t *testing.T) {
	pooler := []string{"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
	out := []string{"classifier.weight", "classifier.bias"}
	cases := []struct {
		source         testmodel.Encoder
		task           model.Task
		without        string // tensors to take away
		fresh, modules []string
		layers         int // modules of the head
	}{
		{testmodel.BERT(3), "", "", nil, []string{"classifier"}, 1},
		{testmodel.Encoder{Family: "bert", Task: "Model"}, model.SequenceClassification, "", out, []string{"classifier"}, 1},
		{testmodel.Encoder{Family: "bert", Task: "Model"}, model.SequenceClassification, "pooler.", append(pooler, out...), []string{"bert.pooler", "classifier"}, 2},
		{testmodel.Encoder{Family: "bert", Task: "Model"}, model.TokenClassification, "", out, []string{"classifier"}, 1},
		{testmodel.Encoder{Family: "bert", Task: "Model"}, model.FeatureExtraction, "", nil, nil, 0},
		{testmodel.RoBERTa(3), "", "", nil, []string{"classifier"}, 2},
		{testmodel.Encoder{Family: "roberta", Task: "Model"}, model.SequenceClassification, "",
			[]string{"classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight", "classifier.out_proj.bias"}, []string{"classifier"}, 2},
		{testmodel.DistilBERT(3), "", "", nil, []string{"pre_classifier", "classifier"}, 2},
		{testmodel.DistilBERT(3), model.TokenClassification, "", nil, []string{"classifier"}, 1},
	}
	for _, c := range cases {
		src := c.source.HF()
		kept := src.Tensors[:0]
		for _, u := range src.Tensors {
			if c.without == "" || !strings.HasPrefix(u.Name, c.without) {
				kept = append(kept, u)
			}
		}
		src.Tensors = kept
		o := model.Options{Task: c.task, Seed: 5}
		m, err := model.Build(open(t, src), o)
		require.NoError(t, err)
		require.Equal(t, c.fresh, m.Fresh)
		require.Equal(t, c.modules, m.HeadModules)
		var heads []string
		for _, mod := range m.Modules {
			if mod.Head {
				heads = append(heads, mod.Path)
			}
		}
		require.Len(t, heads, c.layers)
		require.Equal(t, c.layers == 0, m.Head == nil)

		again, err := model.Build(open(t, src), o)
		require.NoError(t, err)
		tape := nn.NewTape()
		b := model.Sequence([]int32{2, 7, 3}, 0)
		a := append([]float32(nil), m.Logits(tape, b, nil).Data...)
		require.Equal(t, a, append([]float32(nil), again.Logits(tape, b, nil).Data...), "the seed decides")
		tape.Close()
	}
}

// Without a head there is nothing to learn from.
func TestNoHeadNoLoss(t *testing.T) {
	m, err := model.Build(open(t, testmodel.Encoder{Family: "distilbert", Task: "Model"}.HF()), model.Options{})
	require.NoError(t, err)
	tape := nn.NewTape()
	defer tape.Close()
	b := model.Sequence([]int32{2, 7, 3}, 0)
	_, n := m.Loss(tape, b, 1)
	require.Zero(t, n)
	h := m.Logits(tape, b, nil)
	require.Equal(t, []int{3, 32}, []int{h.Rows, h.Cols})
}

// Every tensor comes back in its place after a trip to GGUF names.
func TestGGUFBothWays(t *testing.T) {
	for _, source := range []testmodel.Encoder{
		testmodel.BERT(3), testmodel.RoBERTa(3), testmodel.DistilBERT(3), {Family: "bert", Task: "Model"}, {Family: "roberta", Task: "Model"},
	} {
		ck := open(t, source.HF())
		meta, extra, err := ck.Family.GGUFMeta(ck)
		require.NoError(t, err)
		require.Empty(t, extra)
		if source.Family == "roberta" {
			meta.Set("tokenizer.ggml.model", "gpt2")
			meta.Set("tokenizer.ggml.padding_token_id", uint32(1))
		} else {
			meta.Set("tokenizer.ggml.model", "bert")
			meta.Set("tokenizer.ggml.padding_token_id", uint32(0))
		}
		names, err := ck.Family.GGUFNames(ck.Config)
		require.NoError(t, err)
		g := &formats.Model{Path: "g", Naming: formats.GGUF, Meta: meta}
		for _, e := range ck.Entries {
			mod := e.HF[:strings.LastIndexByte(e.HF, '.')]
			require.Equal(t, names.ToGGUF[mod]+e.HF[len(mod):], e.GGUF)
			require.Equal(t, mod, names.ToHF[names.ToGGUF[mod]])
			u := *e.T
			if e.InGGUF != nil {
				require.Equal(t, []int{38, 32}, e.InGGUF.Shape)
				u = *e.InGGUF
			}
			u.Name = e.GGUF
			g.Tensors = append(g.Tensors, &u)
		}
		back := open(t, g)
		require.Equal(t, source.Family, back.Family.Name())
		for _, e := range ck.Entries {
			want, err := e.T.AllFloats()
			require.NoError(t, err)
			got, err := back.Tensor(e.HF).AllFloats()
			require.NoError(t, err)
			if e.InGGUF != nil { // rows of positions that are never used
				clear(want[:2*32])
			}
			require.Equal(t, want, got, e.HF)
		}
		var a, b map[string]any
		require.NoError(t, json.Unmarshal(ck.Config, &a))
		require.NoError(t, json.Unmarshal(back.Config, &b))
		for k, v := range a {
			require.Equal(t, v, b[k], k)
		}
	}
}

func TestGGUFRefuses(t *testing.T) {
	ck := open(t, edit(t, testmodel.BERT(3).HF(), map[string]any{"hidden_act": "relu"}))
	_, _, err := ck.Family.GGUFMeta(ck)
	require.ErrorIs(t, err, model.ErrUnsupported)
	ck = open(t, testmodel.Encoder{Family: "bert", Task: "ForTokenClassification", Labels: 3}.HF())
	_, _, err = ck.Family.GGUFMeta(ck)
	require.ErrorIs(t, err, model.ErrUnsupported)
	g := &formats.Model{Path: "g", Naming: formats.GGUF, Meta: formats.Meta{{Key: "general.architecture", Value: "bert"}}}
	_, err = model.FromFile(g)
	require.ErrorIs(t, err, model.ErrMismatch)
}

// Places have the paths that methods name their parameters by.
func TestPlaces(t *testing.T) {
	for source, want := range map[testmodel.Encoder][4]string{
		testmodel.BERT(2):       {"bert.encoder.layer.1", "attention.self", "attention.output", "output"},
		testmodel.RoBERTa(2):    {"roberta.encoder.layer.1", "attention.self", "attention.output", "output"},
		testmodel.DistilBERT(2): {"distilbert.transformer.layer.1", "attention", "attention", "ffn"},
	} {
		m, err := model.Build(open(t, source.HF()), model.Options{})
		require.NoError(t, err)
		require.Len(t, m.Inputs, 1)
		require.Len(t, m.Attentions, 2)
		require.Len(t, m.Sublayers, 4)
		require.Equal(t, want[0]+"."+want[1], m.Attentions[1].Path)
		for i, s := range m.Sublayers[2:] {
			require.Equal(t, want[0], s.LayerPath())
			require.Equal(t, want[0]+"."+want[2+i], s.Path)
			require.NotNil(t, s.Norm)
		}
	}
}

// Whatever config.json and the metadata of a GGUF say, opening returns an error
// or a model.
func FuzzConfig(f *testing.F) {
	for _, s := range []testmodel.Encoder{testmodel.BERT(2), testmodel.RoBERTa(2), testmodel.DistilBERT(2)} {
		f.Add([]byte(s.HF().Config), s.Family, int64(1))
	}
	f.Add([]byte(`{"model_type":"roberta","pad_token_id":9223372036854775807}`), "roberta", int64(-1))
	tensors := testmodel.Encoder{Family: "bert", Task: "Model"}.HF().Tensors
	f.Fuzz(func(t *testing.T, raw []byte, family string, n int64) {
		m := &formats.Model{Naming: formats.HF, Config: raw, Tensors: tensors}
		if ck, err := model.FromFile(m); err == nil {
			_, err := model.Build(ck, model.Options{})
			require.NoError(t, err)
		}
		g := &formats.Model{Naming: formats.GGUF, Tensors: m.Tensors, Meta: formats.Meta{{Key: "general.architecture", Value: "bert"},
			{Key: "tokenizer.ggml.model", Value: family}, {Key: "tokenizer.ggml.padding_token_id", Value: n}, {Key: "bert.attention.layer_norm_epsilon", Value: float32(n)}}}
		for _, k := range []string{"embedding_length", "feed_forward_length", "block_count", "attention.head_count", "context_length"} {
			g.Meta.Set("bert."+k, n)
		}
		_, _ = model.FromFile(g)
	})
}
