//go:build !unix

package testnet

import (
	"os"
	"syscall"
)

// Without Unix signals nodes can be killed and started; pausing fails, and a stop is a kill.
var (
	sigTerm = os.Kill
	sigStop = syscall.Signal(0x13)
	sigCont = syscall.Signal(0x12)
)

func lockFile(string) (unlock func()) { return func() {} }

func terminateSelf() { os.Exit(1) }

func childAttr() *syscall.SysProcAttr { return nil }

// Detached leaves the process as it is.
func Detached() *syscall.SysProcAttr { return nil }
