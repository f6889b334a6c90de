package p2p

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"quipu/chain"
)

var bookTime = time.Unix(1_700_000_000, 0)

func maddr(t testing.TB, s string) ma.Multiaddr {
	t.Helper()
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// simAddr is address number n of a group: /ip4/hi.lo.n.n/tcp/4820.
func simAddr(grp, n int) ma.Multiaddr {
	a, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/%d.%d.%d.%d/tcp/4820", 20+grp/256, grp%256, n/256, n%256))
	if err != nil {
		panic(err)
	}
	return a
}

func simGroup(grp int) group { return group(fmt.Sprintf("%d.%d.0.0/16", 20+grp/256, grp%256)) }

func TestWhichAddressesTheBookTakes(t *testing.T) {
	for s, want := range map[string]group{
		"/ip4/203.0.113.7/tcp/4820":                   "203.0.0.0/16",
		"/ip4/203.0.113.7/udp/4820/quic-v1":           "203.0.0.0/16",
		"/ip6/2001:db8:1:2::3/tcp/4820":               "2001:db8::/32",
		"/ip6/::ffff:203.0.113.7/tcp/4820":            "203.0.0.0/16",
		"/ip4/10.1.2.3/tcp/4820":                      "10.1.2.3/32",
		"/ip4/127.0.0.1/tcp/4820":                     "127.0.0.1/32",
		"/ip4/100.64.1.1/tcp/4820":                    "100.64.1.1/32",
		"/ip6/fd00::1/udp/4820/quic-v1":               "fd00::1/128",
		"/ip4/203.0.113.7/tcp/0":                      "",
		"/ip4/203.0.113.7/udp/4820":                   "",
		"/ip4/203.0.113.7/tcp/4820/ws":                "",
		"/ip4/203.0.113.7/udp/1/quic-v1/webtransport": "",
		"/ip4/0.0.0.0/tcp/4820":                       "",
		"/ip4/224.0.0.1/tcp/4820":                     "",
		"/ip4/255.255.255.255/tcp/4820":               "",
		"/ip6/::/tcp/4820":                            "",
		"/ip6/ff02::1/tcp/4820":                       "",
		"/ip6/fe80::1/tcp/4820":                       "",
		"/dns4/node.example/tcp/4820":                 "",
		"/ip4/203.0.113.7":                            "",
		"/ip4/203.0.113.7/tcp/4820/p2p/QmcEPrat8ShnCph8WjkREzt5CPXF2RwhYxYBALDcLC1iV6": "",
	} {
		var got group
		if ip, ok := dialable(maddr(t, s)); ok {
			got = groupOf(ip)
		}
		if got != want {
			t.Errorf("%s: group %q, want %q", s, got, want)
		}
	}
	for _, c := range []struct {
		addr, other string
		ok          bool
	}{
		{"203.0.113.7", "198.51.100.1", true}, {"203.0.113.7", "10.0.0.1", true},
		{"10.1.2.3", "10.200.0.1", true}, {"10.1.2.3", "198.51.100.1", false}, {"10.1.2.3", "192.168.0.1", false},
		{"10.1.2.3", "127.0.0.1", true}, {"127.0.0.1", "127.0.0.1", true}, {"127.0.0.1", "10.0.0.1", false},
		{"fd00::1", "fd12::1", true}, {"fd00::1", "2001:db8::1", false},
	} {
		ip, _ := ipOf(maddr(t, "/ip"+version(c.addr)+"/"+c.addr))
		other, _ := ipOf(maddr(t, "/ip"+version(c.other)+"/"+c.other))
		if tellable(ip, other) != c.ok {
			t.Errorf("%s told by or to %s: %v", c.addr, c.other, !c.ok)
		}
	}
}

func version(ip string) string {
	if strings.Contains(ip, ":") {
		return "6"
	}
	return "4"
}

// twin is the book again, as one list and by plain rules: what a reader would expect it to hold.
type twin struct {
	b    *addrBook // for its places alone
	list []*known
}

func (w *twin) find(k knownKey) *known {
	for _, e := range w.list {
		if e.knownKey == k {
			return e
		}
	}
	return nil
}

func (w *twin) holder(e *known) *known {
	for _, o := range w.list {
		if o.proven == e.proven && o.bucket == e.bucket && o.pos == e.pos {
			return o
		}
	}
	return nil
}

func (w *twin) remove(e *known) {
	for i, o := range w.list {
		if o == e {
			w.list = append(w.list[:i:i], w.list[i+1:]...)
			return
		}
	}
}

func (w *twin) enter(e *known, now time.Time) bool {
	if o := w.holder(e); o != nil {
		if !o.hopeless(now) {
			return false
		}
		w.remove(o)
	}
	w.list = append(w.list, e)
	return true
}

func (w *twin) add(k knownKey, g, source group, now time.Time) {
	if e := w.find(k); e != nil {
		if now.After(e.seen) {
			e.seen = now
		}
		return
	}
	e := &known{knownKey: k, group: g, source: source, seen: now}
	w.b.aim(e, false)
	w.enter(e, now)
}

func (w *twin) rise(e *known, now time.Time) {
	if w.find(e.knownKey) != e || e.proven {
		return
	}
	up := *e
	w.b.aim(&up, true)
	if o := w.holder(&up); o != nil && !o.hopeless(now) {
		if o.rival == nil && now.Sub(o.good) > rivalAfter {
			o.rival = e
		}
		return
	}
	w.remove(e)
	w.b.aim(e, true)
	w.enter(e, now)
}

func (w *twin) succeeded(k knownKey, now time.Time) {
	if e := w.find(k); e != nil {
		e.fails, e.good, e.seen, e.rival = 0, now, now, nil
		w.rise(e, now)
	}
}

func (w *twin) failed(k knownKey, now time.Time) {
	e := w.find(k)
	if e == nil {
		return
	}
	e.fails++
	if r := e.rival; r != nil && w.find(r.knownKey) == r {
		e.rival = nil
		w.remove(e)
		w.b.aim(e, false)
		w.enter(e, now)
		w.rise(r, now)
	}
}

// TestBookAgainstATwin runs random operations on the book and on a list, and compares all of both, through the file
// too. Few groups and sources make many collisions.
func TestBookAgainstATwin(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b := newAddrBook([32]byte{byte(seed)})
		w := &twin{b: b}
		now := bookTime
		key := func() (knownKey, ma.Multiaddr, group) {
			g, n := rng.IntN(3), rng.IntN(400)
			a := simAddr(g, n)
			return knownKey{peer.ID(fmt.Sprintf("peer %d", n)), string(a.Bytes())}, a, simGroup(g)
		}
		rivals := 0
		for range 6000 {
			now = now.Add(time.Duration(rng.IntN(600)) * time.Second)
			k, a, g := key()
			switch rng.IntN(6) {
			case 0, 1, 2:
				source := simGroup(100 + rng.IntN(3))
				b.add(k.id, a, source, now)
				w.add(k, g, source, now)
			case 3, 4:
				b.succeeded(k, now)
				w.succeeded(k, now)
			default:
				b.trying(k, now.Add(-time.Minute))
				if e := w.find(k); e != nil {
					e.tried = now.Add(-time.Minute)
					if e.rival != nil {
						rivals++
					}
				}
				b.failed(k, now, true)
				w.failed(k, now)
			}
		}
		sameBook(t, b, w, now)
		if rivals == 0 || b.tried.total == 0 || b.fresh.total == 0 {
			t.Errorf("seed %d: %d rivals, %d tried, %d new: the run tests little", seed, rivals, b.tried.total, b.fresh.total)
		}
		again, err := decodeBook(b.encode(chain.NetworkID{1}), chain.NetworkID{1})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range w.list { // a file keeps no rivals
			e.rival = nil
		}
		sameBook(t, again, w, now)
	}
}

