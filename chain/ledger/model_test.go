package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"quipu/chain"
	"quipu/chain/chaintest"
)

// twin is the ledger done naively: it keeps what it was given and, asked for the tip, replays every complete branch
// from genesis with an apply of its own.
type twin struct {
	g      *chain.Genesis
	parent map[chain.BlockID]chain.BlockID // of stored headers
	body   map[chain.BlockID]chain.Block   // of held bodies
	seq    map[chain.BlockID]int
	states map[chain.BlockID]twinState // a memo: what a replay gave
}

type twinState struct {
	valid          bool
	height         uint64
	work           float64 // exact here: far below 2^53
	accounts       map[chain.Account]chain.AccountState
	issued, burned uint64
}

func newTwin(g *chain.Genesis) *twin {
	w := &twin{g: g, parent: map[chain.BlockID]chain.BlockID{}, body: map[chain.BlockID]chain.Block{}, seq: map[chain.BlockID]int{}, states: map[chain.BlockID]twinState{}}
	s := twinState{valid: true, accounts: map[chain.Account]chain.AccountState{}}
	for _, b := range g.Balances {
		s.accounts[b.Account] = chain.AccountState{Balance: b.Balance}
	}
	w.states[g.State().ID] = s
	return w
}

func (w *twin) header(h *chain.Header) { w.parent[h.ID()] = h.Parent }

func (w *twin) add(b chain.Block) {
	id := b.Header.ID()
	if _, held := w.body[id]; !held {
		w.body[id], w.seq[id] = b, len(w.seq)+1
	}
}

// tip is the heaviest complete valid branch, between equal ones that whose last body came first.
func (w *twin) tip() (chain.BlockID, twinState) {
	best := w.g.State().ID
	state := w.states[best]
	for id := range w.body {
		s, complete := w.replay(id)
		if complete && s.valid && (s.work > state.work || s.work == state.work && w.seq[id] < w.seq[best]) {
			best, state = id, s
		}
	}
	return best, state
}

func (w *twin) replay(id chain.BlockID) (s twinState, complete bool) {
	if s, ok := w.states[id]; ok {
		return s, true
	}
	b, held := w.body[id]
	if !held {
		return s, false
	}
	before, complete := w.replay(b.Header.Parent)
	if !complete {
		return s, false
	}
	s = w.apply(before, b)
	w.states[id] = s
	return s, true
}

func (w *twin) apply(before twinState, b chain.Block) twinState {
	s := before
	if !s.valid {
		return s
	}
	s.accounts = maps.Clone(before.accounts)
	s.height++
	work := chain.BlockWork(b.Header.Bits)
	s.work += work.Float64()
	fees, created := uint64(0), uint64(0)
	for at := 0; at < len(b.Body); {
		t, n, err := chain.DecodeTx(b.Body[at:])
		if err != nil {
			panic(err)
		}
		at += n
		from := s.accounts[t.From]
		total := t.Fee
		for _, o := range t.Outputs {
			total += o.Amount
		}
		if t.Nonce != from.Nonce || total > from.Balance {
			s.valid = false
			return s
		}
		s.accounts[t.From] = chain.AccountState{Balance: from.Balance - total, Nonce: from.Nonce + 1}
		births := uint64(0)
		for _, o := range t.Outputs {
			to, there := s.accounts[o.To]
			if !there {
				births++
			}
			to.Balance += o.Amount
			s.accounts[o.To] = to
		}
		if t.Fee < uint64(w.g.MinFeeRate)*uint64(n)+births*w.g.AccountPrice {
			s.valid = false
			return s
		}
		fees += t.Fee
		created += births
	}
	subsidy := w.g.SubsidyAt(s.height)
	burned := created * w.g.AccountPrice
	if reward := subsidy + fees - burned; reward > 0 {
		m := s.accounts[b.Header.Miner]
		m.Balance += reward
		s.accounts[b.Header.Miner] = m
	}
	s.issued += subsidy
	s.burned += burned
	s.valid = naiveRoot(s.accounts) == b.Header.StateRoot
	return s
}

func naiveRoot(accounts map[chain.Account]chain.AccountState) chain.Hash {
	type leaf struct{ path, hash [32]byte }
	var leaves []leaf
	for a, s := range accounts {
		b := append([]byte{0}, a[:]...)
		b = binary.LittleEndian.AppendUint64(b, s.Balance)
		b = binary.LittleEndian.AppendUint64(b, s.Nonce)
		leaves = append(leaves, leaf{sha256.Sum256(a[:]), sha256.Sum256(b)})
	}
	slices.SortFunc(leaves, func(x, y leaf) int { return bytes.Compare(x.path[:], y.path[:]) })
	var root func(ls []leaf, depth int) [32]byte
	root = func(ls []leaf, depth int) [32]byte {
		if len(ls) == 0 {
			return [32]byte{}
		}
		if len(ls) == 1 {
			return ls[0].hash
		}
		k := 0
		for k < len(ls) && ls[k].path[depth/8]>>(7-depth%8)&1 == 0 {
			k++
		}
		l, r := root(ls[:k], depth+1), root(ls[k:], depth+1)
		return sha256.Sum256(slices.Concat([]byte{1}, l[:], r[:]))
	}
	return root(leaves, 0)
}

