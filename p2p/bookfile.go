package p2p

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"quipu/chain"
)

// The file of the address book: head, network id 32, secret 32, entries, anchors, SHA-256 of all before it. An entry is
// proven u8, three strings (peer id, multiaddr, source group), each after its length u8, and seen, tried, good as Unix
// seconds u64, and fails u16. An anchor is two strings, peer id and multiaddr. Both lists begin with their length, u32.
const (
	bookHead    = "quipu-peers/1\n"
	maxBookFile = 2 << 20
	maxPeerID   = 64
	maxSource   = 48
	maxAnchors  = 2
	maxFails    = 1000
)

var errBook = errors.New("damaged, of another network, or made by a newer program")

// loadBook reads the book of a network, or makes an empty one. A file that can't be used is an error beside the empty
// book: a node does without it, and writes over it in time.
func loadBook(file string, network chain.NetworkID) (*addrBook, error) {
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, err
	}
	empty := newAddrBook(secret)
	if file == "" {
		return empty, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxBookFile+1))
	if err != nil {
		return empty, err
	}
	b, err := decodeBook(raw, network)
	if err != nil {
		return empty, fmt.Errorf("address book %s: %w", file, err)
	}
	return b, nil
}

// writeBook puts the file in place whole or not at all.
func writeBook(file string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".peers-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// encode is the file's bytes; entries in the order of their places.
func (b *addrBook) encode(network chain.NetworkID) []byte {
	out := append([]byte(bookHead), network[:]...)
	out = append(out, b.secret[:]...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(b.entries)))
	for _, t := range []*table{&b.fresh, &b.tried} {
		for k := range t.places {
			for _, e := range t.places[k] {
				if e != nil {
					out = e.encode(out)
				}
			}
		}
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(len(b.anchors)))
	for _, k := range b.anchors {
		out = appendShort(appendShort(out, string(k.id)), k.addr)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

func (e *known) encode(out []byte) []byte {
	proven := byte(0)
	if e.proven {
		proven = 1
	}
	out = appendShort(append(out, proven), string(e.id))
	out = appendShort(appendShort(out, e.addr), string(e.source))
	for _, t := range []time.Time{e.seen, e.tried, e.good} {
		out = binary.LittleEndian.AppendUint64(out, unix(t))
	}
	return binary.LittleEndian.AppendUint16(out, uint16(min(e.fails, maxFails)))
}

func unix(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.Unix(), 1))
}

func appendShort(out []byte, s string) []byte { return append(append(out, byte(len(s))), s...) }

// decodeBook reads the file's bytes to their end.
func decodeBook(raw []byte, network chain.NetworkID) (*addrBook, error) {
	body, sum := raw, []byte(nil)
	if n := len(raw) - sha256.Size; n >= 0 && len(raw) <= maxBookFile {
		body, sum = raw[:n], raw[n:]
	}
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return nil, errBook
	}
	r := bookReader{b: body}
	if r.take(len(bookHead)) != bookHead || r.take(32) != string(network[:]) {
		return nil, errBook
	}
	b := newAddrBook([32]byte([]byte(r.take32())))
	for range r.u32(newBuckets*bucketSize + triedBuckets*bucketSize) {
		if !b.restore(&r) {
			return nil, errBook
		}
	}
	for range r.u32(maxAnchors) {
		b.anchors = append(b.anchors, knownKey{peer.ID(r.short(1, maxPeerID)), r.short(1, maxKnownAddr)})
	}
	if r.bad || len(r.b) > 0 {
		return nil, errBook
	}
	b.changed = false
	return b, nil
}

// restore reads one entry into its place. Each has its own: two at one place are damage.
func (b *addrBook) restore(r *bookReader) bool {
	proven := r.take(1)
	e := &known{knownKey: knownKey{peer.ID(r.short(1, maxPeerID)), r.short(1, maxKnownAddr)}}
	e.source = group(r.short(1, maxSource))
	e.seen, e.tried, e.good, e.fails = r.time(), r.time(), r.time(), int(r.u16(maxFails))
	if r.bad || proven != "\x00" && proven != "\x01" {
		return false
	}
	a, err := ma.NewMultiaddrBytes([]byte(e.addr))
	if err != nil {
		return false
	}
	ip, ok := dialable(a)
	if !ok || string(a.Bytes()) != e.addr || b.entries[e.knownKey] != nil {
		return false
	}
	e.group = groupOf(ip)
	b.aim(e, proven == "\x01")
	if t := b.tableOf(e); t.at(e) == nil {
		t.put(e)
		b.entries[e.knownKey] = e
		return true
	}
	return false
}

// bookReader takes values from the front of b; after a bad one all it returns is zero.
type bookReader struct {
	b   []byte
	bad bool
}

func (r *bookReader) take(n int) string {
	if r.bad || n > len(r.b) {
		r.bad = true
		return ""
	}
	v := string(r.b[:n])
	r.b = r.b[n:]
	return v
}

func (r *bookReader) take32() (v string) {
	if v = r.take(32); r.bad {
		return string(make([]byte, 32))
	}
	return v
}

func (r *bookReader) short(least, most int) string {
	n := r.take(1)
	if r.bad || int(n[0]) < least || int(n[0]) > most {
		r.bad = true
		return ""
	}
	return r.take(int(n[0]))
}

func (r *bookReader) uint(size int, most uint64) uint64 {
	var b [8]byte
	copy(b[:], r.take(size))
	v := binary.LittleEndian.Uint64(b[:])
	if v > most {
		r.bad = true
		return 0
	}
	return v
}

func (r *bookReader) u16(most uint64) uint64 { return r.uint(2, most) }
func (r *bookReader) u32(most uint64) uint64 { return r.uint(4, most) }

func (r *bookReader) time() time.Time {
	if s := r.uint(8, 1<<40); s > 0 {
		return time.Unix(int64(s), 0)
	}
	return time.Time{}
}
