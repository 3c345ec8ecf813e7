package onefile_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"example.com/custom/onefile"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

func sample() *formats.OutAdapter {
	a := &formats.OutAdapter{Config: json.RawMessage(`{"peft_type": "OUTSCALE"}`)}
	for _, d := range []*tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		a.Tensors = append(a.Tensors, formats.OutTensor{Name: "x." + d.Name, Type: d, Shape: []int{3, 2}, WriteTo: func(w io.Writer) error {
			b := make([]byte, 6*d.Bytes)
			d.Encode(b, []float32{1, -2, 0.5, 4, 8, -0.25})
			_, err := w.Write(b)
			return err
		}})
	}
	return a
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.adapter")
	if err := (onefile.Format{}).WriteAdapter(context.Background(), path, sample()); err != nil {
		t.Fatal(err)
	}
	a, err := formats.OpenAdapter(path) // finds the format by its first bytes
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.Format != "onefile" || string(a.Config) != `{"peft_type":"OUTSCALE"}` || len(a.Tensors) != 3 {
		t.Fatalf("%s %s %d", a.Format, a.Config, len(a.Tensors))
	}
	for _, x := range a.Tensors {
		v, err := x.AllFloats()
		if err != nil || v[1] != -2 || v[5] != -0.25 {
			t.Errorf("%s: %v %v", x.Name, v, err)
		}
	}
}

func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.adapter")
	if err := (onefile.Format{}).WriteAdapter(context.Background(), path, sample()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if err := os.WriteFile(path, good[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := (onefile.Format{}).OpenAdapter(path)
		var fe *formats.FileError
		if !errors.As(err, &fe) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestNothingLeftBehind(t *testing.T) {
	dir := t.TempDir()
	a := sample()
	a.Tensors[2].WriteTo = func(io.Writer) error { return errors.New("broken") }
	if err := (onefile.Format{}).WriteAdapter(context.Background(), filepath.Join(dir, "a.adapter"), a); err == nil {
		t.Fatal("a failing tensor was written")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}
