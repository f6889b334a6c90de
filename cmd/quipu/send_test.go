package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quipu/chain"
	"quipu/rpc"
)

// TestSendOutcomes: one table of what a node may say and what send makes of it. The txid is on stdout every time the
// node was asked to take the payment.
func TestSendOutcomes(t *testing.T) {
	pending := func(int, chain.TxID) (rpc.TxStatus, error) { return rpc.TxStatus{State: rpc.TxPending}, nil }
	say := func(s rpc.TxStatus) func(int, chain.TxID) (rpc.TxStatus, error) {
		return func(int, chain.TxID) (rpc.TxStatus, error) { return s, nil }
	}
	refuse := func(name rpc.Name, text string) func(int, chain.TxID) (rpc.Submitted, error) {
		return func(int, chain.TxID) (rpc.Submitted, error) { return rpc.Submitted{}, rpc.Errorf(name, "", "%s", text) }
	}
	rival := chain.TxID{9}
	for _, c := range []struct {
		name   string
		args   []string
		submit func(int, chain.TxID) (rpc.Submitted, error)
		status func(int, chain.TxID) (rpc.TxStatus, error)
		code   int
		err    []string
	}{
		{name: "taken, not waited for", args: []string{"--wait", "none"}, status: pending, code: 0},
		{name: "confirmed", status: say(included(1, 2)), code: 0, err: []string{"in block   101", "confirmed  2 of 2"}},
		{name: "not deep enough", status: say(included(1, 1)), code: exitUnknown, err: []string{"1 of 2 confirmations"}},
		{name: "deeper wanted", args: []string{"--confirmations", "3"}, status: say(included(1, 2)), code: exitUnknown},
		{name: "included", args: []string{"--wait", "included"}, status: say(included(1, 1)), code: 0},
		{name: "verified by most peers", args: []string{"--wait", "verified"}, status: say(peersSay(5, 3)), code: 0, err: []string{"3 of 5 peers say verified too"}},
		{name: "verified by half of the peers", args: []string{"--wait", "verified"}, status: say(peersSay(4, 2)), code: exitUnknown, err: []string{"2 of 4 peers"}},
		{name: "verified, no peers", args: []string{"--wait", "verified"}, status: say(peersSay(0, 0)), code: exitUnknown, err: []string{"no peers to ask"}},
		{name: "peers say so, the node itself not yet", args: []string{"--wait", "verified"}, code: exitUnknown,
			status: say(rpc.TxStatus{State: rpc.TxPending, Peers: &rpc.PeerEvidence{Asked: 2, Verified: 2}})},
		{name: "timeout", status: pending, code: exitUnknown,
			err: []string{"outcome unknown, sending again is safe only with the same nonce", "try: quipu tx watch ", "try: quipu send bob 1.5 --wallet alice --nonce 7"}},
		{name: "rejected at once", submit: refuse(rpc.NameRejected, "tx-signature: wrong"), code: exitRejected, err: []string{"tx-signature: wrong"}},
		{name: "refused by policy", submit: refuse(rpc.NameRefused, "the pool is full"), code: exitRejected, err: []string{"the pool is full"}},
		{name: "node knows of no funds", submit: refuse(rpc.NameFunds, "not enough"), code: exitFunds, err: []string{"not enough"}},
		{name: "node is syncing", submit: refuse(rpc.NameNotReady, "still catching up"), code: exitUnreachable, err: []string{"still catching up"}},
		{name: "node is busy for ever", submit: refuse(rpc.NameBusy, "too many calls"), code: exitUnknown},
		{name: "rejected later", status: say(rpc.TxStatus{State: rpc.TxRejected, Reason: "tx-nonce"}), code: exitRejected, err: []string{"tx-nonce"}},
		{name: "replaced for good", status: say(rpc.TxStatus{State: rpc.TxReplaced, Rival: &rival, Never: true}), code: exitRejected, err: []string{"took its nonce"}},
		{name: "replaced, not yet for good", status: say(rpc.TxStatus{State: rpc.TxReplaced, Rival: &rival}), code: exitUnknown},
		{name: "expired for good", status: say(rpc.TxStatus{State: rpc.TxExpired, Never: true}), code: exitRejected, err: []string{"sending again is safe"}},
		{name: "status fails for a while", code: 0, status: func(n int, _ chain.TxID) (rpc.TxStatus, error) {
			if n < 3 {
				return rpc.TxStatus{}, rpc.Errorf(rpc.NameBusy, "", "busy")
			}
			return included(1, 2), nil
		}},
		{name: "reorg", code: 0, err: []string{"moved", "in block   101  02"}, status: func(n int, _ chain.TxID) (rpc.TxStatus, error) {
			switch n {
			case 1:
				return included(1, 1), nil
			case 2:
				return rpc.TxStatus{State: rpc.TxPending}, nil
			}
			return included(2, 2), nil
		}},
		{name: "reorg into another block at once", code: 0, err: []string{"moved"}, status: func(n int, _ chain.TxID) (rpc.TxStatus, error) {
			return included(byte(min(n, 2)), uint64(min(n, 2))), nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			home(t)
			f := newFake(t)
			if c.submit != nil {
				f.submit = c.submit
			}
			if c.status != nil {
				f.status = c.status
			}
			long, short := "30s", "30s" // only where the time has to run out is it short
			if c.code == exitUnknown {
				long, short = "300ms", "30ms"
			}
			r := cli(t, append([]string{"send", "bob", "1.5", "-y", "--timeout", long}, c.args...)...).want(t, c.code, c.err...)
			f.wantTxID(t, r)
			j := cli(t, append([]string{"send", "bob", "1.5", "-y", "--timeout", short, "--json"}, c.args...)...)
			var doc sendDoc
			if err := json.Unmarshal([]byte(j.out), &doc); err != nil || j.code != c.code || doc.TxID == (chain.TxID{}) || doc.Schema != "quipu.send/v1" {
				t.Errorf("--json: exit %d, %v\n%s", j.code, err, j.out)
			}
			if c.code == exitUnknown && doc.Outcome != "unknown" || c.code == exitRejected && doc.Outcome != "rejected" {
				t.Errorf("exit %d with outcome %q", c.code, doc.Outcome)
			}
		})
	}
}

