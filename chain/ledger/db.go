package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// Every key of the store. Integers in keys are big-endian so that they sort; in values they are little-endian.
// Values over pieceSize are cut into pieces under consecutive keys (in-memory Badger refuses more than 1 MiB).
//
//	'm' name                      schema: u32 | genesis ‖ piece u16: canonical bytes | tip: tipRecord
//	'h' id                        headerRecord
//	'b' id ‖ piece u16            body, in pieces
//	's' id                        u64: when the matching body was complete, in arrivals; its presence says "held"
//	'i' id                        why the block is invalid, text
//	'n' height u32                id of the block there on the validated best chain
//	'u' height u32 ‖ piece u16    undo of the block there
//	'p' path u64 ‖ depth u8       a page of the tree of accounts (statetree.PageKey); those are whole that can be reached
//	                              from the one at the top, and if that is missing the accounts are those of genesis
//	'j' sequence u64 ‖ piece u16  journal of accounts, see journal.go; the m record journal says where it begins
//	't' txid                      height u32 | index u32 | offset u32 | length u32, on the validated best chain
//	'x' account ‖ height u32, 'y' batch u32   account history index, see history.go
//
// Reverts and undo's pruning delete records to save room; nothing depends on a deletion having happened.
const (
	keyMeta    = 'm'
	keyHeader  = 'h'
	keyBody    = 'b'
	keySeq     = 's'
	keyInvalid = 'i'
	keyMain    = 'n'
	keyUndo    = 'u'
	keyPage    = 'p'
	keyTx      = 't'
	keyJournal = 'j'
	keyHistory = 'x'
	keyBatch   = 'y'
)

const (
	schema    = 3 // 1 and 2 had a record of every account
	pieceSize = 512 << 10
	maxReason = 512 // bytes of an invalid mark
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian

	metaSchema  = []byte("mschema")
	metaGenesis = []byte("mgenesis")
	metaTip     = []byte("mtip")
	metaJournal = []byte("mjournal")
)

func idKey(kind byte, id [32]byte) []byte { return append([]byte{kind}, id[:]...) }
func heightKey(kind byte, h uint64) []byte {
	return be.AppendUint32([]byte{kind}, uint32(h))
}
func pieceKey(prefix []byte, n int) []byte {
	return be.AppendUint16(append(make([]byte, 0, len(prefix)+2), prefix...), uint16(n))
}

// pieces is how many values n bytes take.
func pieces(n int) int { return (n + pieceSize - 1) / pieceSize }

// putPieces stores value under prefix; an empty value takes no key.
func putPieces(set func(k, v []byte) error, prefix, value []byte) error {
	for n := range pieces(len(value)) {
		if err := set(pieceKey(prefix, n), value[n*pieceSize:min((n+1)*pieceSize, len(value))]); err != nil {
			return err
		}
	}
	return nil
}

// getBody reads e's body.
func getBody(txn *badger.Txn, e *entry) ([]byte, error) {
	return appendBody(make([]byte, 0, e.bodySize), txn, e)
}

// putRecord stores a value whose length its reader doesn't know: the last piece is shorter than pieceSize, so what
// an earlier, longer record left behind it is never read.
func putRecord(set func(k, v []byte) error, prefix, value []byte) error {
	for n := range recordPieces(len(value)) {
		if err := set(pieceKey(prefix, n), value[n*pieceSize:min((n+1)*pieceSize, len(value))]); err != nil {
			return err
		}
	}
	return nil
}

func recordPieces(n int) int { return n/pieceSize + 1 }

var errIncomplete = errors.New("a piece is missing")

// getRecord reads what putRecord stored, at most max bytes.
func getRecord(txn *badger.Txn, prefix []byte, max int) ([]byte, error) {
	var out []byte
	for n := 0; ; n++ {
		v, err := get(txn, pieceKey(prefix, n))
		if err != nil {
			return nil, err
		}
		if v == nil || len(out)+len(v) > max {
			return nil, errIncomplete
		}
		if out = append(out, v...); len(v) < pieceSize {
			return out, nil
		}
	}
}

// get is a copy of a value, nil if there is none.
func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	v, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	if v == nil {
		v = []byte{}
	}
	return v, nil
}

// each calls f with every key (without its kind byte) and value of one kind, in key order. Both are valid during
// the call only.
func each(txn *badger.Txn, kind byte, f func(key, value []byte) error) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix = []byte{kind}
	it := txn.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		if err := item.Value(func(v []byte) error { return f(item.Key()[1:], v) }); err != nil {
			return err
		}
	}
	return nil
}

// headerRecord: header 200 | work 32 | parent time u64 | arrival u64 | count u8 | count × peak 32.
type headerRecord struct {
	state   chain.State
	arrival uint64
}

const maxPeaks = 33 // heights below 2^32

func (r *headerRecord) encode() []byte {
	b := r.state.Header.Append(make([]byte, 0, chain.HeaderSize+49+32*len(r.state.Peaks)))
	w := chain.WorkBytes(&r.state.Work)
	b = append(b, w[:]...)
	b = le.AppendUint64(b, r.state.ParentTime)
	b = le.AppendUint64(b, r.arrival)
	b = append(b, byte(len(r.state.Peaks)))
	for i := range r.state.Peaks {
		b = append(b, r.state.Peaks[i][:]...)
	}
	return b
}

