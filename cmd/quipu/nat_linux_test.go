package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// lab is network namespaces with no link to this machine's own network: what a test sends there, public addresses
// included, stays there. It needs root, and ip and nft (Debian: iproute2, nftables).
type lab struct {
	*testing.T
	prefix string
	links  int
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces with NATs need root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here: on Debian, install iproute2 and nftables", tool)
		}
	}
	l := &lab{T: t, prefix: fmt.Sprintf("quipu%d", os.Getpid())}
	if out, err := exec.Command("ip", "netns", "add", l.ns("net")).CombinedOutput(); err != nil {
		t.Skipf("this system gives us no network namespace: %s", out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", l.ns("net")).Run() })
	if out, err := l.command("net", "nft", "add", "table", "inet", "probe").CombinedOutput(); err != nil {
		t.Skipf("this kernel has no nftables: %s", out)
	}
	l.in("net", "ip", "link", "add", "wire0", "type", "bridge")
	l.in("net", "ip", "link", "set", "wire0", "up")
	return l
}

func (l *lab) ns(name string) string { return l.prefix + name }

func (l *lab) command(ns string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", l.ns(ns)}, args...)...)
}

// in runs a tool in a namespace.
func (l *lab) in(ns string, args ...string) {
	l.Helper()
	if out, err := l.command(ns, args...).CombinedOutput(); err != nil {
		l.Fatalf("%s: %s: %v\n%s", ns, strings.Join(args, " "), err, out)
	}
}

func (l *lab) add(ns string) {
	l.Helper()
	if out, err := exec.Command("ip", "netns", "add", l.ns(ns)).CombinedOutput(); err != nil {
		l.Fatalf("namespace %s: %v\n%s", ns, err, out)
	}
	l.Cleanup(func() { exec.Command("ip", "netns", "del", l.ns(ns)).Run() })
	l.in(ns, "ip", "link", "set", "lo", "up")
}

// public is a namespace that is on the internet of this lab.
func (l *lab) public(ns, ip string) {
	l.Helper()
	l.add(ns)
	l.links++
	port := fmt.Sprintf("p%d", l.links)
	l.in("net", "ip", "link", "add", port, "type", "veth", "peer", "name", "wan", "netns", l.ns(ns))
	l.in("net", "ip", "link", "set", port, "master", "wire0", "up")
	l.in(ns, "ip", "addr", "add", ip+"/24", "dev", "wan")
	l.in(ns, "ip", "link", "set", "wan", "up")
}

// home is a namespace behind a router of its own, which masquerades and lets in answers only.
func (l *lab) home(ns, ip string) {
	l.Helper()
	router := ns + "r"
	l.public(router, ip)
	l.add(ns)
	l.in(router, "ip", "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", l.ns(ns))
	l.in(router, "ip", "addr", "add", "192.168.1.1/24", "dev", "lan")
	l.in(router, "ip", "link", "set", "lan", "up")
	l.in(ns, "ip", "addr", "add", "192.168.1.2/24", "dev", "eth0")
	l.in(ns, "ip", "link", "set", "eth0", "up")
	l.in(ns, "ip", "route", "add", "default", "via", "192.168.1.1")
	l.in(router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	rules := l.command(router, "nft", "-f", "-")
	rules.Stdin = strings.NewReader(`table ip home {
	chain nat { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
	chain in { type filter hook input priority filter; iifname "wan" ct state established,related accept; iifname "wan" drop; }
	chain through { type filter hook forward priority filter; policy drop; iifname "lan" accept; ct state established,related accept; }
}`)
	if out, err := rules.CombinedOutput(); err != nil {
		l.Fatalf("nft: %v\n%s", err, out)
	}
}

// natNode is a real node process in a namespace.
type natNode struct {
	*lab
	ns  string
	cmd *exec.Cmd
	log bytes.Buffer // read when the process has ended
}

func (l *lab) node(ns string, args ...string) *natNode {
	l.Helper()
	n := &natNode{lab: l, ns: ns}
	n.cmd = l.command(ns, append([]string{os.Args[0], "node", "run", "--profile", "testnet",
		"--listen", "/ip4/0.0.0.0/tcp/4820", "--listen", "/ip4/0.0.0.0/udp/4820/quic-v1"}, args...)...)
	n.cmd.Env = append(os.Environ(), asProgram+"=1")
	n.cmd.Stderr = &n.log
	if err := n.cmd.Start(); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		n.stop()
		if l.Failed() {
			l.Logf("%s:\n%s", ns, n.log.String())
		}
	})
	return n
}

