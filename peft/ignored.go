package peft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// IgnoredKey is a key of an adapter's configuration that nothing reads, with a value
// that asks for something: whatever that is, it is not computed.
type IgnoredKey struct {
	Adapter string          `json:"adapter"` // path
	Key     string          `json:"key"`     // a dot before a key of a nested object
	Value   json.RawMessage `json:"value"`
	// Unknown says that PEFT does not know the key either; else it has one that changes
	// nothing that peftkit computes.
	Unknown bool `json:"unknown"`
}

// String is the sentence for people.
func (k IgnoredKey) String() string {
	why := "it is known to PEFT, and peftkit computes the same without it"
	if k.Unknown {
		why = "it is unknown here (a newer release, another tool, a slip), and what it asks for is not computed"
	}
	file := k.Adapter
	if filepath.Ext(file) != ".gguf" && filepath.Ext(file) != ".json" {
		file = filepath.Join(file, "adapter_config.json")
	}
	return fmt.Sprintf("%s: %s is %s: the key is passed over; %s", file, k.Key, shortJSON(k.Value), why)
}

// shortJSON is a value on one line, its end cut off.
func shortJSON(v json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, v) != nil {
		return string(v)
	}
	if r := []rune(b.String()); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return b.String()
}

// KeyReader is implemented by methods whose files are not those of PEFT: it lists the
// keys of a configuration that they do not know.
type KeyReader interface {
	UnknownKeys(config json.RawMessage) []IgnoredKey
}

// Ignored lists the keys of an adapter's configuration that are passed over, sorted.
// As in PEFT, a key that a configuration class does not have is no error: newer
// releases add keys. A value that asks for nothing (null, false, empty) is not listed.
func Ignored(a *formats.Adapter) []IgnoredKey {
	out := ignored(a)
	for i := range out {
		out[i].Adapter = a.Path
	}
	slices.SortFunc(out, func(x, y IgnoredKey) int { return strings.Compare(x.Key, y.Key) })
	return out
}

