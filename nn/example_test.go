package nn_test

import (
	"fmt"

	"github.com/peftkit/peftkit/nn"
)

// An operation of one's own: compute the output, say how its gradient flows on,
// and name what the backward pass reads.
func ExampleTape_Record() {
	square := func(t *nn.Tape, x *nn.Var) *nn.Var {
		out := t.New(x.Rows, x.Cols)
		out.Needs = x.Needs
		for i, v := range x.Mat().Data {
			out.Data[i] = v * v
		}
		t.Record(out, func() {
			g, accumulate := t.Grad(x)
			for i, v := range x.Mat().Data {
				d := 2 * v * out.Grad[i]
				if accumulate {
					d += g.Data[i]
				}
				g.Data[i] = d
			}
		}, x)
		return out
	}

	t := nn.NewTape()
	defer t.Close()
	t.Train = true
	p := nn.NewParam("p", 3)
	copy(p.V.Data, []float32{1, 2, 3})
	y := square(t, p.V)
	fmt.Println(y.Mat().Data)

	seed, _ := t.Grad(y) // the gradient of the sum of y
	for i := range seed.Data {
		seed.Data[i] = 1
	}
	t.Backward()
	fmt.Println(p.V.Grad)
	// Output:
	// [1 4 9]
	// [2 4 6]
}

// LoRA on one layer: the addition is fused into the layer's product.
func ExampleLinearLayer_AddLowRank() {
	w := nn.NewParam("w", 2, 2)
	copy(w.V.Data, []float32{1, 0, 0, 1})
	layer := &nn.LinearLayer{Path: "q_proj", W: &nn.Weight{Name: "w", Out: 2, In: 2, P: w}}

	a, b := nn.NewParam("lora_A", 1, 2), nn.NewParam("lora_B", 2, 1)
	copy(a.V.Data, []float32{1, 1})
	copy(b.V.Data, []float32{1, -1})
	layer.AddLowRank(func(*nn.Tape, *nn.Var) nn.LowRank {
		return nn.LowRank{A: a.V, B: b.V, Scale: 0.5}
	})

	t := nn.NewTape()
	defer t.Close()
	x := &nn.Var{Rows: 1, Cols: 2, Data: []float32{3, 5}}
	fmt.Println(layer.Forward(t, x).Mat().Data)
	layer.Detach()
	fmt.Println(layer.Forward(t, x).Mat().Data)
	// Output:
	// [7 1]
	// [3 5]
}
