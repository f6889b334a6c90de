package ledger

import (
	"context"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain/statetree"
)

// Each row damages what is derived; afterwards the ledger is again what its headers and bodies give.
func TestReindex(t *testing.T) {
	t.Parallel() // it waits for the disk
	whole := stopped(t)
	dir := whole.cfg.Dir
	drop := func(kinds ...byte) func(*scene, *badger.Txn) error {
		return func(s *scene, txn *badger.Txn) error {
			for _, kind := range kinds {
				var keys [][]byte
				err := each(txn, kind, func(k, _ []byte) error {
					keys = append(keys, append([]byte{kind}, k...))
					return nil
				})
				if err != nil {
					return err
				}
				for _, k := range keys {
					if err := txn.Delete(k); err != nil {
						return err
					}
				}
			}
			return nil
		}
	}
	spoil := func(key []byte, value ...byte) func(*scene, *badger.Txn) error {
		return func(_ *scene, txn *badger.Txn) error { return txn.Set(key, value) }
	}
	for name, damage := range map[string]func(*scene, *badger.Txn) error{
		"nothing":           func(*scene, *badger.Txn) error { return nil },
		"main index":        drop(keyMain),
		"transaction index": drop(keyTx),
		"undo":              drop(keyUndo),
		"accounts":          drop(keyPage, keyJournal),
		"all that goes":     drop(derived...),
		"tip":               spoil(metaTip, 1, 2, 3),
		"no tip":            func(_ *scene, txn *badger.Txn) error { return txn.Delete(metaTip) },
		"top page":          spoil(pageRecord(statetree.PageKey{}), 2, 0, 0),
		"schema 2": func(s *scene, txn *badger.Txn) error { // accounts in records of their own, a shorter tip
			v, err := get(txn, metaTip)
			if err == nil {
				err = txn.Set(metaTip, v[:64])
			}
			if err == nil {
				err = txn.Set(metaSchema, le.AppendUint32(nil, 2))
			}
			if err == nil {
				err = txn.Set(idKey('a', s.bob.Account), make([]byte, 16))
			}
			if err == nil {
				err = txn.Delete(pageRecord(statetree.PageKey{}))
			}
			return err
		},
		"journal":          spoil(pieceKey(journalKey(2), 0), 1, 2, 3),
		"journal's record": spoil(metaJournal, 7),
		"tail of journal":  spoil(pieceKey(journalKey(999), 0), make([]byte, 48)...),
		"interrupted":      spoil(metaReindex, 1),
	} {
		s := *whole
		s.t = t
		s.cfg.Dir = copyDir(t, dir)
		s.tamper(func(txn *badger.Txn) error { return damage(&s, txn) })
		cfg := s.cfg
		cfg.Genesis = nil
		last := ""
		r, err := Reindex(t.Context(), cfg, func(stage string, done, total uint64) {
			if last = stage; done > total {
				t.Errorf("%s: %s %d of %d", name, stage, done, total)
			}
		})
		if err != nil || r.Tip != s.Get("a6").ID() || r.Height != 6 || r.Headers != 9 || r.Bodies != 8 || r.Forgotten != 0 || last != "applying" {
			t.Fatalf("%s: %+v %v", name, r, err)
		}
		s.verify("a6")
		s.open()
		s.tip("a6")
		s.SetTip("b2")
		s.l.Close()
	}
}

// A body that isn't whole is forgotten and comes again from the network; a header that isn't ends it, with nothing
// changed.
func TestReindexOfDamagedSources(t *testing.T) {
	t.Parallel() // it waits for the disk
	s := stopped(t)
	flip := func(key []byte, at int) {
		s.tamper(func(txn *badger.Txn) error {
			v, err := get(txn, key)
			if err != nil {
				return err
			}
			v[at] ^= 1
			return txn.Set(key, v)
		})
	}
	flip(pieceKey(idKey(keyBody, s.Get("a4").ID()), 0), 120)
	r, err := Reindex(t.Context(), s.cfg, nil)
	if err != nil || r.Forgotten != 1 || r.Bodies != 7 || r.Tip != s.Get("b2").ID() {
		t.Fatalf("%+v at %s, %v", r, s.name(r.Tip), err)
	}
	s.verify("b2")
	s.open()
	if got := s.wants(1 << 20); len(got) != 1 || got[0] != "a4" {
		t.Fatalf("wanted: %v", got)
	}
	s.bodies("a4")
	s.tip("a6")
	s.l.Close()

	flip(idKey(keyHeader, s.Get("b1").ID()), 130)
	_, err = Reindex(t.Context(), s.cfg, nil)
	wantErr(t, err, ErrCorrupt, "header 4")
	s.verify("a6")
}

// Interrupted at every moment that it looks, it is either whole or says what to do, and ends well when run again.
func TestReindexInterrupted(t *testing.T) {
	t.Parallel() // it waits for the disk
	whole := stopped(t)
	dir := whole.cfg.Dir
	for n := 0; n < 16; n += 3 {
		s := *whole
		s.cfg.Dir = copyDir(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		looks := 0
		_, err := Reindex(ctx, s.cfg, func(string, uint64, uint64) {
			if looks++; looks > n {
				cancel()
			}
		})
		cancel()
		if err != nil {
			wantErr(t, err, context.Canceled)
			r, err := Verify(t.Context(), s.cfg, 0, nil)
			if err != nil || looks < 9 && r.Height != 6 {
				t.Fatalf("after %d looks: height %d, %v", looks, r.Height, err)
			}
		}
		s.open()
		s.tip("a6")
		s.l.Close()
	}
	s := *whole
	s.tamper(func(txn *badger.Txn) error { return txn.Set(metaReindex, []byte{1}) })
	_, err := Open(s.cfg)
	wantErr(t, err, ErrCorrupt, "chain reindex")
}
