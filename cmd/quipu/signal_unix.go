//go:build unix

package main

import "syscall"

// terminate is the signal a service manager stops a process with.
const terminate = syscall.SIGTERM
