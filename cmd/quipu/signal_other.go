//go:build !unix

package main

import "os"

// terminate: other systems know only the interrupt.
var terminate = os.Interrupt

// reload: there is no signal for that here.
var reload []os.Signal
