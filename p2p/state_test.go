package p2p

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/chain/statetree"
	"quipu/p2p/wire"
)

// stateOf is a state of n accounts, and the goal that names it.
func stateOf(n int, seed uint64) (*fakeState, StateGoal) {
	r := rand.New(rand.NewPCG(seed, 1))
	changes := make([]statetree.Change, n)
	for i := range changes {
		l := &changes[i].Leaf
		binary.LittleEndian.PutUint64(l.Account[:], r.Uint64())
		l.Balance, l.Nonce = 1+r.Uint64N(1000), uint64(i)
	}
	f := &fakeState{Snapshot: wire.Snapshot{Height: 1024, Block: chain.BlockID{byte(seed)}, Accounts: uint64(n)}, tree: statetree.New()}
	root := f.tree.Update(changes)
	return f, StateGoal{Height: 1024, Block: f.Block, Root: root, Accounts: uint64(n)}
}

// serving is a node that serves a state, or none.
func (w *world) serving(g *chain.Genesis, st *fakeState) *node {
	f := newFake(g)
	if st != nil {
		f.snaps = map[uint64]*fakeState{st.Height: st}
	}
	return w.start(f, nil)
}

// fetchedState fetches and checks that what was given is the state.
func (w *world) fetchedState(n *node, goal StateGoal) (time.Duration, error) {
	w.Helper()
	var all []wire.Leaf
	last := chain.Hash{}
	start := time.Now()
	err := n.FetchState(w.Context(), goal, func(leaves []wire.Leaf) error {
		for i := range leaves {
			p := chain.Hash(statetree.PathOf(leaves[i].Account))
			if string(p[:]) <= string(last[:]) {
				w.Fatal("accounts that don't ascend")
			}
			last = p
		}
		all = append(all, leaves...)
		return nil
	})
	if err == nil && (chain.Hash(statetree.RootOf(all)) != goal.Root) {
		w.Fatalf("%d accounts that aren't the state's", len(all))
	}
	return time.Since(start), err
}

// Each row is what one of three servers answers. It is banned, and the state comes from the others.
func TestStateFromLiars(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	for name, row := range map[string]struct {
		lie  func(q *wire.StateRequest, b []byte) []byte
		want Evidence
	}{
		"a balance more":    {func(_ *wire.StateRequest, b []byte) []byte { b[5+32]++; return b }, WrongState},
		"a wrong proof":     {func(_ *wire.StateRequest, b []byte) []byte { b[len(b)-1] ^= 1; return b }, WrongState},
		"cut":               {func(_ *wire.StateRequest, b []byte) []byte { return b[:len(b)-1] }, Malformed},
		"nothing of it":     {func(_ *wire.StateRequest, b []byte) []byte { return nil }, Malformed},
		"another range":     {nil, WrongState},
		"another's range":   {nil, WrongState},
		"of accounts fewer": {nil, WrongState},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				st, goal := stateOf(60_000, 1)
				bad, _ := stateOf(60_000, 1)
				other, _ := stateOf(60_000, 2)
				switch bad.lie = row.lie; name {
				case "another range":
					bad.lie = func(q *wire.StateRequest, _ []byte) []byte {
						leaves, p := bad.tree.Range(chain.Hash{}, chain.Hash{1}, q.Leaves())
						return statetree.AppendRange(nil, leaves, p)
					}
				case "another's range":
					bad.tree = other.tree
				case "of accounts fewer":
					leaf, _ := bad.tree.Range(chain.Hash{}, wire.LastPath, 1)
					bad.tree.Update([]statetree.Change{{Leaf: leaf[0], Delete: true}})
				}
				one, two := *st, *st
				a, b, liar := w.serving(g, &one), w.serving(g, &two), w.serving(g, bad)
				n := w.start(newFake(g), nil, a.addr(), b.addr(), liar.addr())
				w.within(2*time.Second, "all heard", func() bool { return len(n.everyone()) == 3 && n.allHeard() })
				if _, err := w.fetchedState(n, goal); err != nil {
					t.Fatal(err)
				}
				if !w.banned(n, liar.host, row.want)() || len(n.Bans()) != 1 {
					t.Errorf("bans: %v", n.Bans())
				}
				if one.asks == 0 || two.asks == 0 {
					t.Errorf("asked %d and %d times", one.asks, two.asks)
				}
			})
		})
	}
}

func (n *node) allHeard() bool {
	for _, r := range n.everyone() {
		if !n.hasStatus(r) {
			return false
		}
	}
	return true
}

// One peer never answers, one has no snapshot, one another one, one doesn't speak of state: none is banned, and the state
// is there as soon as those that have it have sent it.
func TestStateFromTheOthers(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	inWorld(t, func(w *world) {
		st, goal := stateOf(150_000, 1)
		one, two := *st, *st
		other, _ := stateOf(1000, 3)
		none := newFake(g)
		silent, old := w.liar(g, func() wire.Status { return statusOf(none) }), w.liar(g, func() wire.Status { return statusOf(none) })
		stop := make(chan struct{})
		w.stop = append(w.stop, func() { close(stop) })
		asked := make(chan struct{}, 100)
		w.handle(silent, g, wire.NameState, func(s network.Stream) {
			asked <- struct{}{}
			<-stop
		})
		a, b, c, d := w.serving(g, &one), w.serving(g, &two), w.serving(g, nil), w.serving(g, other)
		n := w.start(newFake(g), nil, a.addr(), b.addr(), c.addr(), d.addr(), addrOf(silent), addrOf(old))
		w.within(2*time.Second, "all heard", func() bool { return len(n.everyone()) == 6 && n.allHeard() })
		lists := n.AskSnapshots(w.Context())
		if len(lists) != 6 {
			t.Errorf("%d lists", len(lists))
		}
		took, err := w.fetchedState(n, goal)
		if err != nil {
			t.Fatal(err)
		}
		if took > n.t.stall {
			t.Errorf("it took %v", took)
		}
		if len(asked) == 0 || len(n.Bans()) > 0 {
			t.Errorf("the silent one was asked %d times; bans: %v", len(asked), n.Bans())
		}
		for _, accounts := range []uint64{0, 1, 1 << 60} { // whatever is said of their number
			goal.Accounts = accounts
			if _, err := w.fetchedState(n, goal); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.fetchedState(n, StateGoal{Height: 1024, Block: chain.BlockID{9}}); !errors.Is(err, ErrNoState) {
			t.Fatal(err)
		}
		enough := errors.New("enough")
		if err := n.FetchState(w.Context(), goal, func([]wire.Leaf) error { return enough }); err != enough {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.Context())
		cancel()
		if err := n.FetchState(ctx, goal, func([]wire.Leaf) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}