func sameBook(t *testing.T, b *addrBook, w *twin, now time.Time) {
	t.Helper()
	if len(b.entries) != len(w.list) || b.fresh.total+b.tried.total != len(w.list) {
		t.Fatalf("%d entries, %d + %d places, the twin has %d", len(b.entries), b.fresh.total, b.tried.total, len(w.list))
	}
	perSource, perGroup := map[group]map[int]bool{}, map[group]map[int]bool{}
	note := func(m map[group]map[int]bool, g group, bucket int) {
		if m[g] == nil {
			m[g] = map[int]bool{}
		}
		m[g][bucket] = true
	}
	for _, o := range w.list {
		e := b.entries[o.knownKey]
		if e == nil || b.tableOf(e).at(e) != e || e.proven != o.proven || e.bucket != o.bucket || e.pos != o.pos || e.fails != o.fails ||
			!e.seen.Equal(o.seen) || !e.good.Equal(o.good) || !e.tried.Equal(o.tried) || e.group != o.group || e.source != o.source {
			t.Fatalf("entry %+v, the twin's %+v", e, o)
		}
		if r := o.rival; (r == nil) != (e.rival == nil) || r != nil && r.knownKey != e.rival.knownKey {
			t.Fatalf("rival of %v: %v, the twin's %v", e.knownKey, e.rival, r)
		}
		if e.proven {
			note(perGroup, e.group, e.bucket)
		} else {
			note(perSource, e.source, e.bucket)
		}
	}
	for s, m := range perSource {
		if len(m) > newPerSource {
			t.Errorf("source %s fills %d buckets", s, len(m))
		}
	}
	for g, m := range perGroup {
		if len(m) > triedPerGroup {
			t.Errorf("group %s fills %d tried buckets", g, len(m))
		}
	}
}

