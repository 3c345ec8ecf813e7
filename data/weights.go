package data

import (
	"fmt"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// weightKeys are the keys of a message that say whether it is trained: OpenAI's and
// mistral-finetune's weight, axolotl's train, train_on_turn and training, ms-swift's
// loss, and masked.
var weightKeys = []string{"weight", "train", "train_on_turn", "training", "loss", "masked"}

// weightOf returns how much a message counts in the loss.
func weightOf(d *jinja.Dict, answers bool) (float32, *LineError) {
	weight, by := float64(1), ""
	for _, key := range weightKeys {
		v := field(d, key)
		if v == nil {
			continue
		}
		w, ok := weightValue(key, v)
		switch {
		case !ok && key == "weight":
			return 0, &LineError{Found: fmt.Sprintf(".weight is %s", oneLine(v)), Want: "a number from 0 (not trained) to 1"}
		case !ok:
			return 0, &LineError{Found: fmt.Sprintf(".%s is %s", key, oneLine(v)), Want: "true or false"}
		case !answers && w > 0 && key != "weight" && key != "masked":
			return 0, &LineError{Found: fmt.Sprintf(" is to be trained (%s) and not of the assistant", key), Want: "messages of the assistant to be trained (--train-on all trains every message)"}
		case by != "" && (w > 0) != (weight > 0):
			return 0, &LineError{Found: fmt.Sprintf(": %s and %s contradict each other", by, key), Want: "one of them"}
		}
		if by == "" || key == "weight" {
			weight = w
		}
		by = key
	}
	return float32(weight), nil
}

func weightValue(key string, v any) (w float64, ok bool) {
	if on, is := v.(bool); is && key != "weight" {
		if on != (key == "masked") {
			return 1, true
		}
		return 0, true
	}
	switch x := v.(type) {
	case int64:
		w = float64(x)
	case float64:
		w = x
	default:
		return 0, false
	}
	if key == "weight" {
		return w, w >= 0 && w <= 1
	}
	if key == "masked" {
		w = 1 - w
	}
	return w, w == 0 || w == 1
}