func (n *natNode) stop() {
	if n.cmd.ProcessState == nil {
		n.cmd.Process.Kill() // ip has become the node
		n.cmd.Wait()
	}
}

// ask runs a command against the node, in its namespace: its API listens on its own loopback interface.
func (n *natNode) ask(doc any, args ...string) bool {
	c := n.command(n.ns, append([]string{os.Args[0], "--rpc", "http://127.0.0.1:4821", "--json"}, args...)...)
	c.Env = append(os.Environ(), asProgram+"=1")
	out, err := c.Output()
	return err == nil && json.Unmarshal(out, doc) == nil
}

func (n *natNode) id() (id string) {
	waitFor(n.T, n.ns+" up", func() bool {
		var doc struct {
			PeerID string `json:"peer_id"`
		}
		ok := n.ask(&doc, "status")
		id = doc.PeerID
		return ok && id != ""
	})
	return id
}

func (n *natNode) height() uint64 {
	var doc struct {
		Header struct{ Height uint64 }
	}
	n.ask(&doc, "chain", "head")
	return doc.Header.Height
}

// addr is where the node reaches a peer, "" if it doesn't.
func (n *natNode) addr(peer string) string {
	var doc peersDoc
	n.ask(&doc, "peer", "list")
	for _, p := range doc.Peers {
		if p.ID == peer {
			return p.Addr
		}
	}
	return ""
}

// TestHolesArePunchedThroughRealNATs: three node processes, two of them in homes behind nftables masquerade. The third
// has a public address and relays; when it is gone, the two go on with each other.
func TestHolesArePunchedThroughRealNATs(t *testing.T) {
	l := newLab(t)
	dir := home(t)
	genesis, _ := easyNetwork(t, dir, "nat")
	cli(t, "wallet", "new", "alice", "--genesis", genesis, "--no-passphrase").want(t, 0)
	l.public("pub", "5.1.1.1")
	l.home("a", "5.1.1.2")
	l.home("b", "5.1.1.3")
	data := func(ns string) string { return filepath.Join(dir, ns) }

	pub := l.node("pub", "--genesis", genesis, "--data-dir", data("pub"), "--relay-service")
	relay := "/ip4/5.1.1.1/udp/4820/quic-v1/p2p/" + pub.id()
	a := l.node("a", "--genesis", genesis, "--data-dir", data("a"), "--nat", "--bootstrap", relay,
		"--mine", "--mine-rate", "5", "--miner", "alice")
	ida := a.id()
	b := l.node("b", "--genesis", genesis, "--data-dir", data("b"), "--nat", "--bootstrap", relay,
		"--bootstrap", relay+"/p2p-circuit/p2p/"+ida)
	idb := b.id()

	waitFor(t, "b connected to a past the relay", func() bool {
		at := b.addr(ida)
		return at != "" && !strings.Contains(at, "p2p-circuit")
	})
	if at := b.addr(ida); !strings.HasPrefix(at, "/ip4/5.1.1.2/udp/") {
		t.Errorf("b reaches a at %s, want its router's address", at)
	}
	if at := a.addr(idb); !strings.HasPrefix(at, "/ip4/5.1.1.3/udp/") {
		t.Errorf("a reaches b at %s, want its router's address", at)
	}
	waitFor(t, "b has blocks of a", func() bool { return b.height() >= 2 })
	pub.stop()
	at := b.height()
	waitFor(t, "b goes on without the relay", func() bool { return b.height() >= at+5 })
	if where := b.addr(ida); !strings.HasPrefix(where, "/ip4/5.1.1.2/udp/") {
		t.Errorf("b reaches a at %q after the relay is gone", where)
	}
}