// TestModel gives random trees of blocks, a good part of them invalid, in random order to a ledger and to its twin.
func TestModel(t *testing.T) {
	runs := 48
	if os.Getenv("QUIPU_LONG") != "" {
		runs = 2000
	}
	var seen modelCount
	for seed := range uint64(runs) {
		modelRun(t, seed, rand.New(rand.NewPCG(seed, 4820)), &seen)
	}
	t.Logf("%+v", seen)
	if seen.reorgs < runs || seen.invalid < runs/2 || seen.refused < runs/2 || seen.deepest < 3 || seen.parts < runs/4 || seen.anew < runs/10 {
		t.Fatalf("the trees were too tame: %+v", seen)
	}
}

// modelCount shows that the runs met what they are for.
type modelCount struct{ blocks, reorgs, deepest, invalid, refused, parts, anew int }

func modelRun(t *testing.T, seed uint64, r *rand.Rand, seen *modelCount) {
	keys := []chaintest.Key{chaintest.NewKey("alice"), chaintest.NewKey("bob"), chaintest.NewKey("carol"), chaintest.NewKey("dave"), chaintest.NewKey("erin")}
	g := chaintest.Genesis(func(g *chain.Genesis) {
		g.BodyLimit, g.AccountPrice, g.Subsidy, g.Halving, g.Tail = 1<<16, 700, 9000, 4, uint64(r.IntN(2))
	}, keys[:3]...)
	gen := chaintest.New(g)
	blocks := randomTree(r, g, gen, keys)

	cfg := Config{Genesis: g, groupBlocks: r.IntN(3), behind: r.IntN(30), FreeSpace: plenty}
	if r.IntN(5) == 0 {
		cfg.Dir = t.TempDir()
	}
	if r.IntN(2) == 0 { // some reorgs start over from block 0, some changes come in parts
		cfg.UndoKeep, cfg.maxChange = 1+r.IntN(4), int64(1+r.IntN(1200))
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.Close() }()
	reopen := func() {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = Open(cfg); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	w := newTwin(g)
	stored := map[chain.BlockID]bool{g.State().ID: true}
	var headers, bodies, now []*chaintest.Block
	headers = blocks
	for step := 0; len(headers)+len(bodies) > 0; step++ {
		if len(headers) > 0 && r.IntN(2) == 0 { // a header whose parent is stored
			i := r.IntN(len(headers))
			b := headers[i]
			if !stored[b.Header.Parent] {
				continue
			}
			headers = slices.Delete(slices.Clone(headers), i, i+1)
			_, err := l.AddHeaders([]chain.Header{b.Header})
			if errors.Is(err, ErrInvalidAncestor) {
				if ok, _ := w.replay(b.Header.Parent); ok.valid {
					t.Fatalf("seed %d: header %s refused: %v", seed, b.Name, err)
				}
				seen.refused++
				continue // its children stay unknown, as they should
			}
			if err != nil {
				t.Fatalf("seed %d: header %s: %v", seed, b.Name, err)
			}
			stored[b.ID()] = true
			w.header(&b.Header)
			bodies = append(bodies, b)
			continue
		}
		if len(bodies) == 0 {
			if !slices.ContainsFunc(headers, func(b *chaintest.Block) bool { return stored[b.Header.Parent] }) {
				break
			}
			continue
		}
		i := r.IntN(len(bodies))
		now = append(now, bodies[i])
		bodies = slices.Delete(bodies, i, i+1)
		if r.IntN(3) == 0 && len(bodies) > 0 {
			continue
		}
		var given []chain.CheckedBlock
		for _, b := range now {
			given = append(given, b.Checked)
			w.add(b.Block)
		}
		now = now[:0]
		before := l.Tip().ID
		var changes []chain.Change
		take := func(res Result) {
			for _, bad := range res.Invalid {
				if s, complete := w.replay(bad.ID); !complete || s.valid {
					t.Fatalf("seed %d: block %d is called invalid (%v)", seed, bad.Height, bad.Err)
				}
			}
			seen.invalid += len(res.Invalid)
			seen.deepest = max(seen.deepest, len(res.Change.Reverted))
			if len(res.Change.Reverted) > 0 {
				seen.reorgs++
			}
			changes = append(changes, res.Change)
		}
		res, err := l.Add(given)
		for take(res); res.More && (err == nil || res.Deep != nil); take(res) {
			seen.parts++
			res, err = l.Add(nil)
		}
		if err != nil && res.Deep == nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		seen.blocks += len(given)
		for l.Deep() != nil {
			seen.anew++
			if err := l.StartOver(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for done := false; !done; {
				left := r.IntN(9)
				res, done, err = l.Step(func() bool { left--; return left >= 0 })
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				take(res)
				if r.IntN(6) == 0 && cfg.Dir != "" {
					reopen()
				}
			}
			before, changes = l.Tip().ID, nil
		}
		compareModel(t, seed, l, w, before, changes)
		if r.IntN(8) == 0 && cfg.Dir != "" {
			reopen()
			compareModel(t, seed, l, w, l.Tip().ID, nil)
		}
	}
	if cfg.Dir != "" {
		l.Close()
		if _, err := Verify(t.Context(), cfg, 0, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func compareModel(t *testing.T, seed uint64, l *Ledger, w *twin, before chain.BlockID, changes []chain.Change) {
	t.Helper()
	id, want := w.tip()
	if got := l.Tip(); got.ID != id {
		_, s := w.tip()
		t.Fatalf("seed %d: tip %s at %d, the twin has %s at %d", seed, got.ID, got.Header.Height, id, s.height)
	}
	var keys []chain.Account
	for a := range want.accounts {
		keys = append(keys, a)
	}
	_, accs, _ := l.Accounts(keys)
	if n := l.Stats().Accounts; n != len(want.accounts) || !maps.Equal(accs, chain.Accounts(want.accounts)) {
		t.Fatalf("seed %d: %d accounts %v, the twin has %v", seed, n, accs, want.accounts)
	}
	if issued, burned := l.Supply(); issued != want.issued || burned != want.burned {
		t.Fatalf("seed %d: supply %d and %d, the twin has %d and %d", seed, issued, burned, want.issued, want.burned)
	}
	// A follower that has the accounts of the old tip and the change ends with those of the new one.
	follower := maps.Clone(w.states[before].accounts)
	for _, c := range changes {
		follow(t, seed, follower, c)
	}
	if !maps.Equal(follower, want.accounts) {
		t.Fatalf("seed %d: following the change gives other accounts", seed)
	}
}

// follow applies a change to accounts that stand where it begins.
func follow(t *testing.T, seed uint64, follower chain.Accounts, c chain.Change) {
	t.Helper()
	for _, u := range c.Reverted {
		for _, ch := range u.Changes {
			if follower[ch.Account] != ch.After {
				t.Fatalf("seed %d: reverted block %d had another value before", seed, u.Block.Header().Height)
			}
			follower[ch.Account] = ch.Before
			if !ch.Existed {
				delete(follower, ch.Account)
			}
		}
	}
	for _, u := range c.Applied {
		for _, ch := range u.Changes {
			if follower[ch.Account] != ch.Before {
				t.Fatalf("seed %d: applied block %d has another value before", seed, u.Block.Header().Height)
			}
			follower[ch.Account] = ch.After
		}
	}
}

// randomTree makes 12 to 40 blocks, more often on recent ones, with valid and invalid transactions and state roots.
func randomTree(r *rand.Rand, g *chain.Genesis, gen *chaintest.Gen, keys []chaintest.Key) []*chaintest.Block {
	names := []string{"genesis"}
	var out []*chaintest.Block
	for i := range 12 + r.IntN(29) {
		gen.SetTip(names[max(0, len(names)-1-r.IntN(1+r.IntN(len(names))))])
		var txs []chain.Tx
		accounts := gen.Accounts()
		for range r.IntN(4) {
			from := keys[r.IntN(len(keys))]
			s, there := accounts[from.Account]
			tx := chain.Tx{Nonce: s.Nonce}
			for range 1 + r.IntN(3) {
				tx.Outputs = append(tx.Outputs, chaintest.To(chaintest.NewKey(fmt.Sprint("k", r.IntN(12))), 1+uint64(r.IntN(5000))))
				if r.IntN(2) == 0 {
					tx.Outputs[len(tx.Outputs)-1].To = keys[r.IntN(len(keys))].Account
				}
			}
			switch wrong := r.IntN(40); {
			case wrong == 0:
				tx.Nonce++
			case wrong == 1 && s.Balance > 0: // an amount of 0 would be no checked transaction
				tx.Outputs[0].Amount = s.Balance
			case wrong == 2:
				tx.Fee = g.MinFee(tx.Size()) // pays for no account
			case !there || s.Balance < 100_000:
				continue
			}
			txs = append(txs, from.Sign(g, tx, uint64(r.IntN(50))))
			if there {
				accounts[from.Account] = chain.AccountState{Balance: s.Balance / 2, Nonce: s.Nonce + 1}
			}
		}
		opts := []chaintest.Option{chaintest.MinedBy(keys[r.IntN(len(keys))]), chaintest.At(1 + uint64(r.IntN(2))*uint64(1+r.IntN(4000)))}
		if r.IntN(25) == 0 {
			opts = append(opts, chaintest.Header(func(h *chain.Header) { h.StateRoot[r.IntN(32)] ^= 1 << r.IntN(8) }))
		}
		name := fmt.Sprint("b", i)
		names = append(names, name)
		out = append(out, gen.Next(name, txs, opts...))
	}
	return out
}
