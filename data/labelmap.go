package data

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/peftkit/peftkit/model"
)

// LabelFile is the file beside an adapter that names the classes of its head.
// PEFT keeps no such names: there they live in the base model's config.json, which
// an adapter does not change. The keys are those of transformers' configuration:
// handed to AutoModelForSequenceClassification.from_pretrained (with the numbers
// of id2label as integers) they make the base that the adapter fits.
const LabelFile = "label_map.json"

type labelMap struct {
	ID2Label map[string]string `json:"id2label"`
	Label2ID map[string]int    `json:"label2id"`
	Problem  model.Problem     `json:"problem_type,omitempty"`
}

// WriteLabels returns the content of a LabelFile.
func WriteLabels(labels []string, p model.Problem) ([]byte, error) {
	m := labelMap{map[string]string{}, map[string]int{}, p}
	for i, l := range labels {
		m.ID2Label[strconv.Itoa(i)] = l
		m.Label2ID[l] = i
	}
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

// ReadLabels reads the content of a LabelFile.
func ReadLabels(b []byte) (labels []string, p model.Problem, err error) {
	var m labelMap
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, "", fmt.Errorf("%s: %w", LabelFile, err)
	}
	for i := range len(m.ID2Label) {
		l, ok := m.ID2Label[strconv.Itoa(i)]
		if !ok {
			return nil, "", fmt.Errorf("%s: id2label: %w: %d labels and none of number %d", LabelFile, ErrFields, len(m.ID2Label), i)
		}
		labels = append(labels, l)
	}
	if len(labels) == 0 {
		return nil, "", fmt.Errorf("%s: id2label: %w: no labels", LabelFile, ErrFields)
	}
	return labels, m.Problem, nil
}
