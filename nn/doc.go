// Package nn is the training engine: a tape that records one forward pass and
// runs it backward, operations with hand-written gradients, and the layers that
// PEFT methods attach to.
//
// Activations are float32 matrices [Var] in an arena that the tape reuses from
// step to step. Each operation says which of its inputs its backward reads, so
// the tape frees everything else at once, and what can be computed again (normed
// rows, SwiGLU outputs, dropped-out inputs) is dropped and recomputed on demand:
//
//	t := nn.NewTape()
//	t.Train, t.Seed = true, step
//	h := norm.Forward(t, x)
//	y := up.Forward(t, h)
//	t.Discard(h) // computed again if a gradient needs it
//	loss, n := nn.CrossEntropy(t, y, head, labels, 1)
//	t.Backward() // gradients are now in the parameters
//	t.Reset()    // the next step uses the same memory
//
// A frozen weight stays in the type it is stored in and never gets a gradient.
// Results do not depend on the number of threads: every element of every sum is
// added in an order that the shapes alone decide.
//
// A tape and its variables belong to one goroutine; the work inside an operation
// is spread over the worker pool of package kernels. Shapes that do not fit are a
// mistake of the caller and panic, as an index out of range does.
package nn
