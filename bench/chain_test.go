package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"quipu/chain/ledger"
)

// The same seed gives the same bytes, another one others, and a node takes every block.
func TestChain(t *testing.T) {
	for _, c := range []Chain{
		{Blocks: 5, Txs: 40, Accounts: 30},
		{Blocks: 3, Txs: 10, Accounts: 100}, // only 30 of them ever send
		{Blocks: 2, Txs: 0, Accounts: 1},
	} {
		write := func(c Chain) []byte {
			var b bytes.Buffer
			if err := c.Write(t.Context(), &b, nil); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
		one := write(c)
		if !bytes.Equal(one, write(c)) {
			t.Errorf("%+v: two runs differ", c)
		}
		other := c
		other.Seed++
		if bytes.Equal(one, write(other)) {
			t.Errorf("%+v: two seeds give the same", c)
		}
		file := filepath.Join(t.TempDir(), "chain")
		if err := os.WriteFile(file, one, 0o600); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		r, err := RunImport(t.Context(), Run{File: file, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if want := uint64(c.Blocks * c.Txs); r.Blocks != uint64(c.Blocks) || r.Txs != want || r.Outputs != want || r.Accounts != c.Accounts {
			t.Errorf("%+v: %+v", c, r)
		}
		report, err := ledger.Verify(t.Context(), ledger.Config{Dir: filepath.Join(dir, "chain")}, 0, nil)
		if err != nil || report.Signatures != uint64(c.Blocks*c.Txs) {
			t.Errorf("%+v: verified %d signatures, %v", c, report.Signatures, err)
		}
		if _, err := RunImport(t.Context(), Run{File: file, Dir: dir}); err == nil {
			t.Error("a directory that isn't empty was taken")
		}
	}
}

// A hostile block is full, and every output makes an account.
func TestHostileChain(t *testing.T) {
	var b bytes.Buffer
	if err := (Chain{Blocks: 1, Accounts: 7, Hostile: true}).Write(t.Context(), &b, nil); err != nil {
		t.Fatal(err)
	}
	g, blocks, err := ledger.ReadExport(&b)
	if err != nil {
		t.Fatal(err)
	}
	for block, err := range blocks {
		if err != nil {
			t.Fatal(err)
		}
		if size := int(block.Header.BodySize); size > int(g.BodyLimit) || size+hostileSize <= int(g.BodyLimit) {
			t.Errorf("a body of %d bytes at a limit of %d", size, g.BodyLimit)
		}
	}
}

func TestChainBounds(t *testing.T) {
	for _, c := range []Chain{{}, {Blocks: 1}, {Blocks: -1, Accounts: 1}, {Blocks: 1, Accounts: ledger.MaxBalances + 1}, {Blocks: 1, Accounts: 1, Txs: 1 << 30}} {
		if c.Validate() == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestChoose(t *testing.T) {
	r := ImportResult{Runs: []Import{{TxPerS: 3, Blocks: 1}, {TxPerS: 1, Blocks: 2}, {TxPerS: 2, Blocks: 3}}}
	if r.Choose(); r.TxPerS != 2 || r.Blocks != 3 {
		t.Errorf("%+v", r.Import)
	}
}
