package p2p

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain/chaintest"
)

// A ban outlives the node with its reason and its end; one that has ended or was lifted doesn't, and a static peer's is
// not taken up again.
func TestBansOutliveARestart(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	file := filepath.Join(t.TempDir(), "bans.json")
	inWorld(t, func(w *world) {
		keep := func(s *Service) { s.cfg.BanFile = file; s.loadBans() }
		f := newFake(g)
		bad, short, pardoned, friend := w.host(), w.host(), w.host(), w.host()
		n := w.start(f, keep)
		long := fmt.Errorf("\x1b[31m%s", strings.Repeat("x", 2*maxBanText))
		n.charge(bad.ID(), HeaderWork, long)
		n.charge(short.ID(), Malformed, errors.New("short"))
		n.charge(pardoned.ID(), TxRule, nil)
		n.charge(friend.ID(), TxRule, nil)
		time.Sleep(1100 * time.Millisecond) // virtual
		if was, err := n.Pardon(pardoned.ID().String()); !was || err != nil {
			t.Errorf("pardon: %v, %v", was, err)
		}
		if was, err := n.Pardon(pardoned.ID().String()); was || err != nil {
			t.Errorf("second pardon: %v, %v", was, err)
		}
		if _, err := n.Pardon("nobody"); err == nil {
			t.Error("pardoned nobody")
		}
		n.cancel()
		time.Sleep(2 * time.Hour) // virtual
		m := w.start(f, func(s *Service) {
			info, _ := peer.AddrInfoFromString(addrOf(friend))
			s.addTarget(*info, true)
			keep(s)
		})
		bans := m.Bans()
		if len(bans) != 1 || bans[0].ID != bad.ID().String() || bans[0].Evidence != HeaderWork || bans[0].Until.Sub(bans[0].At) != 24*time.Hour {
			t.Fatalf("bans %+v", bans)
		}
		if d := bans[0].Detail; len(d) > maxBanText || strings.Contains(d, "\x1b") {
			t.Errorf("detail of %d bytes", len(d))
		}
		if err := m.host.Connect(w.Context(), peer.AddrInfo{ID: bad.ID(), Addrs: bad.Addrs()}); err == nil {
			t.Error("dialled a banned peer")
		}
	})
}

func TestBadBanFiles(t *testing.T) {
	const id = "12D3KooWGQmdpzHXCqLno4mMxWXKNFQHASBeF99gTm2JR8Vu5Bdc"
	one := `{"id":"` + id + `","evidence":"malformed","detail":"","at":"2026-01-01T00:00:00Z","until":"2026-01-01T01:00:00Z"}`
	file := func(bans string) string { return `{"schema":"quipu.banned/v1","bans":[` + bans + `]}` }
	if got, err := decodeBans([]byte(file(one))); err != nil || len(got) != 1 || got[0].ID != id || got[0].Evidence != Malformed {
		t.Fatalf("%+v, %v", got, err)
	}
	for what, text := range map[string]string{
		"empty":                  "",
		"cut":                    file(one)[:60],
		"bytes after":            file(one) + "x",
		"another schema":         strings.Replace(file(one), "/v1", "/v2", 1),
		"no peer id":             file(strings.Replace(one, id, "nobody", 1)),
		"ends before it began":   file(strings.Replace(one, "2026-01-01T01", "2025-01-01T01", 1)),
		"no time":                file(strings.Replace(one, "2026-01-01T01:00:00Z", "soon", 1)),
		"one ban too many":       file(strings.Repeat(one+",", maxBans) + one),
		"longer than it may be":  strings.Repeat(" ", maxBanFile) + file(one),
		"a list and not a table": "[]",
	} {
		if got, err := decodeBans([]byte(text)); err == nil {
			t.Errorf("%s: %d bans taken", what, len(got))
		}
	}
	// A node with a file like that says so and runs without.
	name := filepath.Join(t.TempDir(), "bans.json")
	if err := os.WriteFile(name, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	inWorld(t, func(w *world) {
		f := newFake(chaintest.Genesis(nil, alice))
		n := w.start(f, func(s *Service) { s.cfg.BanFile = name; s.loadBans() })
		if len(n.Bans()) != 0 || !strings.Contains(f.log.String(), name) {
			t.Errorf("bans %+v, log %q", n.Bans(), f.log.String())
		}
	})
}

func FuzzBans(f *testing.F) {
	f.Add([]byte(`{"schema":"quipu.banned/v1","bans":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := decodeBans(raw)
		if err != nil && got != nil || len(got) > maxBans {
			t.Errorf("%d bans, %v", len(got), err)
		}
	})
}
