package ledger

import (
	"time"

	"quipu/chain"
	"quipu/chain/statetree"
)

// group is one Badger transaction with one or more whole units: an apply or a revert each. Units change the tree,
// the tip and the index in memory at once and become visible when the caller lets go of the mutex, after commit.
// Accounts are written when the group closes, once each however many units touched them, into the journal.
type group struct {
	*batch
	dirty map[chain.Account]chain.AccountState // as they stand now; zeros where undo removed one
	units int
}

// accountBytes is what a changed account takes in the journal.
const accountBytes = statetree.LeafSize

// room makes sure that a unit fits: so many touched accounts, other entries and their bytes. A unit that is alone
// may take all Badger gives, not 80 %; MinMemTable sees to it that the worst block fits.
func (m *mover) room(accounts, entries, bytes int) error {
	n, size := int64(recordPieces(accounts*accountBytes)+entries), int64(bytes+accounts*accountBytes)
	if m.g != nil {
		limit := m.l.cfg.groupBlocks
		if m.g.units > 0 && (!m.g.fits(n, size) || limit > 0 && m.g.units >= limit) {
			if err := m.flush(); err != nil {
				return err
			}
			if err := m.l.writeBehind(false); err != nil { // a walk may be long, and the journal is bounded
				return err
			}
		}
	}
	if m.g == nil {
		b, err := m.l.begin()
		if err != nil {
			return err
		}
		b.spend(64, 4096) // the journal's pieces and the tip
		m.g = &group{batch: b, dirty: map[chain.Account]chain.AccountState{}}
	}
	m.g.units++
	return nil
}

// touch notes accounts to be written.
func (g *group) touch(changes []chain.AccountChange, undone bool) {
	for i := range changes {
		c := &changes[i]
		if _, ok := g.dirty[c.Account]; !ok {
			g.spend(0, accountBytes)
		}
		if undone {
			g.dirty[c.Account] = c.Before // zeros unless it existed
		} else {
			g.dirty[c.Account] = c.After
		}
	}
}

// flush writes the accounts and the tip and commits, if anything is pending.
func (m *mover) flush() error {
	g := m.g
	if g == nil {
		return nil
	}
	m.g = nil
	defer g.discard()
	if g.units == 0 {
		return nil
	}
	start := time.Now()
	if err := g.appendJournal(); err != nil {
		return err
	}
	if err := g.set(metaTip, m.l.record.encode()); err != nil {
		return err
	}
	lap(&start, &m.l.times.Encode)
	if err := g.commit(); err != nil {
		return err
	}
	lap(&start, &m.l.times.Commit)
	m.l.journal.next++
	m.l.journal.accounts += len(g.dirty)
	return nil
}

// apply is the unit that adds e on the tip. A RuleError says that e is invalid; nothing is changed then.
func (m *mover) apply(e *entry) error {
	l := m.l
	next, block, err := m.read(e)
	if err != nil {
		return err
	}
	start := time.Now()
	txs := block.Txs()
	base, err := l.fetch(chain.Touched(block.Header().Miner, txs))
	if err != nil {
		return err
	}
	u, err := l.g.Apply(block, base)
	if err != nil {
		return m.excuse(e, block, err)
	}
	lap(&start, &l.times.Apply)
	undo := encodeUndo(e.id, &u)
	lap(&start, &l.times.Encode)
	entries := len(txs) + recordPieces(len(undo)) + 2
	if err := m.room(len(u.Changes), entries, len(undo)+len(txs)*49+256); err != nil {
		return err
	}
	start = time.Now() // room may have committed
	root, err := l.update(forward(u.Changes))
	if err != nil {
		return err
	}
	lap(&start, &l.times.Root)
	if err := chain.CheckStateRoot(block.Header(), root); err != nil {
		if _, err := l.update(backward(u.Changes)); err != nil {
			return err
		}
		m.g.units--
		return m.excuse(e, block, err)
	}
	record := l.record
	record.id, record.height = e.id, uint64(e.height)
	record.issued += u.Issued
	record.burned += u.Burned
	record.accounts += created(&u)
	if err := m.writeApplied(e, block, undo); err != nil {
		return err
	}
	m.g.touch(u.Changes, false)
	lap(&start, &l.times.Encode)
	l.record, l.tip, l.main = record, next, append(l.main, e)
	e.applied = true
	m.noteApplied(u)
	if l.pinHere() {
		if err := m.flush(); err != nil {
			return err
		}
		return l.pin()
	}
	return nil
}

// read is a block and the chain's state after it.
func (m *mover) read(e *entry) (next chain.State, block *chain.CheckedBlock, err error) {
	txn := m.l.db.NewTransaction(false)
	defer txn.Discard()
	if next, err = m.l.mustState(txn, e); err != nil {
		return next, nil, err
	}
	block, err = m.block(txn, e, &next.Header)
	return next, block, err
}

// excuse asks whether a block that failed is what its header commits to. If our own disk changed it, the block is
// not to blame.
func (m *mover) excuse(e *entry, block *chain.CheckedBlock, err error) error {
	if m.known[e.id] != nil {
		return err
	}
	if block.Header().ID() != e.id {
		return corrupt("the header of block %d (%s) was changed", e.height, e.id)
	}
	if wrong := chain.CheckBody(block.Header(), block.Body()); wrong != nil {
		return corrupt("the body of block %d (%s) was changed (%v)", e.height, e.id, wrong)
	}
	return err
}