func decodeHeaderRecord(id chain.BlockID, b []byte) (headerRecord, error) {
	const fixed = chain.HeaderSize + 49
	if len(b) < fixed || b[fixed-1] > maxPeaks || len(b) != fixed+32*int(b[fixed-1]) {
		return headerRecord{}, corrupt("header record of %s has %d bytes", id, len(b))
	}
	h, err := chain.DecodeHeader(b[:chain.HeaderSize])
	if err != nil {
		return headerRecord{}, err
	}
	r := headerRecord{state: chain.State{Header: h, ID: id}}
	b = b[chain.HeaderSize:]
	r.state.Work = chain.WorkFromBytes([32]byte(b))
	r.state.ParentTime, r.arrival = le.Uint64(b[32:]), le.Uint64(b[40:])
	r.state.Peaks = make([]chain.Hash, b[48])
	for i := range r.state.Peaks {
		r.state.Peaks[i] = chain.Hash(b[49+32*i:])
	}
	return r, nil
}

// tipRecord: id 32 | height u64 | issued u64 | burned u64 | undo from u64 | accounts u64.
type tipRecord struct {
	id             chain.BlockID
	height         uint64
	issued, burned uint64 // Σ over blocks 1..height, knots
	undoFrom       uint64 // undo is kept of heights undoFrom..height
	accounts       uint64 // that exist
}

func (t *tipRecord) encode() []byte {
	b := append(make([]byte, 0, tipSize), t.id[:]...)
	b = le.AppendUint64(b, t.height)
	b = le.AppendUint64(b, t.issued)
	b = le.AppendUint64(b, t.burned)
	return le.AppendUint64(le.AppendUint64(b, t.undoFrom), t.accounts)
}

const tipSize = 72

func decodeTip(b []byte) (t tipRecord, err error) {
	if len(b) != tipSize {
		return t, corrupt("the tip record has %d bytes, want %d", len(b), tipSize)
	}
	t.id = chain.BlockID(b)
	t.height, t.issued, t.burned, t.undoFrom = le.Uint64(b[32:]), le.Uint64(b[40:]), le.Uint64(b[48:]), le.Uint64(b[56:])
	t.accounts = le.Uint64(b[64:])
	return t, nil
}

// undoRecord: block 32 | issued u64 | burned u64 | count u32 | count × (account 32 | existed u8 | if existed
// balance u64, nonce u64), accounts ascending.
type undoRecord struct {
	block          chain.BlockID
	issued, burned uint64
	before         []undoAccount
}

type undoAccount struct {
	account chain.Account
	existed bool
	state   chain.AccountState
}

func encodeUndo(id chain.BlockID, u *chain.Update) []byte {
	b := append(make([]byte, 0, 52+49*len(u.Changes)), id[:]...)
	b = le.AppendUint64(b, u.Issued)
	b = le.AppendUint64(b, u.Burned)
	b = le.AppendUint32(b, uint32(len(u.Changes)))
	for i := range u.Changes {
		c := &u.Changes[i]
		b = append(b, c.Account[:]...)
		if !c.Existed {
			b = append(b, 0)
			continue
		}
		b = append(b, 1)
		b = le.AppendUint64(b, c.Before.Balance)
		b = le.AppendUint64(b, c.Before.Nonce)
	}
	return b
}

func decodeUndo(b []byte) (u undoRecord, err error) {
	bad := func() (undoRecord, error) {
		return undoRecord{}, corrupt("an undo record of %d bytes does not decode", len(b))
	}
	if len(b) < 52 {
		return bad()
	}
	u.block, u.issued, u.burned = chain.BlockID(b), le.Uint64(b[32:]), le.Uint64(b[40:])
	n := int(le.Uint32(b[48:]))
	rest := b[52:]
	if n > len(rest)/33 {
		return bad()
	}
	u.before = make([]undoAccount, n)
	for i := range u.before {
		if len(rest) < 33 || rest[32] > 1 {
			return bad()
		}
		a := &u.before[i]
		a.account, a.existed = chain.Account(rest), rest[32] == 1
		if i > 0 && string(u.before[i-1].account[:]) >= string(a.account[:]) {
			return bad()
		}
		rest = rest[33:]
		if a.existed {
			if len(rest) < 16 {
				return bad()
			}
			a.state = chain.AccountState{Balance: le.Uint64(rest), Nonce: le.Uint64(rest[8:])}
			rest = rest[16:]
		}
	}
	if len(rest) != 0 {
		return bad()
	}
	return u, nil
}

// getUndo reads the undo of the block at a height of the validated best chain.
func getUndo(txn *badger.Txn, height uint64, bodyLimit uint32) ([]byte, error) {
	b, err := getRecord(txn, heightKey(keyUndo, height), maxUndo(bodyLimit))
	if err == errIncomplete {
		err = corrupt("the undo of block %d is missing", height)
	}
	return b, err
}

// maxUndo bounds an undo record: a block of n body bytes touches at most n/40 + 1 accounts for its outputs, one a
// transaction for senders and one miner.
func maxUndo(bodyLimit uint32) int {
	return 52 + 49*(int(bodyLimit)/chain.OutputSize+int(bodyLimit)/chain.TxMinSize+2)
}

// txRecord says where a transaction stands: offset and length are within the body.
type txRecord struct{ height, index, offset, length uint32 }

func (r txRecord) encode() []byte {
	b := le.AppendUint32(make([]byte, 0, 16), r.height)
	b = le.AppendUint32(b, r.index)
	b = le.AppendUint32(b, r.offset)
	return le.AppendUint32(b, r.length)
}

func decodeTxRecord(b []byte) (r txRecord, err error) {
	if len(b) != 16 {
		return r, corrupt("a transaction record has %d bytes, want 16", len(b))
	}
	return txRecord{le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])}, nil
}
