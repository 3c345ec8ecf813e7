package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/generate"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/train"
)

func TestExitCodes(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("somewhere: %w", err) }
	for _, tt := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{io.ErrUnexpectedEOF, 1},
		{train.ErrNotFinite, 1},
		{usagef("x"), 2},
		{peft.ErrConfig, 2},
		{train.ErrConfig, 2},
		{convert.ErrOption, 2},
		{convert.ErrOutput, 2},
		{generate.ErrOptions, 2},
		{&formats.FileError{File: "x", Err: fs.ErrNotExist}, 2},
		{data.ErrFields, 3},
		{data.ErrEmpty, 3},
		{&data.LineErrors{First: []*data.LineError{{File: "x", Line: 1, Err: data.ErrSyntax}}, Total: 1}, 3},
		{withCode(exitData, fs.ErrNotExist), 3},
		{&formats.FileError{File: "x", Err: formats.ErrTruncated}, 4},
		{&formats.FileError{File: "x", Err: io.EOF}, 4},
		{model.ErrUnsupported, 4},
		{peft.ErrNoMatch, 4},
		{peft.ErrTensors, 4},
		{train.ErrDrift, 4},
		{&tokenizer.UnsupportedError{Component: "x"}, 4},
		{syscall.ENOSPC, 5},
		{syscall.ENOMEM, 5},
		{&formats.FileError{File: "x", Err: syscall.ENOSPC}, 5},
		{context.Canceled, 130},
		{fmt.Errorf("%w after step 3: %w", train.ErrInterrupted, context.Canceled), 130},
	} {
		require.Equal(t, tt.code, exitCode(context.Background(), tt.err), "%v", tt.err)
		if tt.err != nil {
			require.Equal(t, tt.code, exitCode(context.Background(), wrap(tt.err)), "%v", tt.err)
		}
	}
}

