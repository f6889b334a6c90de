package p2p

import (
	"testing"
	"time"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

// TestServeProof: what is asked under which block, what comes, and that bytes which decode to nothing are charged.
func TestServeProof(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	blocks := testChain(g, 12, 1)
	raws, _ := chain.SplitBody(blocks[4].Body)
	id := chain.TxIDOf(g.NetworkID(), raws[0])
	inWorld(t, func(w *world) {
		f := newFake(g)
		f.load(blocks)
		n := w.start(f, nil)
		h := w.liar(g, func() wire.Status { return statusOf(f) })
		w.dialTo(h, n)
		ask := func(request []byte) []byte {
			st := w.ask(h, n, wire.NameProof, request)
			st.SetDeadline(time.Now().Add(10 * time.Second))
			b, _ := wire.ReadFrame(st, wire.MaxProofAnswer)
			return b
		}
		for _, c := range []struct {
			what   string
			kind   wire.ProofKind
			anchor *chain.Header
			id     [32]byte
			want   wire.ProofCode
		}{
			{"under the tip", wire.ProofTx, &blocks[11].Header, id, wire.ProofFollows},
			{"under a block between", wire.ProofTx, &blocks[6].Header, id, wire.ProofFollows},
			{"under its own block", wire.ProofTx, &blocks[4].Header, id, wire.ProofFollows},
			{"of nobody", wire.ProofTx, &blocks[11].Header, [32]byte{1}, wire.ProofMissing},
			{"under a block that is not known", wire.ProofTx, &chain.Header{Height: 3}, id, wire.ProofElsewhere},
		} {
			q := wire.ProofRequest{Kind: c.kind, Anchor: c.anchor.ID(), Subject: c.id}
			code, p, err := wire.DecodeTxProof(ask(q.Append(nil)))
			if err != nil || code != c.want {
				t.Errorf("%s: code %d, %v", c.what, code, err)
			}
			if code == wire.ProofFollows {
				if _, err := g.VerifyTx(&p, c.anchor, c.id); err != nil {
					t.Errorf("%s: %v", c.what, err)
				}
			}
		}
		q := wire.ProofRequest{Kind: wire.ProofAccount, Anchor: blocks[11].Header.ID()}
		if code, _, err := wire.DecodeAccountProof(ask(q.Append(nil))); err != nil || code != wire.ProofElsewhere {
			t.Errorf("account: code %d, %v", code, err)
		}
		q.Kind = 3
		ask(q.Append(nil))
		w.within(time.Second, "banned", w.banned(n, h, Malformed))
	})
}
