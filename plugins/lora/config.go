package lora

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// config is LoraConfig of Hugging Face PEFT: the keys that change what is
// computed.
type config struct {
	R         int             `json:"r"`
	Alpha     float64         `json:"lora_alpha"`
	Dropout   float64         `json:"lora_dropout"`
	UseRSLoRA bool            `json:"use_rslora"`
	Init      json.RawMessage `json:"init_lora_weights"`
	UseDoRA   bool            `json:"use_dora"`
	LoraBias  bool            `json:"lora_bias"`
	Tokens    json.RawMessage `json:"trainable_token_indices"`

	training
	common   *peft.Config
	single   tuner.RankAlpha
	initKind string // see checkInit
	fresh    bool   // New was called: the adapter comes from no file
	sites    []*site
	tokens   []tokenGroup
	tied     []*tiedHead // see ensure_weight_tying
	eva      evaConfig
	loftq    loftqConfig
	asked    bool // loftq_config was given
}

// training are options that decide how an adapter is begun, trained or written
// and are no part of adapter_config.json.
type training struct {
	// PlusRatio multiplies the learning rate of B (LoRA+).
	PlusRatio float64 `json:"loraplus_lr_ratio"`
	// PlusEmbedding multiplies that of adapted embeddings.
	PlusEmbedding float64 `json:"loraplus_embedding_ratio"`
	// FrozenA trains B alone, along the projected gradient (LoRA-FA).
	FrozenA bool `json:"lora_fa"`
	// Residual writes adapters of a changed base as PEFT does.
	Residual bool `json:"save_residual"`
	// FloatBase is the model that a quantised base was made of (LoftQ); without, the
	// base is quantised in memory.
	FloatBase string `json:"loftq_base"`
}

var trainingKeys = []string{"loraplus_lr_ratio", "loraplus_embedding_ratio", "lora_fa", "save_residual", "loftq_base"}

// must lists keys of PEFT's LoraConfig that this build carries but does not
// compute: any other value than these is refused, never ignored.
var must = map[string][]string{
	"layer_replication":       nil,
	"target_parameters":       {"[]"},
	"alora_invocation_tokens": nil,
	"use_qalora":              {"false"},
	"arrow_config":            nil,
	"kasa_config":             nil,
	"use_bdlora":              {"false"},
	"monteclora_config":       nil,
}

// parse reads adapter_config.json with PEFT's defaults for absent keys.
func parse(common *peft.Config) (*config, error) {
	c := &config{R: 8, Alpha: 8, common: common, training: training{PlusRatio: 1, PlusEmbedding: 1}}
	if err := common.Decode(c); err != nil {
		return nil, err
	}
	for _, key := range trainingKeys {
		common.Remove(key)
	}
	if err := tuner.Refuse(common, must); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", c.R); err != nil {
		return nil, err
	}
	if err := tuner.CheckShare("lora_dropout", c.Dropout); err != nil {
		return nil, err
	}
	switch {
	case common.Bias != "none" && common.Bias != "all" && common.Bias != "lora_only":
		return nil, tuner.Invalid("bias is %q, expected none, all or lora_only", common.Bias)
	case c.LoraBias && c.UseDoRA:
		return nil, tuner.Invalid("lora_bias and use_dora exclude each other, as in PEFT")
	case !(c.PlusRatio > 0 && c.PlusRatio < 1e6):
		return nil, tuner.Invalid("loraplus_lr_ratio is %g, expected a positive factor (the paper of LoRA+ has 16)", c.PlusRatio)
	case !(c.PlusEmbedding > 0 && c.PlusEmbedding < 1e6):
		return nil, tuner.Invalid("loraplus_embedding_ratio is %g, expected a positive factor", c.PlusEmbedding)
	case c.FrozenA && c.UseDoRA:
		return nil, tuner.Invalid("lora_fa projects the gradient of plain LoRA: leave out use_dora")
	}
	var err error
	if c.single, err = tuner.ReadRankAlpha(common); err != nil {
		return nil, err
	}
	if err := c.checkInit(); err != nil {
		return nil, err
	}
	if err := c.checkEVA(); err != nil {
		return nil, err
	}
	if err := c.checkLoftQ(); err != nil {
		return nil, err
	}
	return c, c.checkTokens()
}

// The ways to begin; in brackets PEFT's words where they differ.
const (
	initDefault    = "true" // A uniform, B zero
	initGaussian   = "gaussian"
	initRandom     = "false" // both random
	initPiSSA      = "pissa"
	initOLoRA      = "olora"
	initOrthogonal = "orthogonal"
	initMiCA       = "mica"
	initEVA        = "eva"
	initLoftQ      = "loftq"
)

func (c *config) checkInit() error {
	v := strings.Trim(strings.ToLower(string(bytes.TrimSpace(c.Init))), `"`)
	switch v {
	case "", "null":
		v = initDefault
	case initDefault, initGaussian, initRandom, initOrthogonal, initMiCA, initEVA, initLoftQ:
	case initPiSSA, initOLoRA:
	default:
		if n, ok := strings.CutPrefix(v, "pissa_niter_"); ok {
			if k, err := strconv.Atoi(n); err != nil || k < 0 || k > 1000 {
				return tuner.Invalid("init_lora_weights is %s, expected pissa_niter_ and a number", c.Init)
			}
			break
		}
		return tuner.Invalid("init_lora_weights is %s: such an adapter belongs to a base model that its initialisation has changed; save it in PEFT with path_initial_model_for_weight_conversion and use that", c.Init)
	}
	if c.initKind = v; v == initMiCA && c.UseDoRA {
		return tuner.Invalid("init_lora_weights mica and use_dora exclude each other, as in PEFT")
	}
	if v == initMiCA && c.FrozenA {
		return tuner.Invalid("init_lora_weights mica freezes B and lora_fa freezes A: nothing would be trained")
	}
	return nil
}

// changesBase says that beginning subtracts the first B A from the weight.
func (c *config) changesBase() bool {
	return strings.HasPrefix(c.initKind, initPiSSA) || c.initKind == initOLoRA
}

// scaleOf returns alpha/r, or alpha/sqrt(r) for rsLoRA.
func scaleOf(alpha float64, r int, rs bool) float64 {
	if rs {
		return alpha / math.Sqrt(float64(r))
	}
	return alpha / float64(r)
}