// What is said about wrong input names what is wrong, where, and what to do.
func TestMessages(t *testing.T) {
	dir, m := t.TempDir(), tiny(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	good := write(t, in("good.jsonl"), evenOdd(8))
	page := write(t, in("page.gguf"), "<!DOCTYPE html><html><body>404</body></html>")
	short := write(t, in("short.gguf"), "GGUF\x03\x00\x00\x00\x05\x00\x00\x00")
	broken := write(t, in("broken.jsonl"), evenOdd(2)+"{\"prompt\": oops}\n")
	fields := write(t, in("fields.jsonl"), "{\"ask\": \"x\", \"say\": \"y\"}\n")
	chat := write(t, in("chat.jsonl"), `{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}`+"\n")
	write(t, in("empty/x"), "")
	for _, tt := range []struct {
		args string
		code int
		want []string
	}{
		{"", 0, nil},
		{"nonesuch", 2, []string{`unknown command "nonesuch"`}},
		{"inspekt x", 2, []string{"peftkit inspect"}},
		{"train", 2, []string{"-m MODEL", "-d DATA", "train --help"}},
		{"train -m " + m, 2, []string{"missing -d DATA"}},
		{"train --rnak 3", 2, []string{"unknown flag --rnak", "--rank"}},
		{"train --epochs many", 2, []string{"--epochs", `"many"`, "expected a number"}},
		{"train -m M -d D --schedule zigzag", 2, []string{"zigzag", "cosine"}},
		{"train -m M -d D --set rank", 2, []string{"KEY=VALUE"}},
		{"train -m M -d D --method nonesuch", 2, []string{"nonesuch", "lora"}},
		{"train -m M -d D --epochs 1 --max-steps 3", 2, []string{"exclude each other"}},
		{"train -m M -d D --resume x", 2, []string{"--resume=x"}},
		{"train -m " + m + " -d " + good + " -o " + in("a") + " --lr 0", 2, []string{"learning rate"}},
		{"train -m " + m + " -d " + good + " -o " + in("a") + " --lr nan", 2, []string{"lr"}},
		{"train -m " + m + " -d " + good + " -o " + in("a") + " --target-modules nose_proj", 2, []string{"nose_proj", "q_proj"}},
		{"train -m " + m + " -d " + good + " -o " + in("a") + " --set nonesuch=1", 2, []string{"nonesuch", "use_rslora"}},
		{"train -m " + m + " -d " + good + " -o " + in("a") + " --rank 4 --set r=8", 2, []string{"same option"}},
		{"train -m " + m + " -d " + good + " -o " + in("a") + " --resume", 2, []string{"none to resume"}},
		{"train -m " + m + " -d " + good + " -o " + good, 2, []string{"is a file"}},
		{"train -m " + m + " -d " + in("none.jsonl") + " -o " + in("a"), 3, []string{"none.jsonl"}},
		{"train -m " + m + " -d " + in("empty") + " -o " + in("a"), 3, []string{"empty"}},
		{"train -m " + m + " -d " + broken + " -o " + in("a"), 3, []string{"broken.jsonl:3"}},
		{"train -m " + m + " -d " + fields + " -o " + in("a"), 3, []string{"fields.jsonl:1", "--map prompt=ask --map completion=say"}},
		{"train -m " + m + " -d " + chat + " -o " + in("a"), 3, []string{"chat.jsonl:1", "--chat-template chatml"}},
		{"train -m " + in("nonesuch") + " -d " + good, 2, []string{"nonesuch"}},
		{"train -m " + page + " -d " + good, 4, []string{"web page", "Download it again"}},
		{"eval -m " + m + " -d " + good + " --answers x", 2, []string{"--exact-match"}},
		{"generate -m " + m, 2, []string{"no tokens"}}, // standard input is empty
		{"generate -m " + short + " -p x", 4, []string{"short.gguf", "incomplete"}},
		{"generate -m " + m + " -p x --lora " + m, 2, []string{"a model, not an adapter"}},
		{"generate -m " + m + " -p x --temp -1", 2, []string{"temperature"}},
		{"inspect", 2, []string{"missing argument PATH"}},
		{"inspect a b", 2, []string{`unexpected argument "b"`}},
		{"inspect " + m + " --get nonesuch", 2, []string{"nonesuch"}},
		{"convert " + m, 2, []string{"-o OUT"}},
		{"convert " + m + " -o " + in("x.gguf") + " -q q9_9", 2, []string{"q9_9", "Q8_0"}},
		{"convert " + m + " -o " + m, 2, []string{"source"}},
		{"convert " + m + " -o " + in("y") + " --to nonesuch", 2, []string{"nonesuch", "gguf"}},
		{"merge-lora -m " + m + " -o " + in("z"), 2, []string{"--lora"}},
		{"doctor -m " + m, 2, []string{"path"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			o := cli(t, strings.Fields(tt.args)...)
			require.Equal(t, tt.code, o.code, o.errors)
			for _, w := range tt.want {
				require.Contains(t, o.errors, w)
			}
			if tt.code != 0 {
				require.True(t, strings.HasPrefix(o.errors, "error: ") || strings.Contains(o.errors, "\nerror: "), o.errors)
				require.NotContains(t, o.errors, "strconv")
				require.NotContains(t, o.errors, "no such file or directory: no such")
			}
		})
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.NotContains(t, []string{"x.gguf", "y", "z"}, e.Name(), "a refused command writes nothing")
	}
}

// Files that are found in the place of others are named as what they are.
func TestRefusedFiles(t *testing.T) {
	o := cli(t, "inspect", testdata.Dir(t, "refuse", "lfs-pointer.safetensors"))
	require.Equal(t, exitFormat, o.code)
	require.Contains(t, o.errors, "Git LFS pointer")
	require.Contains(t, o.errors, "git lfs pull")
	o = cli(t, "inspect", testdata.Dir(t, "refuse", "training_args.bin"))
	require.Equal(t, exitFormat, o.code)
	require.Contains(t, o.errors, "pickle")
}

func TestErrorLayout(t *testing.T) {
	var b strings.Builder
	a := &app{err: newStream(&b)}
	a.printError(fmt.Errorf("opening: %w", &formats.FileError{File: "m.gguf", Tensor: "blk.0", Offset: 7, Found: "F", Want: "W", Hint: "H", Err: formats.ErrShape}))
	require.Equal(t, "error: opening: m.gguf: \"blk.0\" at byte 7: bad shape\n  found     F\n  expected  W\n  try       H\n", b.String())
	b.Reset()
	a.printError(withHint(errors.New("no"), "do %s", "this"))
	require.Equal(t, "error: no\n  try       do this\n", b.String())
}
