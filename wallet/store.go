package wallet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const (
	suffix  = ".json"
	maxList = 4096 // files List reads
)

// Path is where the wallet of this name lives in dir. See CheckName.
func Path(dir, name string) string { return filepath.Join(dir, name+suffix) }

// Entry is one file of a wallet directory.
type Entry struct {
	Path string
	Info Info  // zero if Err is set
	Err  error // why this file can't be used
}

// List reads the clear part of every wallet in dir, by file name, without any
// passphrase. Bad files are listed with their error. A missing dir has none.
func List(dir string) ([]Entry, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	files, err := d.ReadDir(maxList)
	if err != nil && err != io.EOF {
		return nil, err
	}
	var out []Entry
	for _, f := range files {
		// A dot leads the name of a temporary file.
		if strings.HasSuffix(f.Name(), suffix) && !strings.HasPrefix(f.Name(), ".") {
			path := filepath.Join(dir, f.Name())
			info, err := Inspect(path)
			out = append(out, Entry{Path: path, Info: info, Err: err})
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// Inspect reads the clear part of one wallet file.
func Inspect(path string) (Info, error) {
	_, f, err := loadFile(path)
	if err != nil {
		return Info{}, err
	}
	return f.Info, nil
}

// Backup copies a wallet file, sealed as it is, to a file that must not exist.
func Backup(path, to string) error {
	raw, _, err := loadFile(path)
	if err != nil {
		return err
	}
	return createFile(to, raw)
}

// loadFile reads and decodes a wallet file that only its owner can read.
func loadFile(path string) ([]byte, *keyFile, error) {
	st, err := os.Stat(path) // first, so that opening can't hang on a pipe
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, &Error{Kind: ErrNotFound, Path: path}
	}
	if err == nil && !st.Mode().IsRegular() {
		return nil, nil, &Error{Kind: ErrDamaged, Path: path, Detail: "it is not a regular file"}
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	st, err = file.Stat() // of the file that was opened
	if err != nil {
		return nil, nil, err
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, nil, &Error{Kind: ErrPermissions, Path: path, Detail: fmt.Sprintf("mode %04o", perm),
			hint: "Make it private to you: chmod 600 '" + path + "'"}
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, nil, err
	}
	f, err := decodeKeyFile(raw)
	if err != nil {
		return nil, nil, at(path, err)
	}
	return raw, f, nil
}

// createFile writes a new file of mode 0600 and never touches one that exists:
// of several creators exactly one wins. The whole content is on disk before
// the name appears.
func createFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(path); err == nil { // the usual case, before any work
		return &Error{Kind: ErrExists, Path: path}
	}
	tmp, err := writeTemp(path, data)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	err = os.Link(tmp, path) // fails if path exists, in one step
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = createDirect(path, data) // a file system without hard links
	}
	if errors.Is(err, fs.ErrExist) {
		return &Error{Kind: ErrExists, Path: path}
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// createDirect is createFile without a link: as exclusive, but a crash may
// leave a part of the file, which then reads as damaged.
func createDirect(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := writeSync(f, data); err != nil {
		os.Remove(path) // ours: O_EXCL made it
		return err
	}
	return nil
}

// replaceFile puts data in the place of old in one step: after a crash the file
// is the one or the other. It refuses if the file is no longer old.
func replaceFile(path string, old, data []byte) error {
	now, _, err := loadFile(path)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) || err == nil && !bytes.Equal(now, old) {
		return &Error{Kind: ErrChanged, Path: path}
	}
	if err != nil {
		return err
	}
	tmp, err := writeTemp(path, data)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeTemp writes data to a new file of mode 0600 beside path and returns its name.
func writeTemp(path string, data []byte) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp") // 0600
	if err != nil {
		return "", err
	}
	if err := writeSync(f, data); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

func writeSync(f *os.File, data []byte) error {
	_, err := f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir makes a new name in dir last over a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil || runtime.GOOS == "windows" { // Windows syncs no directories
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
