package testnet

import "syscall"

// childAttr: a process group of its own, so that a Ctrl-C in the terminal reaches the supervisor alone, and death with
// the thread that starts it, which lives as long as the supervisor (prctl(2), PR_SET_PDEATHSIG).
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
