//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"quipu/chain"
	"quipu/rpc"
	"quipu/testnet"
)

// A supervisor in this test binary needs nodes that are this test binary as the program.
func init() { nodeEnv = []string{asProgram + "=1"} }

// networkHome gives a test a home whose running networks the program finds.
func networkHome(t *testing.T) {
	t.Helper()
	home(t)
	before := discoverTestnet
	discoverTestnet = func() (runningNet, bool) {
		env, ok := testnet.Discover()
		return runningNet{Name: env.Name, URL: env.RPC, Wallets: env.Wallets}, ok
	}
	t.Cleanup(func() { discoverTestnet = before })
}

// eventually fails the test unless cond holds within half a minute.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-time.After(30 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("not within 30 s: %s", what)
}

func addressOf(t *testing.T, st testnet.State, label string) chain.Account {
	t.Helper()
	for _, a := range st.Accounts {
		if a.Label == label {
			account, err := chain.DecodeAddress(st.Network.Prefix, a.Address)
			if err != nil {
				t.Fatal(err)
			}
			return account
		}
	}
	t.Fatalf("no account %s", label)
	return chain.Account{}
}

// up starts a detached network through the program and sees to its end.
func up(t *testing.T, args ...string) testnet.State {
	t.Helper()
	var st testnet.State
	r := cli(t, append([]string{"testnet", "up", "--detach", "--json", "--base-port", "26830"}, args...)...).want(t, exitOK)
	if err := json.Unmarshal([]byte(r.out), &st); err != nil {
		t.Fatalf("%v in %s", err, r.out)
	}
	t.Cleanup(func() {
		if testnet.Recorded(st.Name) {
			cliCtx(t, context.Background(), "", "testnet", "down", "--name", st.Name)
		}
		for _, n := range st.Nodes {
			processGone(t, n.PID)
		}
		processGone(t, st.PID)
	})
	return st
}

// processGone waits until no process of this id runs. What no init collects counts as gone.
func processGone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return true
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && bytes.Contains(text, []byte(") Z "))
	})
}

func ps(t *testing.T) testnet.State {
	t.Helper()
	var st testnet.State
	r := cli(t, "testnet", "ps", "--json").want(t, exitOK)
	if err := json.Unmarshal([]byte(r.out), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestTestnetLife: three real nodes, from a detached up to down: second up refused, faucet, kill, start, cut, heal, a
// liar, environment, logs; and nothing is left.
func TestTestnetLife(t *testing.T) {
	networkHome(t)
	cli(t, "testnet", "ps").want(t, exitNotFound, "no test network is running", "testnet up")
	st := up(t, "-n", "3")
	if !st.Ready || len(st.Nodes) != 3 || len(st.Accounts) != 4 {
		t.Fatalf("up: %+v", st)
	}
	for _, n := range st.Nodes {
		if n.State != testnet.Up || n.Peers != 2 {
			t.Errorf("after up: %+v", n)
		}
	}
	cli(t, "testnet", "up").want(t, exitRunning, st.Name, "is running already")
	cli(t, "testnet", "up", "--detach").want(t, exitRunning, st.Name, "is running already")
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(st.Dir), "*")); len(left) != 1 {
		t.Errorf("after a refused up: %v", left)
	}

	r := cli(t, "testnet", "faucet", "bob", "2.5").want(t, exitOK)
	if len(strings.TrimSpace(r.out)) != 64 {
		t.Errorf("faucet printed %q", r.out)
	}
	eventually(t, "the faucet's payment is in a block on every node", func() bool {
		for _, n := range st.Nodes {
			a, err := (&rpc.Client{URL: n.HTTP}).AccountGet(t.Context(), addressOf(t, st, "bob"))
			if err != nil || a.Balance != 100_250_000_000 {
				return false
			}
		}
		return true
	})
	cli(t, "testnet", "faucet", "bob", "0").want(t, exitUsage)
	cli(t, "testnet", "faucet", "nobody", "1").want(t, exitUsage, "nobody")

	cli(t, "testnet", "kill", "3").want(t, exitOK)
	processGone(t, st.Nodes[2].PID)
	if n := ps(t).Nodes[2]; n.State != testnet.Killed {
		t.Errorf("after kill: %+v", n)
	}
	high := ps(t).Height
	eventually(t, "two nodes go on", func() bool { return ps(t).Height > high })
	cli(t, "testnet", "start", "node-3").want(t, exitOK)
	eventually(t, "node-3 is back on the common tip", func() bool { s := ps(t); return s.Tips == 1 && s.Nodes[2].Height > high && s.Nodes[2].Peers == 2 })

	cli(t, "testnet", "partition", "1/2").want(t, exitUsage, "perhaps 1/2,3")
	cli(t, "testnet", "partition", "1/2,3").want(t, exitOK)
	eventually(t, "two tips", func() bool {
		s := ps(t)
		return s.Nodes[0].Peers == 0 && s.Nodes[2].Peers == 1 && s.Nodes[0].Tip != nil && s.Nodes[1].Tip != nil && *s.Nodes[0].Tip != *s.Nodes[1].Tip
	})
	cli(t, "testnet", "heal").want(t, exitOK)
	eventually(t, "one tip", func() bool { s := ps(t); return s.Tips == 1 && s.Nodes[0].Peers == 2 })

	cli(t, "testnet", "add", "--bad", "bad-manners").want(t, exitUsage)
	cli(t, "testnet", "add", "--bad", "bad-signature").want(t, exitOK)
	eventually(t, "every node bans the liar", func() bool {
		return !slices.ContainsFunc(ps(t).Nodes[:3], func(n testnet.Node) bool { return n.Bans != 1 })
	})

	r = cli(t, "testnet", "env", "2").want(t, exitOK)
	if !strings.HasPrefix(r.out, "export QUIPU_RPC="+st.Nodes[1].HTTP+"\n") {
		t.Errorf("env: %s", r.out)
	}
	if r = cli(t, "testnet", "logs", "3").want(t, exitOK); !strings.Contains(r.out, "peer connected") {
		t.Errorf("logs: %s", r.out)
	}
	cli(t, "testnet", "logs", "9").want(t, exitNotFound)
	cli(t, "testnet", "pause", "2").want(t, exitOK)
	cli(t, "testnet", "start", "2").want(t, exitRejected, "is paused")
	for path, text := range map[string]string{"/": "<html", "/api/state": `"name":"node-3"`} {
		if got := get(t, st.URL+path); !strings.Contains(got, text) {
			t.Errorf("%s of the supervisor: %.300s", path, got)
		}
	}
	cli(t, "testnet", "down").want(t, exitOK)
	if _, err := os.Stat(st.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", st.Dir, err)
	}
}