// A flood of one source, whatever it says, and one of one group, whatever peers it makes, stays within its share.
func TestFloodsOfBookStayWithinTheirShare(t *testing.T) {
	b := newAddrBook([32]byte{7})
	for i := range 60_000 {
		b.add(peer.ID(fmt.Sprint("a", i)), simAddr(i%600, i/600), simGroup(1), bookTime)
	}
	if limit := newPerSource * bucketSize; b.fresh.total > limit || b.fresh.total < limit*9/10 {
		t.Errorf("one source fills %d places of %d, want about %d", b.fresh.total, newBuckets*bucketSize, limit)
	}
	b = newAddrBook([32]byte{8})
	for i := range 20_000 {
		k := knownKey{peer.ID(fmt.Sprint("b", i)), string(simAddr(5, i).Bytes())}
		b.add(k.id, simAddr(5, i), simGroup(i), bookTime)
		b.succeeded(k, bookTime)
	}
	if limit := triedPerGroup * bucketSize; b.tried.total > limit || b.tried.total < limit*9/10 {
		t.Errorf("one group fills %d tried places of %d, want about %d", b.tried.total, triedBuckets*bucketSize, limit)
	}
}

func exampleBook() *addrBook {
	b := newAddrBook([32]byte{9})
	for i := range 40 {
		k := knownKey{peer.ID(fmt.Sprint("peer ", i)), string(simAddr(i%7, i).Bytes())}
		b.add(k.id, simAddr(i%7, i), simGroup(i%3), bookTime)
		if i%3 == 0 {
			b.succeeded(k, bookTime)
			b.anchors = []knownKey{k}
		}
	}
	return b
}

func TestDamagedBookIsEmptyAndSaysSo(t *testing.T) {
	network := chain.NetworkID{1, 2, 3}
	good := exampleBook().encode(network)
	dir := t.TempDir()
	file := filepath.Join(dir, "peers.book")
	if err := writeBook(file, good); err != nil {
		t.Fatal(err)
	}
	b, err := loadBook(file, network)
	if err != nil || len(b.entries) == 0 || len(b.anchors) != 1 || !bytes.Equal(b.encode(network), good) {
		t.Fatalf("%d entries, anchors %v, %v", len(b.entries), b.anchors, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
	if b, err := loadBook(filepath.Join(dir, "none"), network); err != nil || len(b.entries) != 0 {
		t.Errorf("a missing file: %v", err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := decodeBook(bad, network); err == nil {
			t.Fatalf("byte %d changed, and nobody noticed", i)
		}
	}
	count := len(bookHead) + 64
	for what, edit := range map[string]func(b []byte) []byte{
		"cut":            func(b []byte) []byte { return b[:len(b)/2] },
		"empty":          func(b []byte) []byte { return nil },
		"longer":         func(b []byte) []byte { return append(b, 0) },
		"newer":          func(b []byte) []byte { return resum(bytes.Replace(b, []byte("/1\n"), []byte("/2\n"), 1)) },
		"too many":       func(b []byte) []byte { binary.LittleEndian.PutUint32(b[count:], 1<<31); return resum(b) },
		"one more":       func(b []byte) []byte { b[count]++; return resum(b) },
		"one fewer":      func(b []byte) []byte { b[count]--; return resum(b) },
		"table 2":        func(b []byte) []byte { b[count+4] = 2; return resum(b) },
		"other network":  func(b []byte) []byte { return exampleBook().encode(chain.NetworkID{9}) },
		"peer id of 0":   func(b []byte) []byte { b[count+5] = 0; return resum(b) },
		"peer id of 255": func(b []byte) []byte { b[count+5] = 255; return resum(b) },
	} {
		if err := os.WriteFile(file, edit(bytes.Clone(good)), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := loadBook(file, network)
		if err == nil || !strings.Contains(err.Error(), file) || b == nil || len(b.entries) != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// resum makes the checksum fit again.
func resum(b []byte) []byte {
	sum := sha256.Sum256(b[:len(b)-32])
	return append(b[:len(b)-32], sum[:]...)
}

// FuzzBookFile: whatever is in the file, reading it ends, and what is taken encodes to the same bytes.
func FuzzBookFile(f *testing.F) {
	network := chain.NetworkID{1, 2, 3}
	good := exampleBook().encode(network)
	f.Add(good[:len(good)-32])
	f.Add(newAddrBook([32]byte{}).encode(network))
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		raw := append(bytes.Clone(body), sum[:]...) // or the checksum would refuse nearly all
		b, err := decodeBook(raw, network)
		if err != nil {
			return
		}
		again, err := decodeBook(b.encode(network), network)
		if err != nil || len(again.entries) != len(b.entries) || !bytes.Equal(again.encode(network), b.encode(network)) {
			t.Errorf("encoded again: %v, %d and %d entries", err, len(b.entries), len(again.entries))
		}
	})
}
