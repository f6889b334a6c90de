//go:build unix

package main

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quipu/p2p"
	"quipu/rpc"
)

func TestNetworkFlagsAreRefused(t *testing.T) {
	dir := home(t)
	genesis, _ := easyNetwork(t, dir, "easy")
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := "/key/swarm/psk/1.0.0/\n/base16/\n" + hex.EncodeToString([]byte(strings.Repeat("k", 32))) + "\n"
	good := file("key", key, 0o600)
	open := file("open", key, 0o644)
	cut := file("cut", key[:60], 0o600)
	empty := file("empty", "# nobody\n", 0o644)
	ident, err := p2p.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	list := file("list", ident.ID()+"\n", 0o644)
	other, err := p2p.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, say string }{
		{"--max-peers 3", "want 4 to 1024"},
		{"--max-peers 0", "at least 4"},
		{"--limits generous", "only shared-address"},
		{"--allow-peers " + filepath.Join(dir, "none"), "no such file"},
		{"--allow-peers " + empty, "names no peer"},
		{"--allow-peers " + list + " --bootstrap /ip4/192.0.2.1/tcp/4820/p2p/" + other.ID(), "isn't on the list"},
		{"--network-key " + filepath.Join(dir, "none"), "openssl rand"},
		{"--network-key " + open, "chmod 600"},
		{"--network-key " + cut, "want three lines"},
		{"--network-key " + good + " --listen /ip4/127.0.0.1/udp/0/quic-v1", "QUIC can't"},
		{"--network-key " + good + " --nat", "forward a TCP port"},
		{"--nat --relay-service", "not both"},
		{"--external-addr 203.0.113.7:4820", "external address"},
	} {
		args := append([]string{"node", "run", "--genesis", genesis, "--data-dir", filepath.Join(dir, "data")}, strings.Fields(c.args)...)
		if r := cli(t, args...).want(t, exitUsage, c.say); strings.Contains(r.err, "6b6b6b") {
			t.Errorf("%s: the key is shown:\n%s", c.args, r.err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Error("a data directory was made")
	}
}

// TestAllowListIsReadAgain: a member is added to a running node's list, then another takes its place.
func TestAllowListIsReadAgain(t *testing.T) {
	dir := home(t)
	genesis, _ := easyNetwork(t, dir, "easy")
	status := func(p *process) rpc.NodeStatus {
		t.Helper()
		s, err := (&rpc.Client{URL: p.url}).NodeStatus(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	friend := startNode(t, "--genesis", genesis, "--data-dir", filepath.Join(dir, "friend"))
	list := filepath.Join(dir, "list")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nobody, err := p2p.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	write(nobody.ID() + "\n")
	p := startNode(t, "--genesis", genesis, "--data-dir", filepath.Join(dir, "node"), "--allow-peers", list)
	second := startNode(t, "--genesis", genesis, "--data-dir", filepath.Join(dir, "second"), "--bootstrap", status(p).Listen[0])
	write(status(second).PeerID + " # the second\n")
	connected := func(want int) func() bool {
		return func() bool { return status(p).Peers.In+status(p).Peers.Out == want }
	}
	hup := func() {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	if !connected(0)() {
		t.Fatal("a stranger is connected")
	}
	hup()
	waitFor(t, "the second connected", connected(1))
	write("nonsense\n")
	hup()
	waitFor(t, "the mistake named", func() bool { return strings.Contains(p.text(), "line 1") })
	if !connected(1)() {
		t.Error("a list with a mistake has cut the second off")
	}
	write(status(friend).PeerID + "\n")
	hup()
	waitFor(t, "the second gone", connected(0))
}