// get is what a browser is given.
func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %v", url, resp.Status, err)
	}
	return string(text)
}

// TestSupervisorShot: real nodes end when their supervisor is killed; `down` then cleans up.
func TestSupervisorShot(t *testing.T) {
	networkHome(t)
	st := up(t, "-n", "2", "--name", "shot")
	if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil { // this test started it
		t.Fatal(err)
	}
	processGone(t, st.PID)
	for _, n := range st.Nodes {
		processGone(t, n.PID)
	}
	cli(t, "testnet", "ps").want(t, exitNotFound)
	cli(t, "testnet", "down").want(t, exitOK)
	if _, err := os.Stat(st.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", st.Dir, err)
	}
	cli(t, "testnet", "down").want(t, exitNotFound)
}

// TestTestnetKeep: what is kept goes on under its name, and a port taken meanwhile is stepped over and named.
func TestTestnetKeep(t *testing.T) {
	networkHome(t)
	st := up(t, "-n", "2", "--name", "kept")
	eventually(t, "a block", func() bool { return ps(t).Height > 0 })
	cli(t, "testnet", "down", "--keep").want(t, exitOK)
	port := strings.TrimPrefix(st.Nodes[0].HTTP, "http://")
	ln, err := net.Listen("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := cli(t, "testnet", "up", "--detach", "--name", "kept", "-n", "2", "--base-port", "26830").want(t, exitOK, "stepped over")
	if !strings.Contains(r.out, st.Network.ID.Short()) {
		t.Errorf("another network: %s", r.out)
	}
	again := ps(t)
	if again.Nodes[0].HTTP == st.Nodes[0].HTTP || again.Height == 0 {
		t.Errorf("after up again: %+v", again.Nodes[0])
	}
	cli(t, "testnet", "down").want(t, exitOK)
	for _, n := range again.Nodes {
		processGone(t, n.PID)
	}
}

// TestFollowLog: the end of a log, what is added, and what comes after it was begun anew.
func TestFollowLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n.log")
	if err := os.WriteFile(path, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- followLog(ctx, out, path, 4, true) }()
	expect := func(want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(in, b); err != nil || string(b) != want {
			t.Fatalf("%q, %v; want %q", b, err, want)
		}
	}
	expect("two\n")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "three")
	f.Close()
	expect("three\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("four\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("four\n")
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// runProgram runs this test binary as the program to its end.
func runProgram(t *testing.T, args ...string) (code int, out, errw string) {
	t.Helper()
	var o, e bytes.Buffer
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}
