package testnet

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// maxSteps bounds how many port pairs are looked at for one node.
const maxSteps = 500

// portPicker hands out loopback ports in steps and notes which it stepped over.
type portPicker struct {
	next  int // p2p port to try
	taken []int
}

// pair finds the next step whose p2p port and the one above are both free now.
func (p *portPicker) pair() (p2p, http int, err error) {
	for range maxSteps {
		port := p.next
		if port+1 > 65535 {
			break
		}
		p.next += portStep
		if p.free(port) && p.free(port+1) {
			return port, port + 1, nil
		}
	}
	return 0, 0, fmt.Errorf("no free ports for a node below %d", p.next)
}

func (p *portPicker) free(port int) bool {
	ln, err := net.Listen("tcp", loopback(port))
	if err != nil {
		p.taken = append(p.taken, port)
		return false
	}
	ln.Close()
	return true
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// listenControl binds the supervisor's own listener: one below the base port, or a step above where that is taken.
func listenControl(base int) (net.Listener, error) {
	var err error
	for i := range maxSteps {
		var ln net.Listener
		if ln, err = net.Listen("tcp", loopback(base-1+i*portStep)); err == nil {
			return ln, nil
		}
		if base-1+(i+1)*portStep > 65535 {
			break
		}
	}
	return nil, fmt.Errorf("no free port for the test network's control: %w", err)
}

// lockPorts keeps supervisors of one user from choosing ports at the same time: between looking at a port and the
// node's binding it another one would find it free too. The lock is advisory; without it they only may collide.
func lockPorts() (unlock func()) {
	return lockFile(filepath.Join(os.TempDir(), fmt.Sprintf("quipu-ports-%d.lock", os.Getuid())))
}
