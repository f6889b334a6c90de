package node

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// payments is a chain of n blocks, with a payment in each.
func payments(t *testing.T, n int) (*chain.Genesis, *chaintest.Gen, []chain.Block) {
	t.Helper()
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	var out []chain.Block
	for _, b := range gen.Chain("a", n, func(i int) []chain.Tx {
		return []chain.Tx{alice.Pay(g, uint64(i), 0, chaintest.To(bob, 1))}
	}) {
		out = append(out, b.Block)
	}
	return g, gen, out
}

func stream(blocks []chain.Block, end error) iter.Seq2[chain.Block, error] {
	return func(yield func(chain.Block, error) bool) {
		for _, b := range blocks {
			if !yield(b, nil) {
				return
			}
		}
		if end != nil {
			yield(chain.Block{}, end)
		}
	}
}

func offline(t *testing.T, dir string, g *chain.Genesis) *Node {
	t.Helper()
	n, err := Offline(Config{DataDir: dir, Genesis: g, TestNet: true})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// More blocks than one part holds, cut after 700, then all of them twice.
func TestImportStreamGoesOn(t *testing.T) {
	const blocks = partSize + 250
	g, gen, all := payments(t, blocks)
	dir := t.TempDir()
	end := errors.New("the file is cut here")
	n := offline(t, dir, g)
	done, err := n.ImportStream(t.Context(), stream(all[:700], end), nil)
	if !errors.Is(err, end) || done.Applied != 700 || done.Txs != 700 || done.Height != 700 {
		t.Fatalf("%+v, %v", done, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = offline(t, dir, g)
	defer n.Close()
	if h := n.Tip().Header.Height; h != 700 {
		t.Fatalf("after opening again the tip is at %d", h)
	}
	var told []Imported
	done, err = n.ImportStream(t.Context(), stream(all, nil), func(i Imported) { told = append(told, i) })
	if err != nil || done.Read != blocks || done.Known != 700 || done.Applied != blocks-700 || n.Tip().ID != gen.Tip().ID() {
		t.Fatalf("%+v, %v, tip at %d", done, err, n.Tip().Header.Height)
	}
	if len(told) == 0 || told[len(told)-1].Height != blocks {
		t.Errorf("progress: %+v", told)
	}
	if done, err = n.ImportStream(t.Context(), stream(all, nil), nil); err != nil || done.Known != blocks || done.Applied != 0 {
		t.Fatalf("a second time: %+v, %v", done, err)
	}
}

// Whatever is wrong with block 5, it is named, and blocks 1 to 4 stay.
func TestImportStreamNamesTheBlock(t *testing.T) {
	g, _, all := payments(t, 8)
	spoilt := chaintest.New(g)
	spoilt.Chain("a", 4, func(i int) []chain.Tx {
		return []chain.Tx{alice.Pay(g, uint64(i), 0, chaintest.To(bob, 1))}
	})
	bad := func(txs ...chain.Tx) chain.Block {
		return spoilt.SetTip("a4").Next(t.Name()+string(rune('a'+len(txs))), txs).Block
	}
	badSig := alice.Pay(g, 4, 0, chaintest.To(bob, 1))
	badSig.Signature[40] ^= 1
	wrongBody := chain.Block{Header: all[4].Header, Body: slices.Clone(all[4].Body)}
	wrongBody.Body[80] ^= 1
	wrongTime := all[4]
	wrongTime.Header.Time = 1
	for _, c := range []struct {
		name  string
		block chain.Block
		kind  chain.ErrorKind
	}{
		{"body", wrongBody, chain.ErrTxRoot},
		{"header", wrongTime, chain.ErrTimeOrder},
		{"signature", bad(badSig), chain.ErrSignature},
		{"nonce", bad(alice.Pay(g, 7, 0, chaintest.To(bob, 1)), alice.Pay(g, 9, 0, chaintest.To(bob, 1))), ""},
	} {
		n := offline(t, "", g)
		done, err := n.ImportStream(t.Context(), stream(append(slices.Clone(all[:4]), c.block, all[5]), nil), nil)
		var named *InvalidBlockError
		if !errors.As(err, &named) || named.Height != 5 || named.ID != c.block.Header.ID() {
			t.Errorf("%s: %v", c.name, err)
		} else if c.kind != "" && !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, want %v", c.name, err, c.kind)
		}
		if done.Applied != 4 || n.Tip().Header.Height != 4 {
			t.Errorf("%s: %+v, tip at %d", c.name, done, n.Tip().Header.Height)
		}
		n.Close()
	}
}

// An import that is told to stop ends with what it had taken, durable.
func TestImportStreamStops(t *testing.T) {
	g, _, all := payments(t, 3*partSize)
	n := offline(t, "", g)
	defer n.Close()
	ctx, stop := context.WithCancel(t.Context())
	done, err := n.ImportStream(ctx, stream(all, nil), func(Imported) { stop() })
	if !errors.Is(err, context.Canceled) || done.Height != n.Tip().Header.Height || done.Height < partSize || done.Height == 3*partSize {
		t.Errorf("%+v, %v, tip at %d", done, err, n.Tip().Header.Height)
	}
}

// Import of more than one part takes the same way as a stream, whatever the order.
func TestImportOfManyParts(t *testing.T) {
	g, gen, all := payments(t, 60)
	n := offline(t, "", g)
	defer n.Close()
	var headers []chain.Header
	for i := range all {
		headers = append(headers, all[i].Header)
	}
	if k, err := n.AddHeaders(headers); k != 60 || err != nil {
		t.Fatal(k, err)
	}
	slices.Reverse(all)
	if err := n.importIn(all, 7); err != nil {
		t.Fatal(err)
	}
	if n.Tip().ID != gen.Tip().ID() {
		t.Errorf("tip at %d", n.Tip().Header.Height)
	}
}

// genesis -> a1 … a200        here
//
//	\-> b1 … b260         in the file: more work, though it forks more than 144 blocks back
//	\-> c1 … c20          in another file: less work
func TestImportedBranchesAreJudgedByWorkAlone(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	gen := chaintest.New(g)
	branch := func(name string, n int, miner chaintest.Key) (out []chain.Block) {
		gen.Miner = miner.Account
		for _, b := range gen.SetTip("genesis").Chain(name, n, nil) {
			out = append(out, b.Block)
		}
		return out
	}
	n := offline(t, t.TempDir(), g)
	defer n.Close()
	for _, c := range []struct {
		name   string
		blocks []chain.Block
		height uint64
		beside bool
	}{
		{"a", branch("a", 200, alice), 200, false},
		{"c", branch("c", 20, carol), 200, true},
		{"b", branch("b", 260, bob), 260, false},
	} {
		done, err := n.ImportStream(t.Context(), stream(c.blocks, nil), nil)
		if err != nil || done.Beside != c.beside || n.Tip().Header.Height != c.height {
			t.Errorf("%s: %+v, tip at %d, %v", c.name, done, n.Tip().Header.Height, err)
		}
	}
}
