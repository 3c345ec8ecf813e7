package formats

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAtNamesAPathOnce(t *testing.T) {
	plain := errors.New("bad")
	for _, c := range []struct {
		path string
		err  error
		want string
	}{
		{"a/b", plain, "a/b: bad"},
		{"a/b", &FileError{File: "a/b", Err: ErrEmpty}, "a/b: empty"},
		{"a/b", &FileError{File: "a/b/config.json", Err: ErrHeader}, "a/b/config.json: malformed header"},
		{"a/b/", &FileError{File: "a/b/config.json", Err: ErrHeader}, "a/b/config.json: malformed header"},
		{"/a/b", &fs.PathError{Op: "open", Path: "/a/b", Err: fs.ErrNotExist}, "open /a/b: file does not exist"},
		{"m", errors.New("them: bad"), "m: them: bad"},
		{"m", errors.New("m is bad"), "m: m is bad"},
		{"", plain, "bad"},
	} {
		err := At(c.path, c.err)
		require.EqualError(t, err, c.want)
		require.ErrorIs(t, err, c.err)
	}
	require.NoError(t, At("a", nil))
}
