package ledger

import (
	"cmp"
	"context"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"quipu/chain"
)

// Look is what a stopped node's ledger holds.
type Look struct {
	Stats
	History        HistoryInfo
	Genesis        *chain.Genesis
	Tip            chain.State
	Issued, Burned uint64 // knots
}

// Size is what the records of one kind hold, in bytes of keys and values; with indexes and what was deleted and isn't
// compacted yet, files take more.
type Size struct {
	Kind    string
	Records uint64
	Bytes   uint64
}

// kinds name the records of the store, by the first byte of the key.
var kinds = []struct {
	first byte
	name  string
}{
	{keyBody, "bodies"}, {keyTx, "transaction index"}, {keyUndo, "undo"}, {keyHeader, "headers"}, {keyPage, "accounts"}, {keyJournal, "journal"},
	{keyHistory, "account history"},
}

// Sizes adds up the records of a stopped node's ledger, by kind, largest first; what is left is called other. It reads
// every key.
func Sizes(ctx context.Context, cfg Config) ([]Size, error) {
	l, err := openToLook(cfg)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var by [256]Size
	err = l.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		n := 0
		for it.Rewind(); it.Valid(); it.Next() {
			if n++; n%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			item := it.Item()
			s := &by[item.Key()[0]]
			s.Records++
			s.Bytes += uint64(item.KeySize() + item.ValueSize())
		}
		return nil
	})
	var out []Size
	for _, k := range kinds {
		if s := by[k.first]; s.Records > 0 {
			out = append(out, Size{k.name, s.Records, s.Bytes})
		}
		by[k.first] = Size{}
	}
	other := Size{Kind: "other"}
	for _, s := range by {
		other.Records, other.Bytes = other.Records+s.Records, other.Bytes+s.Bytes
	}
	out = append(out, other)
	slices.SortStableFunc(out, func(a, b Size) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return out, err
}

// LookInto opens a stopped node's ledger, without writing anything of ours, and says what it holds. cfg.Genesis may
// be nil. Nothing is checked but that it can be read; see Verify.
func LookInto(cfg Config) (Look, error) {
	l, err := openToLook(cfg)
	if err != nil {
		return Look{}, err
	}
	defer l.Close()
	if err := l.db.View(l.loadAccounts); err != nil {
		return Look{}, err
	}
	l.tree = nil // Close has nothing to write then
	best := l.index.heaviest()
	out := Look{Stats: l.Stats(), History: l.historyInfo(), Genesis: l.g, Tip: l.tip, Issued: l.record.issued, Burned: l.record.burned}
	if best != nil {
		out.BestHeight = max(out.Height, uint64(best.height))
	}
	return out, nil
}