// TestSendBuilds: what stands in the transaction that is handed in.
func TestSendBuilds(t *testing.T) {
	home(t)
	f := newFake(t)
	cli(t, "send", "bob", "1.5", "-y", "--wait", "none", "--memo", "lunch").want(t, 0, "lunch")
	tx := f.sent(t, 1)
	if tx.Nonce != 7 || tx.ValidUntil != 1100 || tx.Outputs[0].Amount != 3*chain.Knots/2 || string(tx.Memo) != "lunch" || tx.Fee != f.g.MinFee(tx.Size()) {
		t.Errorf("handed in %+v", tx)
	}
	if _, errs := f.g.CheckTxs(f.raws[:1], nil); errs[0] != nil {
		t.Errorf("what was handed in is invalid: %v", errs[0])
	}
	cli(t, "send", chain.EncodeAddress(f.g.Prefix, stranger.Account), "0.00000001", "-y", "--wait", "none", "--valid-for", "0", "--nonce", "3").want(t, 0,
		"0.00001 of it because this recipient has no account yet")
	tx = f.sent(t, 2)
	if tx.Nonce != 3 || tx.ValidUntil != 0 || tx.Outputs[0].To != stranger.Account || tx.Fee != f.g.MinFee(tx.Size())+f.g.AccountPrice {
		t.Errorf("to a new account: %+v", tx)
	}
	if r := cli(t, "send", "bob", "1", "-y", "--wait", "none", "--fee", "0.001").want(t, 0); strings.Contains(r.err, "no account") {
		t.Error(r.err)
	}
	if tx = f.sent(t, 3); tx.Fee != chain.Knots/1000 {
		t.Errorf("fee %d", tx.Fee)
	}
}

