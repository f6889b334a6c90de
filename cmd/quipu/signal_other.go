//go:build !unix

package main

import "os"

// terminate: other systems know only the interrupt.
var terminate = os.Interrupt
