package ledger

import "quipu/chain"

// Look is what a stopped node's ledger holds.
type Look struct {
	Stats
	History        HistoryInfo
	Genesis        *chain.Genesis
	Tip            chain.State
	Issued, Burned uint64 // knots
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