// TestSendStopsBefore: nothing is handed in, and no txid is printed.
func TestSendStopsBefore(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
		err  string
	}{
		{"funds", []string{"bob", "10", "-y"}, exitFunds, "wallet alice has 10 QPU"},
		{"more than any supply", []string{"bob", "92233720368.54775808", "-y"}, exitUsage, "more than any supply"},
		{"nobody to ask", []string{"bob", "1"}, exitUsage, "add -y"},
		{"--no-input", []string{"bob", "1", "--no-input"}, exitUsage, "add -y"},
		{"no such name", []string{"zoe", "1", "-y"}, exitNotFound, `"zoe" is neither an address`},
		{"broken address", []string{"tqp1pxyz", "1", "-y"}, exitUsage, "address"},
		{"another network's address", []string{"qp1p" + strings.Repeat("q", 58), "1", "-y"}, exitUsage, "address"},
		{"no such wallet", []string{"bob", "1", "-y", "--wallet", "zoe"}, exitNotFound, "there is no wallet zoe"},
		{"bad wallet name", []string{"bob", "1", "-y", "--wallet", "../zoe"}, exitUsage, "not a wallet name"},
		{"amount", []string{"bob", "1,5", "-y"}, exitUsage, "not an amount"},
		{"zero", []string{"bob", "0", "-y"}, exitUsage, "amount of 0"},
		{"fee too low", []string{"bob", "1", "-y", "--fee", "0.00000001"}, exitUsage, "at least"},
		{"fee of 0", []string{"bob", "1", "-y", "--fee", "0"}, exitUsage, "--fee 0"},
		{"memo too long", []string{"bob", "1", "-y", "--memo", strings.Repeat("x", 81)}, exitUsage, "81 bytes"},
		{"wait", []string{"bob", "1", "-y", "--wait", "sure"}, exitUsage, "none, verified, included, confirmed"},
		{"nonce", []string{"bob", "1", "-y", "--nonce", "-1"}, exitUsage, "no whole number"},
		{"timeout", []string{"bob", "1", "-y", "--timeout", "0s"}, exitUsage, "--timeout"},
		{"confirmations", []string{"bob", "1", "-y", "--confirmations", "0"}, exitUsage, "at least 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home(t)
			f := newFake(t)
			r := cli(t, append([]string{"send"}, c.args...)...).want(t, c.code, c.err)
			if r.out != "" || f.submits() != 0 {
				t.Errorf("out %q, %d handed in", r.out, f.submits())
			}
		})
	}
}

func TestSendDryRun(t *testing.T) {
	home(t)
	f := newFake(t)
	if r := cli(t, "send", "bob", "1", "-n").want(t, 0, "nothing was sent"); r.out != "" {
		t.Errorf("out %q", r.out)
	}
	var doc sendDoc
	if r := cli(t, "send", "bob", "1", "-n", "--json").want(t, 0); json.Unmarshal([]byte(r.out), &doc) != nil || doc.Outcome != "dry_run" {
		t.Errorf("%s", r.out)
	}
	if f.submits() != 0 {
		t.Error("a dry run handed something in")
	}
}

