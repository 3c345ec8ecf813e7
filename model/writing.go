package model

import (
	"encoding/json"
	"fmt"
)

// TokenIDs is a token id of config.json that may be one number, a list or null.
type TokenIDs []int32

// UnmarshalJSON implements json.Unmarshaler.
func (t *TokenIDs) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = nil
		return nil
	}
	var one int32
	if json.Unmarshal(b, &one) == nil {
		*t = TokenIDs{one}
		return nil
	}
	var list []int32
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*t = list
	return nil
}

// Writing is what a checkpoint says about how its decoder writes: the part of
// transformers' generation configuration that changes greedy texts of
// encoder-decoder models. Beams and penalties of repetition are not part of it.
type Writing struct {
	// EOS lists the tokens that end a text (eos_token_id).
	EOS []int32
	// ForcedBOS, when not empty, holds the token that is always written first
	// (forced_bos_token_id), ForcedEOS the one that is written where the limit of
	// tokens allows only one more (forced_eos_token_id).
	ForcedBOS, ForcedEOS []int32
	// Banned are never written (bad_words_ids of one token, suppress_tokens).
	Banned []int32
}

// ReadWriting reads generation_config.json and, for keys that it lacks,
// config.json, where older checkpoints keep them.
func ReadWriting(c *Checkpoint) (*Writing, error) {
	w := &Writing{}
	for _, f := range []struct {
		name string
		raw  []byte
	}{{"config.json", c.Config}, {"generation_config.json", c.Source.Files["generation_config.json"]}} {
		if len(f.raw) == 0 {
			continue
		}
		var g struct {
			EOS       *TokenIDs `json:"eos_token_id"`
			ForcedBOS *TokenIDs `json:"forced_bos_token_id"`
			ForcedEOS *TokenIDs `json:"forced_eos_token_id"`
			Suppress  *TokenIDs `json:"suppress_tokens"`
			BadWords  [][]int32 `json:"bad_words_ids"`
		}
		if err := json.Unmarshal(f.raw, &g); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", c.Source.Path, f.name, err)
		}
		for _, k := range []struct {
			dst *[]int32
			src *TokenIDs
		}{{&w.EOS, g.EOS}, {&w.ForcedBOS, g.ForcedBOS}, {&w.ForcedEOS, g.ForcedEOS}} {
			if k.src != nil {
				*k.dst = *k.src
			}
		}
		if g.Suppress != nil {
			w.Banned = append(w.Banned, *g.Suppress...)
		}
		for _, word := range g.BadWords {
			if len(word) == 1 {
				w.Banned = append(w.Banned, word[0])
			}
		}
	}
	return w, nil
}