func ignored(a *formats.Adapter) []IgnoredKey {
	if a.Naming == formats.GGUF {
		return ignoredMeta(a)
	}
	m, err := MethodOf(a)
	if err != nil {
		return nil // told by whoever uses it
	}
	if r, ok := m.(KeyReader); ok {
		return r.UnknownKeys(a.Config)
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(a.Config, &keys) != nil {
		return nil
	}
	info := m.Info()
	var out []IgnoredKey
	for key, v := range keys {
		if !Says(v) {
			continue
		}
		if !knows(info, key) {
			out = append(out, IgnoredKey{Key: key, Value: v, Unknown: true})
		} else if d, ok := unread[info.PeftType][key]; ok && !sameJSON(v, d) {
			out = append(out, IgnoredKey{Key: key, Value: v})
		}
		var nested map[string]json.RawMessage
		if known := nestedKeys[key]; known != "" && json.Unmarshal(v, &nested) == nil {
			for k, v := range nested {
				if Says(v) && !slices.Contains(strings.Fields(known), k) {
					out = append(out, IgnoredKey{Key: key + "." + k, Value: v, Unknown: true})
				}
			}
		}
	}
	return out
}

// IgnoredIn is Ignored for a path: an adapter, all parts of a combination with its index,
// and the experts of an X-LoRA.
func IgnoredIn(path string) ([]IgnoredKey, error) {
	out, err := ignoredIndex(path)
	if err != nil {
		return nil, err
	}
	parts, err := Parts(path)
	if err != nil {
		return nil, err
	}
	for len(parts) > 0 {
		a, err := Read(parts[0])
		if err != nil {
			return nil, err
		}
		out = append(out, Ignored(a)...)
		parts = append(parts[1:], experts(a)...)
		if err := a.Close(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// experts are the adapters that an X-LoRA mixes; none of them is one.
func experts(a *formats.Adapter) []string {
	var c struct {
		PeftType string            `json:"peft_type"`
		Adapters map[string]string `json:"adapters"`
	}
	if json.Unmarshal(a.Config, &c) != nil || c.PeftType != "XLORA" {
		return nil
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(c.Adapters)) {
		if isDir(c.Adapters[name]) {
			out = append(out, c.Adapters[name])
		}
	}
	return out
}

// ignoredIndex lists the unknown keys of a combination's index.
func ignoredIndex(path string) ([]IgnoredKey, error) {
	file := filepath.Join(path, IndexName)
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err != nil && !isDir(path) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys map[string]json.RawMessage
	var out []IgnoredKey
	if json.Unmarshal(raw, &keys) != nil {
		return nil, nil // told by Parts
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains([]string{"kind", "version", "parts"}, key) && Says(keys[key]) {
			out = append(out, IgnoredKey{Adapter: file, Key: key, Value: keys[key], Unknown: true})
		}
	}
	return out, nil
}

// knows reports whether a key of adapter_config.json is one of the method's.
func knows(info Info, key string) bool {
	if slices.Contains(commonKeys, key) {
		return true
	}
	theirs, ok := peftKeys[info.PeftType]
	if ok && slices.Contains(strings.Fields(theirs), key) {
		return true
	}
	// A key of ours; one of the keys that choose modules is no key of a method that
	// has none such in PEFT.
	return slices.ContainsFunc(info.Options, func(o Option) bool { return o.Key == key }) && !(ok && slices.Contains(choiceKeys, key))
}

// choiceKeys choose what a method changes or trains beside it. Some of PEFT's
// configurations lack some of them.
var choiceKeys = []string{"bias", "exclude_modules", "layers_pattern", "layers_to_transform", "modules_to_save"}

// Says reports whether a value could ask for anything: it is not null, false or empty.
func Says(v json.RawMessage) bool {
	switch strings.Join(strings.Fields(string(v)), "") {
	case "", "null", "false", `""`, "[]", "{}":
		return false
	}
	return true
}

func sameJSON(v json.RawMessage, text string) bool {
	var b bytes.Buffer
	return json.Compact(&b, v) == nil && b.String() == text
}

// describing are keys of a GGUF adapter that say what it is, or that FromGGUF reads or
// refuses.
var describing = []string{"type", "lora.alpha", "lora.task_name", "lora.prompt_prefix", "alora.invocation_tokens"}

// ignoredMeta lists the metadata of a GGUF adapter that nothing reads, but for what
// describes it.
func ignoredMeta(a *formats.Adapter) []IgnoredKey {
	var out []IgnoredKey
	for _, kv := range a.Meta {
		name, ok := strings.CutPrefix(kv.Key, "adapter.")
		if !ok && (strings.HasPrefix(kv.Key, "general.") || strings.HasPrefix(kv.Key, "split.")) || ok && slices.Contains(describing, name) {
			continue
		}
		if v, err := json.Marshal(kv.Value); err == nil && Says(v) {
			out = append(out, IgnoredKey{Key: kv.Key, Value: v, Unknown: true})
		}
	}
	return out
}

// nestedKeys are the keys of nested objects that methods read.
var nestedKeys = map[string]string{
	"eva_config":   "rho tau use_label_mask label_mask_value whiten adjust_scaling_factors",
	"loftq_config": "loftq_bits loftq_iter",
}

// unread are keys that PEFT knows and no number of peftkit depends on, with their
// defaults as JSON: how an adapter was begun where the file holds the result, what
// PEFT needs for other hardware, what AdaLoRA inherits from LoRA and does not use.
var unread = map[string]map[string]string{
	"LORA": {
		"megatron_config": "null", "megatron_core": `"megatron.core"`, "corda_config": "null", "lora_ga_config": "null", "velora_config": "null",
		"qalora_group_size": "16", "runtime_config": "null",
	},
	"ADALORA": {
		"megatron_config": "null", "megatron_core": `"megatron.core"`, "corda_config": "null", "lora_ga_config": "null", "velora_config": "null",
		"qalora_group_size": "16", "runtime_config": "null", "arrow_config": "null", "eva_config": "null", "kasa_config": "null",
		"monteclora_config": "null", "use_bdlora": "null", "use_qalora": "false", "use_rslora": "false", "ensure_weight_tying": "false",
	},
	"FROD":                    {"runtime_offload_base_weight": "false"},
	"LOHA":                    {"use_effective_conv2d": "false"},
	"LOKR":                    {"use_effective_conv2d": "false"},
	"MULTITASK_PROMPT_TUNING": {"tokenizer_kwargs": "null"},
	"PROMPT_TUNING":           {"tokenizer_kwargs": "null"},
	"OSF":                     {"target_svd_config": "null"},
}

// commonKeys are the fields of PEFT 0.21's PeftConfig, peftKeys those that its
// configuration classes have beside them, by peft_type (interop/test_adapter_keys.py).
var commonKeys = strings.Fields("auto_mapping base_model_name_or_path inference_mode peft_type peft_version revision task_type")

var peftKeys = map[string]string{
	"ADALORA": "alora_invocation_tokens alpha_pattern arrow_config beta1 beta2 bias corda_config deltaT ensure_weight_tying eva_config exclude_modules fan_in_fan_out " +
		"init_lora_weights init_r kasa_config layer_replication layers_pattern layers_to_transform loftq_config lora_alpha lora_bias lora_dropout " +
		"lora_ga_config megatron_config megatron_core modules_to_save monteclora_config orth_reg_weight qalora_group_size r rank_pattern runtime_config " +
		"target_modules target_parameters target_r tfinal tinit total_step trainable_token_indices use_bdlora use_dora use_qalora use_rslora velora_config",
	"ADAMSS": "asa_importance_beta asa_schedule_exponent asa_target_subspaces asa_uncertainty_beta final_warmup init_warmup init_weights layers_pattern " +
		"layers_to_transform mask_interval modules_to_save num_subspaces r random_seed subspace_rank svd_threshold target_modules use_asa use_dynamic_rank",
	"ADAPTION_PROMPT": "adapter_layers adapter_len target_modules",
	"BEFT":            "init_weights modules_to_save target_modules",
	"BOFT": "bias boft_block_num boft_block_size boft_dropout boft_n_butterfly_factor exclude_modules fan_in_fan_out init_weights layers_pattern " +
		"layers_to_transform modules_to_save target_modules",
	"C3A":       "bias block_size block_size_pattern init_weights layers_pattern layers_to_transform modules_to_save target_modules",
	"CARTRIDGE": "modules_to_save num_attention_heads num_frozen_tokens num_layers num_transformer_submodules num_virtual_tokens token_dim",
	"CPT": "cpt_mask cpt_token_ids cpt_tokens_type_mask modules_to_save num_attention_heads num_layers num_transformer_submodules num_virtual_tokens " +
		"opt_loss_decay_factor opt_projection_epsilon opt_projection_format_epsilon opt_weighted_loss_type token_dim tokenizer_name_or_path",
	"DEFT": "alpha bias decomposition_method deft_dropout exclude_modules fan_in_fan_out init_scale init_weights layers_pattern layers_to_transform modules_to_save " +
		"para r target_modules",
	"DELORA": "bias delora_lambda exclude_modules init_weights lambda_pattern layers_pattern layers_to_transform module_dropout modules_to_save r rank_pattern " +
		"target_modules",
	"FOURIERFT": "bias exclude_modules fan_in_fan_out init_weights layers_pattern layers_to_transform modules_to_save n_frequency n_frequency_pattern random_loc_seed " +
		"scaling target_modules",
	"FROD": "bias fan_in_fan_out frod_dropout init_weights layers_pattern layers_to_transform modules_to_save progressbar projection_prng_key regularization_alpha " +
		"runtime_offload_base_weight save_projection sparse_rate target_modules",
	"GLORA":     "bias config_A_B config_C config_D_E init_weights modules_to_save r target_modules",
	"GRALORA":   "alpha bias fan_in_fan_out gralora_dropout gralora_k hybrid_r init_weights layers_pattern layers_to_transform modules_to_save r target_modules",
	"HIRA":      "exclude_modules fan_in_fan_out hira_dropout init_weights layers_pattern layers_to_transform modules_to_save r rank_pattern target_modules",
	"HRA":       "apply_GS bias exclude_modules init_weights layers_pattern layers_to_transform modules_to_save r target_modules",
	"IA3":       "exclude_modules fan_in_fan_out feedforward_modules init_ia3_weights modules_to_save target_modules",
	"LILY":      "exclude_modules init_weights layers_pattern layers_to_transform modules_to_save num_B r scaling stride_A target_modules",
	"LN_TUNING": "exclude_modules modules_to_save target_modules",
	"LOHA": "alpha alpha_pattern exclude_modules init_weights layers_pattern layers_to_transform module_dropout modules_to_save r rank_dropout rank_pattern " +
		"target_modules use_effective_conv2d",
	"LOKR": "alpha alpha_pattern decompose_both decompose_factor exclude_modules init_weights layers_pattern layers_to_transform module_dropout modules_to_save r " +
		"rank_dropout rank_dropout_scale rank_pattern target_modules use_effective_conv2d",
	"LORA": "alora_invocation_tokens alpha_pattern arrow_config bias corda_config ensure_weight_tying eva_config exclude_modules fan_in_fan_out init_lora_weights " +
		"kasa_config layer_replication layers_pattern layers_to_transform loftq_config lora_alpha lora_bias lora_dropout lora_ga_config megatron_config " +
		"megatron_core modules_to_save monteclora_config qalora_group_size r rank_pattern runtime_config target_modules target_parameters " +
		"trainable_token_indices use_bdlora use_dora use_qalora use_rslora velora_config",
	"MISS": "bias exclude_modules init_weights layers_pattern layers_to_transform mini_r miss_dropout modules_to_save r target_modules",
	"MULTITASK_PROMPT_TUNING": "modules_to_save num_attention_heads num_layers num_ranks num_tasks num_transformer_submodules num_virtual_tokens prompt_tuning_init " +
		"prompt_tuning_init_state_dict_path prompt_tuning_init_task prompt_tuning_init_text token_dim tokenizer_kwargs tokenizer_name_or_path",
	"OFT": "bias block_share coft eps exclude_modules fan_in_fan_out init_weights layers_pattern layers_to_transform module_dropout modules_to_save " +
		"num_cayley_neumann_terms oft_block_size r target_modules use_cayley_neumann",
	"OSF":    "effective_rank init_weights modules_to_save rank_pattern target_modules target_svd_config",
	"PEANUT": "act_fn depth exclude_modules init_weights layers_pattern layers_to_transform modules_to_save r scaling target_modules",
	"POLY":   "exclude_modules init_weights modules_to_save n_skills n_splits n_tasks poly_type r target_modules",
	"PREFIX_TUNING": "encoder_hidden_size init_weights modules_to_save num_attention_heads num_layers num_transformer_submodules num_virtual_tokens prefix_projection " +
		"token_dim",
	"PROMPT_TUNING": "modules_to_save num_attention_heads num_layers num_transformer_submodules num_virtual_tokens prompt_tuning_init prompt_tuning_init_text token_dim " +
		"tokenizer_kwargs tokenizer_name_or_path",
	"PSOFT": "ab_svd_init cayley_neumann_eps exclude_modules fan_in_fan_out init_weights layers_pattern layers_to_transform modules_to_save num_cayley_neumann_terms " +
		"psoft_alpha psoft_dropout psoft_mag_a psoft_mag_b psoft_orth psoft_svd psoft_svd_lowrank_niter r random_seed target_modules use_cayley_neumann",
	"PVERA": "bias d_initial fan_in_fan_out generator_seed init_weights layers_pattern layers_to_transform modules_to_save projection_prng_key pvera_dropout r " +
		"sample_at_inference save_projection target_modules",
	"P_TUNING": "encoder_dropout encoder_hidden_size encoder_num_layers encoder_reparameterization_type modules_to_save num_attention_heads num_layers " +
		"num_transformer_submodules num_virtual_tokens token_dim",
	"RANDLORA": "bias fan_in_fan_out init_weights layers_pattern layers_to_transform modules_to_save projection_prng_key r randlora_alpha randlora_dropout " +
		"save_projection sparse target_modules very_sparse",
	"ROAD": "group_size init_weights modules_to_save target_modules variant",
	"SHADOW": "auxiliary_loss_weight exclude_modules init_weights layers_pattern layers_to_transform modules_to_save r shadow_alpha shadow_dropout shadow_hidden_size " +
		"shadow_intermediate_size shadow_model shadow_num_attention_heads shadow_num_hidden_layers share_embeddings target_modules update_hidden_size",
	"SHIRA":       "fan_in_fan_out init_weights mask_type modules_to_save r random_seed target_modules",
	"SUPERTUNING": "init_weights lora_alpha lora_dropout modules_to_save r save_precomputed_indices select_top sparsity target_modules",
	"TINYLORA": "bias fan_in_fan_out init_v_bound init_weights layers_pattern layers_to_transform modules_to_save projection_seed r save_projection target_modules " +
		"tinylora_dropout u weight_tying",
	"TRAINABLE_TOKENS": "init_weights target_modules token_indices",
	"UNILORA": "bias fan_in_fan_out init_theta_d_bound init_weights layers_pattern layers_to_transform modules_to_save proj_seed r save_indices target_modules " +
		"theta_d_length unilora_dropout",
	"VBLORA": "bias exclude_modules fan_in_fan_out init_logits_std init_vector_bank_bound layers_pattern layers_to_transform modules_to_save num_vectors r " +
		"save_only_topk_weights target_modules topk vblora_dropout vector_length",
	"VERA": "bias d_initial fan_in_fan_out init_weights layers_pattern layers_to_transform modules_to_save projection_prng_key r save_projection target_modules " +
		"vera_dropout",
	"WAVEFT": "bias exclude_modules fan_in_fan_out init_weights layers_pattern layers_to_transform modules_to_save n_frequency n_frequency_pattern " +
		"proportional_parameters random_loc_seed scaling target_modules use_idwt wavelet_family",
	"XLORA": "adapters enable_softmax enable_softmax_topk global_scaling_weight hidden_size layerwise_scalings scaling_pass_value softmax_temperature top_k_lora " +
		"use_trainable_adapters xlora_depth xlora_dropout_p xlora_size",
}