// TestSendUnreachable names the URL and where it came from, whichever of the three it is.
func TestSendUnreachable(t *testing.T) {
	home(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + ln.Addr().String()
	ln.Close()
	cli(t, "send", "bob", "1", "-y", "--rpc", gone).want(t, exitUnreachable, gone, "(from --rpc)", "try: quipu node run")
	t.Setenv("QUIPU_RPC", gone)
	cli(t, "send", "bob", "1", "-y").want(t, exitUnreachable, gone, "(from QUIPU_RPC)")
	cli(t, "status").want(t, exitUnreachable, gone)
	cli(t, "status", "--rpc", "no url").want(t, exitUnreachable, "no url")
	t.Setenv("QUIPU_RPC", "")
	before := discoverTestnet
	t.Cleanup(func() { discoverTestnet = before })
	discoverTestnet = func() (runningNet, bool) { return runningNet{Name: "demo-1", URL: gone}, true }
	cli(t, "send", "bob", "1", "-y").want(t, exitUnreachable, gone, "running test network demo-1")
}

// TestSendAnswerLost: the node takes the payment and its answer never arrives. The same bytes are handed in again.
func TestSendAnswerLost(t *testing.T) {
	home(t)
	f := newFake(t)
	f.submit = func(n int, id chain.TxID) (rpc.Submitted, error) {
		if n == 1 {
			return rpc.Submitted{}, rpc.Errorf(rpc.NameTimeout, "", "too slow")
		}
		return rpc.Submitted{TxID: id, State: rpc.TxPending, Known: true}, nil
	}
	f.status = func(int, chain.TxID) (rpc.TxStatus, error) { return included(1, 2), nil }
	r := cli(t, "send", "bob", "1", "-y").want(t, 0)
	f.wantTxID(t, r)
	if f.submits() != 2 || !bytes.Equal(f.raws[0], f.raws[1]) {
		t.Errorf("%d handed in, the same bytes: %v", f.submits(), bytes.Equal(f.raws[0], f.raws[f.submits()-1]))
	}
}

// TestSendForgotten: the node lost it, by a restart perhaps. The same bytes are handed in again.
func TestSendForgotten(t *testing.T) {
	home(t)
	f := newFake(t)
	before := resendAfter
	t.Cleanup(func() { resendAfter = before })
	resendAfter = 0
	f.status = func(int, chain.TxID) (rpc.TxStatus, error) {
		if f.submits() < 2 {
			return rpc.TxStatus{State: rpc.TxUnknown}, nil
		}
		return included(1, 2), nil
	}
	cli(t, "send", "bob", "1", "-y").want(t, 0)
	if f.submits() != 2 || !bytes.Equal(f.raws[0], f.raws[1]) {
		t.Errorf("%d handed in", f.submits())
	}
}

// TestSendHangs: a node that never answers costs the time that was given, not more.
func TestSendHangs(t *testing.T) {
	home(t)
	f := newFake(t)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	f.submit = func(int, chain.TxID) (rpc.Submitted, error) { <-hang; return rpc.Submitted{}, nil }
	r := cli(t, "send", "bob", "1", "-y", "--timeout", "300ms").want(t, exitUnknown, "outcome unknown")
	f.wantTxID(t, r)
}

func TestSendInterrupted(t *testing.T) {
	home(t)
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.status = func(int, chain.TxID) (rpc.TxStatus, error) { cancel(); return rpc.TxStatus{State: rpc.TxPending}, nil }
	r := cliCtx(t, ctx, "", "send", "bob", "1", "-y").want(t, exitInterrupted, "interrupted", "quipu tx watch")
	f.wantTxID(t, r)
}

// TestSendPassphrase: needed, wrong, from a file, from a descriptor, from standard input; and it is printed nowhere.
func TestSendPassphrase(t *testing.T) {
	dir := home(t)
	f := newFake(t)
	const secret = "correct horse battery"
	file := filepath.Join(dir, "pass")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(secret + "\n")
	run := func(code int, in string, args ...string) result {
		t.Helper()
		r := cliCtx(t, t.Context(), in, append([]string{"send", "bob", "1", "-y", "--wait", "none", "--wallet", "rich"}, args...)...)
		noSecret(t, r.want(t, code), secret)
		return r
	}
	sealed(t, f.g, "rich", secret)
	run(exitLocked, "")
	run(exitLocked, "", "--no-input", "--json")
	run(0, "", "--passphrase-file", file)
	run(0, secret+"\r\n", "--passphrase-file", "-")
	run(exitLocked, "wrong\n", "--passphrase-file", "-")
	run(exitLocked, "\n", "--passphrase-file", "-")
	run(exitLocked, "", "--passphrase-file", filepath.Join(dir, "none"))
	run(exitLocked, strings.Repeat("x", 2000), "--passphrase-file", "-")
	run(exitUsage, "", "--passphrase-file", "-", "--passphrase-fd", "3")
	t.Setenv("QUIPU_PASSPHRASE_FILE", file)
	run(0, "", "--json")
	n := f.submits()
	write("wrong\n")
	run(exitLocked, "")
	if n != 3 || f.submits() != n {
		t.Errorf("%d handed in, then %d", n, f.submits())
	}
	t.Setenv("QUIPU_PASSPHRASE_FILE", "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString(secret + "\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	run(0, "", "--passphrase-fd", itoa(int(r.Fd())))
}

// TestSendDefaults: which wallet pays when none is named.
func TestSendDefaults(t *testing.T) {
	home(t)
	newFake(t)
	t.Setenv("QUIPU_WALLET", "")
	cli(t, "send", "bob", "1", "-y", "--wait", "none").want(t, exitUsage, "there are 2 wallets", "alice, bob")
	dir, err := walletDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "bob.json")); err != nil {
		t.Fatal(err)
	}
	to := chain.EncodeAddress("tqp", stranger.Account)
	cli(t, "send", to, "1", "-y", "--wait", "none").want(t, 0, "alice → ")
	before := discoverTestnet
	t.Cleanup(func() { discoverTestnet = before })
	nets := filepath.Join(t.TempDir(), "wallets")
	discoverTestnet = func() (runningNet, bool) { return runningNet{Name: "x", Wallets: dir}, true }
	cli(t, "send", to, "1", "-y", "--wait", "none").want(t, 0, "alice → ")
	discoverTestnet = func() (runningNet, bool) { return runningNet{Name: "x", Wallets: nets}, true }
	cli(t, "send", to, "1", "-y", "--wait", "none").want(t, 0, "alice → ")
	if err := os.Remove(filepath.Join(dir, "alice.json")); err != nil {
		t.Fatal(err)
	}
	cli(t, "send", to, "1", "-y").want(t, exitNotFound, "there is no wallet for", "quipu wallet new")
}
