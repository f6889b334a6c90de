//go:build unix

package testnet

import (
	"os"
	"syscall"
)

var (
	sigTerm = syscall.SIGTERM
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

// lockFile takes an exclusive advisory lock and waits for it; a file that can't be locked isn't.
func lockFile(path string) (unlock func()) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return func() {}
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	return func() { f.Close() }
}

// terminateSelf asks this process to stop as a service manager would.
func terminateSelf() { _ = syscall.Kill(os.Getpid(), syscall.SIGTERM) }

// Detached makes a process its own session's leader, free of the terminal it was started from.
func Detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
