package road_test

import (
	"testing"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/road"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, road.Method, []pefttest.Case{{Name: "road_1", Identity: true, Options: peft.Options{"group_size": 8}}, {Name: "road_2", Identity: true, Options: peft.Options{"group_size": 16, "variant": "road_2"}}, {Name: "road_4", Options: peft.Options{"group_size": 4, "variant": "road_4", "init_weights": false}}})
}
