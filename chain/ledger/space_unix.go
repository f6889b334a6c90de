//go:build linux || darwin || freebsd

package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// statfs is the number of bytes an ordinary user may still write below dir.
func statfs(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return uint64(max(s.Bavail, 0)) * uint64(s.Bsize), nil
}

// diskBytes is what the files of dir take on disk; Badger's are sparse, so their lengths would say too much.
func diskBytes(dir string) (sum uint64) {
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	return filesBytes(files)
}

func filesBytes(files []string) (sum uint64) {
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += uint64(s.Blocks) * 512
			}
		}
	}
	return sum
}

// lockHeld reports whether another process has the store open: Badger holds a lock on its directory (dir_unix.go).
func lockHeld(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close() // lets go of the lock
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
