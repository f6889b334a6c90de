package node

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p"
	"quipu/p2p/light"
	"quipu/p2p/wire"
)

// answerer is a host that answers requests by name as told, and no others.
func (w *world) answerer(answers map[string]func(request []byte) []byte) p2p.Host {
	h := w.host()
	w.stop = append(w.stop, func() { h.Close() })
	for name, answer := range answers {
		h.SetStreamHandler(protocol.ID(wire.ProtocolID(w.g.NetworkID(), name)), func(st network.Stream) {
			defer st.Close()
			if q, err := wire.ReadFrame(st, 1<<16); err == nil {
				if b := answer(q); b != nil {
					wire.WriteFrame(st, b)
				}
			}
		})
	}
	return h
}

func (w *world) light(file string, peers ...string) *light.Client {
	w.Helper()
	h := w.host()
	w.stop = append(w.stop, func() { h.Close() })
	c, err := light.New(light.Config{Genesis: w.g, Peers: peers, File: file, Timeout: 5 * time.Second}, h)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

func addrOf(h p2p.Host) string { return h.Addrs()[0].String() + "/p2p/" + h.ID().String() }

// mirror answers as a node does, of its ledger.
func mirror(n *Node) map[string]func([]byte) []byte {
	return map[string]func([]byte) []byte{
		wire.NameStatus: func([]byte) []byte { return statusLike(n, n.BestHeader().Work) },
		wire.NameHeaders: func(b []byte) []byte {
			q, _ := wire.DecodeHeadersRequest(b)
			return wire.AppendHeaders(nil, n.HeadersAfter(q.Locator, int(q.Max)))
		},
		wire.NameProof: func(b []byte) []byte {
			q, _ := wire.DecodeProofRequest(b)
			p, code := n.AccountProof(q.Anchor, q.Subject)
			return wire.AppendAccountProof(nil, code, &p)
		},
	}
}

func statusLike(n *Node, work chain.Work) []byte {
	best := n.BestHeader()
	st := wire.Status{BestID: best.ID, BestHeight: best.Header.Height, BestWork: work, TipID: best.ID, TipHeight: best.Header.Height,
		TipWork: best.Work, Version: 1, Clock: uint64(time.Now().UnixMilli())}
	return st.Append(nil)
}

// TestLightClient: two honest nodes that go on mining, and one peer that answers as they do and lies in one thing. What is
// right is found, the liar isn't counted, and its error says why.
func TestLightClient(t *testing.T) {
	inWorld(t, worldGenesis(1), func(w *world) {
		a, b := w.start(mining("miner")), w.start(nil)
		w.within(10*time.Second, "connected", func() bool { return len(a.net.Peers()) == 1 })
		id := submit(w, a, alice.Pay(w.g, 0, 0, chaintest.To(bob, 7)))
		w.within(time.Minute, "paid", confirmed(id, 3, a, b))
		ctx := context.Background()

		forge := func(edit func(p *chain.AccountProof)) func([]byte) []byte {
			return func(q []byte) []byte {
				code, p, err := wire.DecodeAccountProof(mirror(a)[wire.NameProof](q))
				if err != nil || code != wire.ProofFollows {
					return wire.AppendAccountProof(nil, code, &p)
				}
				edit(&p)
				return wire.AppendAccountProof(nil, code, &p)
			}
		}
		for _, c := range []struct {
			name, answers string
			lie           func([]byte) []byte
			want          string // of the liar's error
		}{
			{"a higher balance", wire.NameProof, forge(func(p *chain.AccountProof) { p.State.Balance++ }), "does not lead to the root"},
			{"no such account", wire.NameProof, forge(func(p *chain.AccountProof) { p.Exists, p.State = false, chain.AccountState{} }), "does not lead to the root"},
			{"a header of its own", wire.NameProof, forge(func(p *chain.AccountProof) { p.Block.Header.StateRoot[0] ^= 1 }), "not shown to be an ancestor"},
			{"bytes", wire.NameProof, func([]byte) []byte { return []byte{9, 9} }, "proof answer with code 9"},
			{"silence", wire.NameProof, func([]byte) []byte { return nil }, ""},
			{"more work than there is", wire.NameStatus, func([]byte) []byte {
				best := a.BestHeader()
				best.Work[3] = 1
				return statusLike(a, best.Work)
			}, "claims more work"},
			{"headers without work", wire.NameHeaders, func([]byte) []byte {
				s := w.g.State()
				h := w.g.NewHeader(&s, bob.Account, 0)
				for chain.MeetsTarget(h.ID(), h.Bits) {
					h.Nonce++
				}
				return wire.AppendHeaders(nil, []chain.Header{h})
			}, "header-work"},
			{"headers of nowhere", wire.NameHeaders, func([]byte) []byte {
				return wire.AppendHeaders(nil, []chain.Header{{Height: 1}})
			}, "follow none of those named"},
		} {
			answers := mirror(a)
			answers[c.answers] = c.lie
			liar := w.answerer(answers)
			client := w.light("", addrOf(liar), a.net.Addrs()[0], b.net.Addrs()[0])
			got, err := client.Account(ctx, alice.Account)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			_, accs, _ := a.ledger.Accounts([]chain.Account{alice.Account})
			if !got.Exists || got.State != accs[alice.Account] || got.Agreed != 2 || got.Asked != 3 {
				t.Errorf("%s: %+v, %d of %d, want %+v", c.name, got.State, got.Agreed, got.Asked, accs[alice.Account])
			}
			if e := got.Peers[0].Err; e == nil || !strings.Contains(e.Error(), c.want) || got.Peers[1].Err != nil || got.Peers[2].Err != nil {
				t.Errorf("%s: %+v", c.name, got.Peers)
			}
		}

		file := filepath.Join(t.TempDir(), "headers")
		client := w.light(file, a.net.Addrs()[0], b.net.Addrs()[0])
		if got, err := client.Account(ctx, carol.Account); err != nil || got.Exists || got.State != (chain.AccountState{}) || got.Agreed < 1 {
			t.Errorf("an account that was never paid: %+v %v", got, err)
		}
		got, err := client.Tx(ctx, id)
		loc, _, _, _ := a.ledger.FindTx(id)
		if err != nil || got.Tx.ID() != id || got.Block.Height != loc.Height || int(got.Index) != loc.Index || got.Agreed != 2 || got.Confirmations < 3 {
			t.Errorf("payment: %+v %v", got, err)
		}
		if _, err := client.Tx(ctx, chain.TxID{1}); !errors.Is(err, light.ErrUnknownTx) {
			t.Errorf("a transaction that isn't there: %v", err)
		}
		best := client.Best()
		again := w.light(file, a.net.Addrs()[0])
		if kept := again.Best(); kept.ID != best.ID || kept.NextHistoryRoot() != best.NextHistoryRoot() || kept.Work != best.Work {
			t.Error("headers weren't kept")
		}
		if got, err := again.Account(ctx, alice.Account); err != nil || got.Best.Header.Height < best.Header.Height {
			t.Errorf("from the file: %+v %v", got, err)
		}

		alone := w.light("", addrOf(w.answerer(nil)))
		if _, err := alone.Account(ctx, alice.Account); !errors.Is(err, light.ErrNoPeers) {
			t.Errorf("no node among the peers: %v", err)
		}
		if n := len(a.net.Bans()) + len(b.net.Bans()); n > 0 {
			t.Errorf("a light client was banned: %v %v", a.net.Bans(), b.net.Bans())
		}
	})
}
