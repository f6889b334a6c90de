package testnet

import (
	"bytes"
	"io"
	"os"
	"sync"
)

// maxLog caps one log file, bytes; the one before it is kept as FILE.1.
const maxLog = 4 << 20

// logFile is a file that starts anew when it is full.
type logFile struct {
	mu   sync.Mutex
	path string
	max  int64
	f    *os.File
	size int64
}

func openLog(path string, max int64) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &logFile{path: path, max: max, f: f, size: st.Size()}, nil
}

// Write never fails: a node must not stop because its log can't be written.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil && l.size+int64(len(p)) > l.max {
		l.turn()
	}
	if l.f != nil {
		n, _ := l.f.Write(p)
		l.size += int64(n)
	}
	return len(p), nil
}

func (l *logFile) turn() {
	l.f.Close()
	l.f, l.size = nil, 0
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		return
	}
	if f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err == nil {
		l.f = f
	}
}

func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// Tail is the last lines of a file, at most max bytes of whole lines; nothing if it can't be read.
func Tail(path string, max int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return TailOf(f, max)
}

// TailOf is Tail of an open file. Reading on from it gives what is added later.
func TailOf(f *os.File, max int64) []byte {
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	from := st.Size() - max - 1 // one more, to see whether a line begins there
	if from >= 0 {
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return nil
		}
		max++
	}
	b, _ := io.ReadAll(io.LimitReader(f, max))
	if from >= 0 {
		b = b[bytes.IndexByte(b, '\n')+1:]
	}
	return b
}

// lastLine is the last line of a log, for an error's text.
func lastLine(path string) string {
	b := bytes.TrimRight(Tail(path, 2048), "\n")
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}
