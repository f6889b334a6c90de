//go:build unix && !linux

package testnet

import "syscall"

// childAttr: a process group of its own, so that a Ctrl-C in the terminal reaches the supervisor alone. That it dies
// with the supervisor is left to the pipe (WatchParent).
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
