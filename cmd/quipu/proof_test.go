package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quipu/chain"
	"quipu/rpc"
)

// checkProofs is what a running node proves, and that a verifier without a node takes it as it is and in no other way.
func checkProofs(t *testing.T, dir string, p *process, genesis, bob, txid string) {
	t.Helper()
	file := filepath.Join(dir, "proof.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(header string) result {
		return cli(t, "proof", "verify", file, "--genesis", genesis, "--header", header, "--rpc", "http://127.0.0.1:1")
	}

	account := cli(t, "account", "proof", "bob").want(t, 0, "holds for whoever knows block").out
	var doc accountProofDoc
	if err := json.Unmarshal([]byte(account), &doc); err != nil {
		t.Fatal(err)
	}
	write(account)
	if r := verify(doc.Anchor.ID.String()).want(t, 0, "if block "+doc.Anchor.ID.String()); !strings.Contains(r.out, bob) || !strings.Contains(r.out, "balance      2 QPU") {
		t.Errorf("account:\n%s", r.out)
	}
	cli(t, "proof", "verify", file, "--genesis", genesis).want(t, exitUsage, "--header "+doc.Anchor.ID.String())
	cli(t, "proof", "verify", file, "--header", doc.Anchor.ID.String()).want(t, exitUsage, "add --genesis FILE")
	verify("12").want(t, exitUsage, "--header")
	verify(strings.Repeat("ab", 32)).want(t, exitCheck, "neither of which is")

	tx := cli(t, "tx", "proof", txid).want(t, 0).out
	var paid txProofDoc
	if err := json.Unmarshal([]byte(tx), &paid); err != nil || len(paid.Block.Path) == 0 {
		t.Fatalf("%v\n%s", err, tx)
	}
	write(tx)
	if r := verify(paid.Anchor.ID.String()).want(t, 0); !strings.Contains(r.out, txid) || !strings.Contains(r.out, paid.Block.ID.String()) {
		t.Errorf("transaction:\n%s", r.out)
	}
	verify(paid.Block.ID.String()).want(t, 0)
	r := cli(t, "tx", "proof", txid, "--under", paid.Block.ID.String()).want(t, 0)
	write(r.out)
	verify(paid.Block.ID.String()).want(t, 0)
	cli(t, "tx", "proof", txid, "--under", strings.Repeat("ab", 32)).want(t, exitNotFound)
	cli(t, "tx", "proof", strings.Repeat("ab", 32)).want(t, exitNotFound)

	// One value changed at a time: each is refused, or it isn't a proof any more.
	for _, d := range []struct{ text, anchor string }{{account, doc.Anchor.ID.String()}, {tx, paid.Anchor.ID.String()}} {
		changed := 0
		for _, text := range mutations(t, d.text) {
			write(text)
			if r := verify(d.anchor); r.code != exitCheck && r.code != exitUsage || r.out != "" {
				t.Errorf("exit %d with\n%s\nout: %s\nerr: %s", r.code, text, r.out, r.err)
			}
			changed++
		}
		if changed < 12 {
			t.Errorf("only %d values in\n%s", changed, d.text)
		}
	}

	status, err := (&rpc.Client{URL: p.url}).NodeStatus(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	peer := status.Listen[0]
	light := []string{"account", "balance", bob, "--light", "--genesis", genesis, "--peer", peer, "--rpc", "http://127.0.0.1:1"}
	if r := cli(t, light...).want(t, 0, "verified against", "agreed by 1 of 1 peers"); r.out != "2\n" {
		t.Errorf("bob has %q", r.out)
	}
	var l lightDoc
	if r := cli(t, append(light, "--json")...).want(t, 0); json.Unmarshal([]byte(r.out), &l) != nil || l.Balance != 2*chain.Knots || l.Headers < 2 || l.Agreed != 1 {
		t.Errorf("--light --json:\n%s", r.out)
	}
	gone := strings.Replace(peer, "/tcp/", "/tcp/1", 1)[:strings.Index(peer, "/tcp/")] + "/tcp/1/p2p/" + status.PeerID
	cli(t, "account", "balance", bob, "--light", "--genesis", genesis, "--peer", gone).want(t, exitUnreachable, "no peer answers as it should")
	if r := cli(t, "account", "balance", "bob").want(t, 0, "as the node says"); r.out != "2\n" {
		t.Errorf("bob has %q", r.out)
	}
}

// mutations are documents that differ from a JSON document in one value.
func mutations(t *testing.T, text string) (out []string) {
	t.Helper()
	var doc any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	emit := func() {
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	var walk func(v any, set func(any))
	walk = func(v any, set func(any)) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				walk(value, func(x any) { v[key] = x })
			}
		case []any:
			for i, value := range v {
				walk(value, func(x any) { v[i] = x })
			}
			set(append([]any{}, append(v, strings.Repeat("ab", 32))...))
			emit()
			set(v)
		case string:
			b := []byte(v)
			last := len(b) - 1
			if b[last] != '0' {
				b[last] = '0'
			} else {
				b[last] = '1'
			}
			set(string(b))
			emit()
			set(v)
		case json.Number:
			set(json.Number("7" + v.String()))
			emit()
			set(v)
		case bool:
			set(!v)
			emit()
			set(v)
		}
	}
	walk(doc, func(any) {})
	return out
}

// TestProofVerifyRefuses: files that are no proof.
func TestProofVerifyRefuses(t *testing.T) {
	dir := home(t)
	file := filepath.Join(dir, "f")
	for text, want := range map[string]string{
		"": "no proof", "[]": "no proof", `{"schema":"quipu.balance/v1"}`: `"quipu.balance/v1"`,
		`{"schema":"quipu.tx-proof/v1"}`: "of network 00000000",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cli(t, "proof", "verify", file, "--header", strings.Repeat("ab", 32)).want(t, exitUsage, want)
	}
	cli(t, "proof", "verify", filepath.Join(dir, "none")).want(t, exitNotFound)
}