func (m *mover) writeApplied(e *entry, block *chain.CheckedBlock, undo []byte) error {
	if err := putRecord(m.g.set, heightKey(keyUndo, uint64(e.height)), undo); err != nil {
		return err
	}
	if err := m.g.set(heightKey(keyMain, uint64(e.height)), e.id[:]); err != nil {
		return err
	}
	txs, offset := block.Txs(), 0
	for i := range txs {
		n := len(txs[i].Raw())
		r := txRecord{height: e.height, index: uint32(i), offset: uint32(offset), length: uint32(n)}
		if err := m.g.set(idKey(keyTx, txs[i].ID()), r.encode()); err != nil {
			return err
		}
		offset += n
	}
	return nil
}

// revert is the unit that takes the tip off.
func (m *mover) revert() error {
	l := m.l
	e := l.main.tip()
	_, block, err := m.read(e)
	if err != nil {
		return err
	}
	parent, _, err := m.readState(e.parent)
	if err != nil {
		return err
	}
	undo, size, err := m.undo(e)
	if err != nil {
		return err
	}
	if undo.issued > l.record.issued || undo.burned > l.record.burned {
		return corrupt("the undo of block %d takes back more than was ever issued or burned", e.height)
	}
	u := chain.Update{Block: block, Issued: undo.issued, Burned: undo.burned, Changes: make([]chain.AccountChange, len(undo.before))}
	keys := make([]chain.Account, len(undo.before))
	for i, b := range undo.before {
		keys[i] = b.account
	}
	now, err := l.fetch(keys)
	if err != nil {
		return err
	}
	for i, b := range undo.before {
		u.Changes[i] = chain.AccountChange{Account: b.account, Before: b.state, Existed: b.existed, After: now[b.account]}
	}
	txs := block.Txs()
	if err := m.room(len(u.Changes), len(txs)+recordPieces(size)+2, len(txs)*49+256); err != nil {
		return err
	}
	root, err := l.update(backward(u.Changes))
	if err != nil {
		return err
	}
	if root != parent.Header.StateRoot {
		if _, err := l.update(forward(u.Changes)); err != nil {
			return err
		}
		m.g.units--
		return corrupt("the undo of block %d (%s) doesn't lead to the state root of its parent", e.height, e.id)
	}
	if err := m.writeReverted(e, txs, size); err != nil {
		return err
	}
	m.g.touch(u.Changes, true)
	l.record.id, l.record.height = e.parent.id, uint64(e.parent.height)
	l.record.issued -= u.Issued
	l.record.burned -= u.Burned
	l.record.accounts -= created(&u)
	l.tip, l.main = parent, l.main[:len(l.main)-1]
	m.noteReverted(u)
	return nil
}

// created is how many accounts a block made.
func created(u *chain.Update) (n uint64) {
	for i := range u.Changes {
		if !u.Changes[i].Existed {
			n++
		}
	}
	return n
}

func (m *mover) writeReverted(e *entry, txs []chain.CheckedTx, undoSize int) error {
	for i := range txs { // zeros, which lead nowhere: of a pruned block the record alone is believed
		if err := m.g.set(idKey(keyTx, txs[i].ID()), txRecord{}.encode()); err != nil {
			return err
		}
	}
	if err := m.g.delete(heightKey(keyMain, uint64(e.height))); err != nil {
		return err
	}
	for i := range recordPieces(undoSize) {
		if err := m.g.delete(pieceKey(heightKey(keyUndo, uint64(e.height)), i)); err != nil {
			return err
		}
	}
	return nil
}

func (m *mover) readState(e *entry) (s chain.State, ok bool, err error) {
	txn := m.l.db.NewTransaction(false)
	defer txn.Discard()
	s, err = m.l.mustState(txn, e)
	return s, err == nil, err
}

// undo reads e's undo: from the group if e was applied in it.
func (m *mover) undo(e *entry) (undoRecord, int, error) {
	txn := m.l.db.NewTransaction(false)
	defer txn.Discard()
	if m.g != nil {
		txn = m.g.txn
	}
	b, err := getUndo(txn, uint64(e.height), m.l.g.BodyLimit)
	if err != nil {
		return undoRecord{}, 0, err
	}
	u, err := decodeUndo(b)
	if err == nil && u.block != e.id {
		err = corrupt("the undo at height %d is of block %s, want %s", e.height, u.block, e.id)
	}
	return u, len(b), err
}

// noteApplied and noteReverted keep the net change.
func (m *mover) noteApplied(u chain.Update) {
	if !m.record {
		return
	}
	if n := len(m.net.Reverted); n > 0 && len(m.net.Applied) == 0 && m.net.Reverted[n-1].Block.ID() == u.Block.ID() {
		m.net.Reverted = m.net.Reverted[:n-1]
		return
	}
	m.net.Applied = append(m.net.Applied, u)
}

func (m *mover) noteReverted(u chain.Update) {
	if !m.record {
		return
	}
	if n := len(m.net.Applied); n > 0 {
		m.net.Applied = m.net.Applied[:n-1]
		return
	}
	m.net.Reverted = append(m.net.Reverted, u)
}
