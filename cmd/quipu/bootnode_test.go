package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"quipu/rpc"
)

// TestBootnodeProcess: real processes that know a bootnode alone find one another; the bootnode is stopped; one that
// knows any of them joins. QUIPU_LONG=1 for more of them.
func TestBootnodeProcess(t *testing.T) {
	dir := home(t)
	genesis, g := easyNetwork(t, dir, "found")
	addr, stop := startBootnode(t, "--genesis", genesis, "--data-dir", filepath.Join(dir, "boot"))
	n := 3
	if os.Getenv("QUIPU_LONG") != "" {
		n = 12
	}
	var nodes []*rpc.Client
	join := func(bootstrap string) {
		data := filepath.Join(dir, "node"+strconv.Itoa(len(nodes)))
		p := startNode(t, "--genesis", genesis, "--data-dir", data, "--discover", "--bootstrap", bootstrap)
		nodes = append(nodes, &rpc.Client{URL: p.url})
	}
	peers := func(c *rpc.Client) (out int) {
		list, err := c.PeerList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list.Peers {
			if p.Tip != nil { // a bootnode has none to tell
				out++
			}
		}
		return out
	}
	met := func() bool {
		for _, c := range nodes {
			if peers(c) < min(4, len(nodes)-1) {
				return false
			}
		}
		return true
	}
	for range n {
		join(addr)
	}
	waitFor(t, "nodes that know a bootnode have peers", met)
	stop()
	status, err := nodes[1].NodeStatus(t.Context())
	if err != nil || len(status.Listen) == 0 || status.Network.ID != g.NetworkID() {
		t.Fatalf("%+v, %v", status, err)
	}
	join(status.Listen[0])
	waitFor(t, "a newcomer after the bootnode has died has peers", met)

	r := cli(t, "peer", "book", "--json", "--rpc", nodes[0].URL).want(t, 0)
	var doc bookDoc
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc.Schema != "quipu.peerbook/v1" || len(doc.Known) < 2 || doc.Want == 0 {
		t.Errorf("book %+v, %v", doc, err)
	}
	for _, k := range doc.Known {
		if !strings.HasPrefix(k.Addr, "/ip4/127.0.0.1/tcp/") {
			t.Errorf("an address that nobody listens on: %+v", k)
		}
	}
	if r := cli(t, "status", "--rpc", nodes[0].URL).want(t, 0); !strings.Contains(r.out, "outbound peers chosen") {
		t.Errorf("status:\n%s", r.out)
	}
}

// startBootnode returns the address it prints, once it has.
func startBootnode(t *testing.T, args ...string) (addr string, stop func()) {
	t.Helper()
	args = append([]string{"bootnode", "--testnet", "--listen", "/ip4/127.0.0.1/tcp/0"}, args...)
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	lines := bufio.NewScanner(out)
	if slices.Contains(args, "--json") { // one document of several lines
		lines.Split(func(b []byte, end bool) (int, []byte, error) {
			if json.Valid(b) {
				return len(b), b, nil
			}
			return 0, nil, nil
		})
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), "/p2p/") {
		t.Fatalf("a bootnode printed %q", lines.Text())
	}
	return lines.Text(), func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("a bootnode that was stopped: %v", err)
		}
	}
}

// TestBootnodeSaysWhatIsWrong, and that it is alive.
func TestBootnodeSaysWhatIsWrong(t *testing.T) {
	dir := home(t)
	genesis, _ := easyNetwork(t, dir, "alone")
	cli(t, "bootnode", "--listen", "nonsense").want(t, 2, "--listen")
	cli(t, "bootnode", "--bootstrap", "/ip4/127.0.0.1/tcp/1").want(t, 2, "--bootstrap")
	cli(t, "bootnode", "--max-peers", "1", "--genesis", genesis).want(t, 2, "max peers")
	cli(t, "bootnode", "--http", "0.0.0.0:80").want(t, 2, "this machine only")
	cli(t, "node", "run", "--discover=false", "--mdns", "--genesis", genesis).want(t, 2, "--discover is off")

	cli(t, "bootnode", "--genesis", genesis, "--network-key", filepath.Join(dir, "none")).want(t, 2, "--network-key")
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("/key/swarm/psk/1.0.0/\n/base16/\n"+strings.Repeat("5a", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	line, stop := startBootnode(t, "--genesis", genesis, "--data-dir", dir, "--http", "127.0.0.1:0", "--json", "--network-key", key,
		"--external-addr", "/ip4/203.0.113.7/tcp/4819")
	var doc bootnodeDoc
	if err := json.Unmarshal([]byte(line), &doc); err != nil || doc.PeerID == "" || len(doc.Addresses) != 2 {
		t.Fatalf("%s: %v", line, err)
	}
	for page, want := range map[string]string{"health/livez": "ok", "metrics": "quipu_addresses_new 0\n"} {
		resp, err := http.Get(doc.HTTP + "/" + page)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(text), want) {
			t.Errorf("%s: %d %s, %v", page, resp.StatusCode, text, err)
		}
	}
	stop()
}
