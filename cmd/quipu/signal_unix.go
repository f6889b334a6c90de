//go:build unix

package main

import (
	"os"
	"syscall"
)

// terminate is the signal a service manager stops a process with.
const terminate = syscall.SIGTERM

// reload is the signal that asks a process to read its files again.
var reload = []os.Signal{syscall.SIGHUP}
