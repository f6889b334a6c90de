package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"quipu/chain"
	"quipu/chain/ledger"
	"quipu/rpc"
)

// TestAccountHistory: what is printed of each kind of entry, where the list goes on, and what a node without the index
// says.
func TestAccountHistory(t *testing.T) {
	home(t)
	f := newFake(t)
	cli(t, "account", "history", "bob").want(t, exitRejected, "keeps no history of accounts", "try: quipu node run --history")
	cli(t, "account", "history", "nobody").want(t, exitNotFound, "neither an address")

	one, spent, fee := rpc.Decimal(chain.Knots), rpc.Decimal(2*chain.Knots), rpc.Decimal(159)
	id, index := chain.TxID{0xab}, uint32(3)
	page := rpc.AccountHistory{
		Tip: rpc.BlockRef{Height: 9}, Indexed: 9, Next: "5:3",
		Entries: rpc.List[rpc.HistoryEntry]{
			{Kind: rpc.HistoryMined, Height: 9, Block: chain.BlockID{0xcd}, Confirmations: 1, Received: &one},
			{Kind: rpc.HistoryTx, Height: 8, TxID: &id, Index: &index, Received: &one, Spent: &spent, Fee: &fee, Confirmations: 2},
			{Kind: rpc.HistoryMined, Height: 6, Block: chain.BlockID{0xef}, Confirmations: 4},
			{Kind: rpc.HistoryTx, Height: 5, Index: &index, Pruned: true, Confirmations: 5},
		},
	}
	var asked rpc.AccountHistoryParams
	f.history = func(p rpc.AccountHistoryParams) (rpc.AccountHistory, error) { asked = p; return page, nil }
	r := cli(t, "account", "history", "bob", "--before", "10:4294967295", "--limit", "4").want(t, 0, "older ones: quipu account history bob --before 5:3 --limit 4")
	if asked.Max != 4 || asked.Before != "10:4294967295" {
		t.Errorf("asked for %+v", asked)
	}
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	for i, want := range []string{
		"BLOCK TIME IN OUT CONFIRMED WHAT",
		"9 1970-01-01T00:00:00.000Z 1 - 1 mined cd" + strings.Repeat("0", 62),
		"8 1970-01-01T00:00:00.000Z 1 2 2 ab" + strings.Repeat("0", 62),
		"6 1970-01-01T00:00:00.000Z ? - 4 mined ef" + strings.Repeat("0", 62),
		"5 1970-01-01T00:00:00.000Z ? ? 5 transaction 3, whose contents this node doesn't keep",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d: %q, want %q", i, got, want)
		}
	}
	var doc historyDoc
	r = cli(t, "account", "history", "bob", "--json").want(t, 0)
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || len(doc.Entries) != 4 || doc.Next != "5:3" || asked.Max != 20 {
		t.Errorf("%v: %s", err, r.out)
	}
	page = rpc.AccountHistory{Indexed: 70, Tip: rpc.BlockRef{Height: 900}}
	cli(t, "account", "history", "bob").want(t, 0, "nothing up to block 70", "blocks 71 to 900 aren't listed yet")
}

// TestHistoryOfANode: a real node lists what was mined, and the tools know the index.
func TestHistoryOfANode(t *testing.T) {
	dir := home(t)
	genesis, g := easyNetwork(t, dir, "easy")
	data := filepath.Join(dir, "node")
	cli(t, "wallet", "new", "alice", "--genesis", genesis, "--no-passphrase").want(t, 0)
	p := startNode(t, "--data-dir", data, "--genesis", genesis, "--mine", "--mine-rate", "20", "--miner", "alice", "--history")
	node := &rpc.Client{URL: p.url}
	waitFor(t, "three blocks", func() bool {
		h, err := node.ChainHead(context.Background())
		return err == nil && h.Header.Height >= 3
	})
	var first, rest historyDoc
	for doc, before := range map[*historyDoc]string{&first: "", &rest: "3:4294967295"} {
		args := []string{"account", "history", "alice", "--rpc", p.url, "--limit", "2", "--json"}
		if before != "" {
			args = append(args, "--before", before)
		}
		if err := json.Unmarshal([]byte(cli(t, args...).want(t, 0).out), doc); err != nil {
			t.Fatal(err)
		}
	}
	if len(first.Entries) != 2 || first.Next == "" || len(rest.Entries) != 2 || rest.Entries[0].Height != 2 || rest.Next != "" || rest.Entries[1].Kind != rpc.HistoryMined {
		t.Fatalf("%+v\n%+v", first, rest)
	}
	if r := cli(t, "status", "--rpc", p.url).want(t, 0); !strings.Contains(r.out, "accounts' histories up to block ") {
		t.Error(r.out)
	}
	_ = p.cmd.Process.Kill()
	_, _ = p.cmd.Process.Wait()

	l, err := ledger.Open(ledger.Config{Dir: filepath.Join(data, "chain"), Genesis: g, History: true})
	if err == nil {
		_, err = l.IndexHistory(true)
	}
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("history       of accounts, up to block %d\n", l.Tip().Header.Height)
	l.Close()
	for _, verb := range []string{"info", "verify", "reindex", "verify", "info"} {
		if r := cli(t, "chain", verb, "--data-dir", data).want(t, 0); verb == "info" && !strings.Contains(r.out, want) {
			t.Errorf("want %s\n%s", want, r.out)
		}
	}
}
