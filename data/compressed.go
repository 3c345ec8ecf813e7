package data

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// unpackers open compressed files by their endings.
var unpackers = map[string]func(io.Reader) (io.ReadCloser, error){
	".gz": gunzip, ".gzip": gunzip, ".zst": unzstd, ".zstd": unzstd,
}

func gunzip(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }

func unzstd(r io.Reader) (io.ReadCloser, error) {
	// The window is that of zstd itself, which refuses more without --long=28 too.
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<27))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// What a compressed file may grow to: records are kept in memory. Text shrinks to
// a tenth or so; the floor is for small files that say the same again and again.
const (
	unpackFloor = 1 << 28
	unpackTimes = 100
)

func unpackLimit(size int64) int64 { return max(unpackFloor, unpackTimes*size) }

// unpack reads a compressed file whole.
func unpack(path, packed string, f io.Reader, size int64) ([]byte, error) {
	bad := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the compressed data end too early: the file is incomplete")
		}
		return fmt.Errorf("%s: %w: %w", path, ErrSyntax, err)
	}
	r, err := unpackers[packed](f)
	if err != nil {
		return nil, bad(err)
	}
	defer r.Close()
	limit := unpackLimit(size)
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, bad(err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrFormat, tooLarge(size, limit))
	}
	return content, nil
}

// tooLarge refuses what grows beyond all text.
func tooLarge(size, limit int64) error {
	return fmt.Errorf("%d bytes unpack to more than %d; if that is meant, unpack the file and give it as it is", size, limit)
}
