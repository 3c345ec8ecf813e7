package full_test

import (
	"testing"

	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/full"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, full.Method, []pefttest.Case{{Name: "all", Identity: true}})
}
