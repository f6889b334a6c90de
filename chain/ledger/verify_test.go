package ledger

import (
	"bytes"
	"context"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
	"quipu/chain/statetree"
)

// verifiable is a closed ledger on disk with a reorg behind it.
//
// genesis -> a1 -> a2 -> a3
//
//	\-> b1 -> b2 -> b3 -> b4
func verifiable(t *testing.T) *scene {
	s := newScene(t, onDisk(t))
	s.add(s.chain("genesis", "a", 3)...)
	s.add(s.chain("genesis", "b", 4)...)
	s.tip("b4")
	s.l.Close()
	return s
}

func TestVerify(t *testing.T) {
	s := verifiable(t)
	calls := 0
	for _, from := range []uint64{0, 1, 3, 100} {
		r, err := Verify(t.Context(), s.cfg, from, func(done, total uint64) {
			calls++
			if done != 4 || total != 4 {
				t.Errorf("progress %d of %d", done, total)
			}
		})
		start, want := max(from, 1), min(4, 4-max(from, 1)+1)
		if from > 4 { // above the tip: all is replayed, without signatures
			start, want = 1, 0
		}
		if err != nil || r.Height != 4 || r.Tip != s.Get("b4").ID() || r.From != start || r.Txs != 4-start+1 || r.Signatures != want || r.Accounts != 3 ||
			r.Issued != 4*s.G.Subsidy || r.StateRoot != s.Get("b4").Header.StateRoot || r.Network != s.G.NetworkID() {
			t.Fatalf("from %d: %+v %v", from, r, err)
		}
	}
	if calls != 4 {
		t.Errorf("%d calls of progress", calls)
	}
	without := s.cfg
	without.Genesis = nil
	if _, err := Verify(t.Context(), without, 0, nil); err != nil {
		t.Fatalf("without a genesis: %v", err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Verify(stopped, s.cfg, 0, nil)
	wantErr(t, err, context.Canceled)
	s.open()
	s.tip("b4")
}

// inTop changes the slot of an account in the page at the top of the tree, which takes in small ones whole.
func inTop(t *testing.T, txn *badger.Txn, a chain.Account, change func(slot []byte)) error {
	key := pageRecord(statetree.PageKey{})
	v, err := get(txn, key)
	at := bytes.Index(v, a[:])
	if err != nil || at < 1 {
		t.Fatalf("no account %s in the top page (%v)", a, err)
	}
	change(v[at-1:])
	return txn.Set(key, v)
}

// Each row damages one record; Verify names it. opens says whether Open notices too.
func TestVerifyDetects(t *testing.T) {
	flip := func(txn *badger.Txn, key []byte, at int) error {
		v, err := get(txn, key)
		if err != nil || len(v) <= at {
			t.Fatalf("no byte %d in record %x (%v)", at, key, err)
		}
		v[at] ^= 1
		return txn.Set(key, v)
	}
	s := verifiable(t)
	whole := s.cfg.Dir
	for _, c := range []struct {
		name   string
		damage func(s *scene, txn *badger.Txn) error
		says   string
		opens  bool
	}{
		{"balance", func(s *scene, txn *badger.Txn) error {
			return inTop(t, txn, s.bob.Account, func(slot []byte) { slot[1+32+2] ^= 1 })
		}, "account ", false},
		{"nonce", func(s *scene, txn *badger.Txn) error {
			return inTop(t, txn, s.alice.Account, func(slot []byte) { slot[1+40] ^= 1 })
		}, "account ", false},
		{"another account", func(s *scene, txn *badger.Txn) error {
			return inTop(t, txn, s.bob.Account, func(slot []byte) { slot[1] ^= 1 })
		}, "pages", false},
		{"cut page", func(s *scene, txn *badger.Txn) error {
			v, err := get(txn, pageRecord(statetree.PageKey{}))
			if err != nil {
				return err
			}
			return txn.Set(pageRecord(statetree.PageKey{}), v[:len(v)-1])
		}, "pages", false},
		{"missing pages", func(s *scene, txn *badger.Txn) error { return txn.Delete(pageRecord(statetree.PageKey{})) }, "account ", false},
		{"body byte", func(s *scene, txn *badger.Txn) error {
			return flip(txn, pieceKey(idKey(keyBody, s.Get("b2").ID()), 0), 100)
		}, "block 2", true},
		{"missing body", func(s *scene, txn *badger.Txn) error {
			return txn.Delete(pieceKey(idKey(keyBody, s.Get("b3").ID()), 0))
		}, "body of block 3", true},
		{"header byte", func(s *scene, txn *badger.Txn) error { return flip(txn, idKey(keyHeader, s.Get("b3").ID()), 130) }, "header 3", true},
		{"header peak", func(s *scene, txn *badger.Txn) error { return flip(txn, idKey(keyHeader, s.Get("b3").ID()), 260) }, "header 3", true},
		{"missing header", func(s *scene, txn *badger.Txn) error { return txn.Delete(idKey(keyHeader, s.Get("b3").ID())) }, "parent of header", false},
		{"main index", func(s *scene, txn *badger.Txn) error { return txn.Delete(heightKey(keyMain, 2)) }, "main index", true},
		{"undo", func(s *scene, txn *badger.Txn) error { return flip(txn, pieceKey(heightKey(keyUndo, 4), 0), 90) }, "undo of block 4", true},
		{"missing undo", func(s *scene, txn *badger.Txn) error { return txn.Delete(pieceKey(heightKey(keyUndo, 1), 0)) }, "undo of block 1", true},
		{"transaction index", func(s *scene, txn *badger.Txn) error {
			return flip(txn, idKey(keyTx, s.Get("b1").Checked.Txs()[0].ID()), 0)
		}, "isn't in the index", true},
		{"supply", func(s *scene, txn *badger.Txn) error { return flip(txn, metaTip, 40) }, "tip record", true},
		{"tip", func(s *scene, txn *badger.Txn) error { return flip(txn, metaTip, 0) }, "tip", false},
		{"missing tip", func(s *scene, txn *badger.Txn) error { return txn.Delete(metaTip) }, "", true}, // as after an interrupted first start
		{"body mark", func(s *scene, txn *badger.Txn) error { return txn.Delete(idKey(keySeq, s.Get("b2").ID())) }, "no complete chain", false},
		{"genesis", func(s *scene, txn *badger.Txn) error { return flip(txn, pieceKey(metaGenesis, 0), 0) }, "genesis", false},
	} {
		s.cfg.Dir = copyDir(t, whole)
		s.tamper(func(txn *badger.Txn) error { return c.damage(s, txn) })
		_, err := Verify(t.Context(), s.cfg, 0, nil)
		if c.name == "missing tip" {
			wantErr(t, err, ErrNoLedger)
			continue
		}
		wantErr(t, err, ErrCorrupt, c.says)
		t.Logf("%s: %v", c.name, err)
		l, err := Open(s.cfg)
		if c.opens != (err == nil) {
			t.Errorf("%s: Open says %v", c.name, err)
		}
		if err == nil {
			l.Close()
		} else {
			wantErr(t, err, ErrCorrupt)
		}
	}
}

// From a height on, by undo: what is before isn't looked at, but for headers; what leads there is.
func TestVerifyFrom(t *testing.T) {
	s := verifiable(t)
	whole := s.cfg.Dir
	for _, c := range []struct {
		name   string
		damage func(txn *badger.Txn) error
		says   string // of from 3; "" is fine
	}{
		{"nothing", func(txn *badger.Txn) error { return nil }, ""},
		{"body before", func(txn *badger.Txn) error { return txn.Delete(pieceKey(idKey(keyBody, s.Get("b1").ID()), 0)) }, ""},
		{"undo before", func(txn *badger.Txn) error { return txn.Delete(pieceKey(heightKey(keyUndo, 1), 0)) }, ""},
		{"main index before", func(txn *badger.Txn) error { return txn.Delete(heightKey(keyMain, 1)) }, "main index doesn't name block 1"},
		{"undo", func(txn *badger.Txn) error { return txn.Delete(pieceKey(heightKey(keyUndo, 3), 0)) }, "undo of block 3 is missing"},
		{"other undo", func(txn *badger.Txn) error {
			b, err := getUndo(txn, 4, s.G.BodyLimit)
			if err != nil {
				return err
			}
			b[len(b)-1] ^= 1
			return putRecord(txn.Set, heightKey(keyUndo, 4), b)
		}, "undo of block 4"},
		{"body", func(txn *badger.Txn) error { return txn.Delete(pieceKey(idKey(keyBody, s.Get("b3").ID()), 0)) }, "body of block 3"},
	} {
		s.cfg.Dir = copyDir(t, whole)
		s.tamper(c.damage)
		r, err := Verify(t.Context(), s.cfg, 3, nil)
		if c.says != "" {
			wantErr(t, err, ErrCorrupt, c.says)
		} else if err != nil || r.From != 3 || r.Txs != 2 || r.Signatures != 2 || r.Height != 4 {
			t.Errorf("%s: %+v %v", c.name, r, err)
		}
	}
}

// Records our own disk changed don't make a valid block invalid.
//
// genesis -> a1 -> a2
//
//	\-> b1 -> b2 -> b3
func TestDamagedBodyIsNotTheBlocksFault(t *testing.T) {
	for _, at := range []int{5, 40, 60, 90} { // sender, nonce, recipient, amount
		s := newScene(t, onDisk(t))
		s.add(s.chain("genesis", "a", 2)...)
		s.chain("genesis", "b", 3)
		s.headers("b1", "b2", "b3")
		s.bodies("b2")
		s.tamper(func(txn *badger.Txn) error {
			key := pieceKey(idKey(keyBody, s.Get("b2").ID()), 0)
			v, _ := get(txn, key)
			v[at] ^= 1
			return txn.Set(key, v)
		})
		s.open()
		_, err := s.l.Add([]chain.CheckedBlock{s.Get("b1").Checked, s.Get("b3").Checked})
		wantErr(t, err, ErrCorrupt, "block 2")
		if s.l.Info(s.Get("b2").ID()).Invalid {
			t.Fatal("the block is called invalid")
		}
		s.tip("b1") // on disk and in memory; a2 is heavier and comes back at the next start
		s.l.Close()
	}
}

func TestExport(t *testing.T) {
	s := verifiable(t)
	var file bytes.Buffer
	if err := Export(t.Context(), s.cfg, &file, nil); err != nil {
		t.Fatal(err)
	}
	want := append([]byte("quipu-chain/1\n"), le.AppendUint32(nil, uint32(len(s.G.Append(nil))))...)
	want = s.G.Append(want)
	for _, name := range []string{"b1", "b2", "b3", "b4"} {
		b := s.Get(name)
		want = append(b.Header.Append(want), b.Body...)
	}
	if !bytes.Equal(file.Bytes(), want) {
		t.Fatalf("the export has %d bytes, want these %d", file.Len(), len(want))
	}
	g, blocks, err := ReadExport(bytes.NewReader(want))
	if err != nil || g.NetworkID() != s.G.NetworkID() {
		t.Fatalf("genesis: %v", err)
	}
	l, err := Open(Config{Genesis: g})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for b, err := range blocks {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.AddHeaders([]chain.Header{b.Header}); err != nil {
			t.Fatal(err)
		}
		checked, errs := g.CheckBlocks([]chain.Block{b}, nil)
		if errs[0] != nil {
			t.Fatal(errs[0])
		}
		if _, err := l.Add(checked); err != nil {
			t.Fatal(err)
		}
	}
	if l.Tip().ID != s.Get("b4").ID() {
		t.Fatal("the import ends elsewhere")
	}
}

func TestReadExportRefuses(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.chain("genesis", "a", 2)...)
	var file bytes.Buffer
	if err := s.l.Export(t.Context(), &file, nil); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	head := len(exportMagic) + 4 + len(s.G.Append(nil))
	second := head + chain.HeaderSize + len(s.Get("a1").Body)
	read := func(b []byte) (n int, err error) {
		_, blocks, err := ReadExport(bytes.NewReader(b))
		if err != nil {
			return 0, err
		}
		for _, err := range blocks {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	ends := map[int]int{head: 0, second: 1, len(whole): 2} // where an export may end
	for n := range len(whole) + 1 {
		got, err := read(whole[:n])
		if want, clean := ends[n]; clean {
			if err != nil || got != want {
				t.Fatalf("%d bytes: %d blocks and %v", n, got, err)
			}
			continue
		}
		wantErr(t, err, ErrExport)
	}
	edit := func(at int, v byte) []byte {
		b := bytes.Clone(whole)
		b[at] = v
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		says string
	}{
		"empty":          {nil, "shorter than its head"},
		"other file":     {bytes.Repeat([]byte("x"), 1000), "doesn't begin"},
		"other version":  {edit(12, '2'), "doesn't begin"},
		"huge genesis":   {edit(len(exportMagic)+3, 0xff), "genesis of"},
		"wrong genesis":  {edit(len(exportMagic)+4, 9), "genesis is refused"},
		"wrong height":   {edit(head+4, 7), "header 1 doesn't continue"},
		"wrong parent":   {edit(second+12, whole[second+12]^1), "header 2 doesn't continue"},
		"huge body":      {edit(head+187, 0xff), "body of"},
		"cut body":       {whole[:second-1], "body of block 1"},
		"trailing bytes": {append(bytes.Clone(whole), 1, 2, 3), "header 3"},
	} {
		_, err := read(c.b)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantErr(t, err, ErrExport, c.says)
	}
}

func TestExportToAFullDisk(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.chain("genesis", "a", 2)...)
	wantErr(t, s.l.Export(t.Context(), full{}, nil), errFull)
}

var errFull = chain.ErrUpgrade // any error

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
