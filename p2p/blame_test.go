package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"quipu/chain"
	"quipu/chain/chaintest"
	"quipu/p2p/wire"
)

func rule(k chain.ErrorKind) error { return &chain.RuleError{Kind: k, Desc: "made by a test"} }

// evidenceCases has at least one line a row of the blame table that comes from an error.
var evidenceCases = []struct {
	about subject
	err   error
	want  Evidence
}{
	{aboutTx, nil, Fine},
	{aboutHeader, nil, Fine},
	{aboutFrame, rule(wire.ErrMalformed), Malformed},
	{aboutFrame, rule(chain.ErrBodyDecode), Malformed}, // a batch whose transactions don't decode
	{aboutFrame, rule(chain.ErrTruncated), Malformed},
	{aboutFrame, io.ErrUnexpectedEOF, NobodysFault},
	{aboutFrame, context.DeadlineExceeded, NobodysFault},
	{aboutTx, rule(chain.ErrSignature), TxSignature},
	{aboutTx, rule(chain.ErrZeroAmount), TxRule},
	{aboutTx, rule(chain.ErrFeeTooLow), TxRule},
	{aboutTx, rule(chain.ErrOverSupply), TxRule},
	{aboutTx, errors.New("nonce already used"), NobodysFault},
	{aboutTx, fmt.Errorf("%w: 5", chain.ErrNonce), NobodysFault}, // names a kind, blames nobody: no RuleError
	{aboutHeader, rule(chain.ErrWork), HeaderWork},
	{aboutHeader, rule(chain.ErrHeight), HeaderRule},
	{aboutHeader, rule(chain.ErrVersion), HeaderRule},
	{aboutHeader, rule(chain.ErrTimeOrder), HeaderRule},
	{aboutHeader, rule(chain.ErrTimeLimit), HeaderRule},
	{aboutHeader, rule(chain.ErrBits), HeaderRule},
	{aboutHeader, rule(chain.ErrHistoryRoot), HeaderRule},
	{aboutHeader, rule(chain.ErrBodySize), HeaderRule},
	{aboutHeader, rule(chain.ErrTxCount), HeaderRule},
	{aboutHeader, rule(chain.ErrTxRoot), WrongBody},
	{aboutHeader, rule(chain.ErrBodyDecode), WrongBody},
	{aboutBody, rule(chain.ErrTxRoot), WrongBody},
	{aboutBody, rule(wire.ErrMalformed), Malformed},
	{aboutHeader, chain.ErrUnknownParent, UnknownParent},
	{aboutHeader, chain.ErrUpgrade, UpgradeNeeded},
	{aboutHeader, ErrInvalidAncestor, InvalidAncestor},
	{aboutHeader, fmt.Errorf("%w: and why", errOtherChain), WrongRange},
	{aboutHeader, ErrTooEarly, NobodysFault},
	{aboutHeader, ErrKnown, NobodysFault},
	{aboutHeader, ErrLowWork, NobodysFault},
	// Whatever is wrong with the body of a header that keeps its rules: its relayer is never charged.
	{aboutHeader, rule(chain.ErrBodyCount), InvalidBlock},
	{aboutHeader, rule(chain.ErrBodyLength), InvalidBlock},
	{aboutHeader, rule(chain.ErrExpired), InvalidBlock},
	{aboutHeader, rule(chain.ErrSignature), InvalidBlock},
	{aboutHeader, rule(chain.ErrNonce), InvalidBlock},
	{aboutHeader, rule(chain.ErrStateRoot), InvalidBlock},
	{aboutBody, rule(chain.ErrBodyCount), InvalidBlock},
}

func TestEvidence(t *testing.T) {
	seen := map[Evidence]bool{}
	for _, c := range evidenceCases {
		if got := evidenceOf(c.about, c.err); got != c.want {
			t.Errorf("about %d, %v: %s, want %s", c.about, c.err, got, c.want)
		}
		seen[c.want] = true
	}
	// These come from no error: scene_test.go, abuse_test.go, serve_test.go, state_test.go and relay_test.go have their scenes.
	for _, ev := range []Evidence{InvalidTip, WrongState, Silent, Unproven, TooMany, OtherNetwork, Unread, WrongCompact} {
		seen[ev] = true
	}
	for ev, row := range blame {
		if !seen[ev] {
			t.Errorf("no test for %s", ev)
		}
		if row.Penalty == Ban && row.Verdict != Reject || row.Penalty != None && row.Expiry == 0 || row.Why == "" {
			t.Errorf("row %s: %+v", ev, row)
		}
	}
}

func TestForwardRuleOfBatches(t *testing.T) {
	fresh, known := TxResult{Admitted: true, Checked: true}, TxResult{Err: ErrKnown, Checked: true}
	filtered := TxResult{Err: errors.New("balance")} // its signature was never looked at
	forged := TxResult{Err: rule(chain.ErrSignature)}
	for _, c := range []struct {
		name     string
		in       []TxResult
		want     Evidence
		admitted int
	}{
		{"all new", []TxResult{fresh, fresh}, Fine, 2},
		{"three of four new", []TxResult{fresh, fresh, fresh, known}, Fine, 3},
		{"two of three new", []TxResult{fresh, fresh, known}, NobodysFault, 2},
		{"one not checked", []TxResult{fresh, fresh, fresh, fresh, filtered}, NobodysFault, 4},
		{"none new", []TxResult{known}, NobodysFault, 0},
		{"one forged", []TxResult{fresh, fresh, fresh, forged}, TxSignature, 3},
		{"a stateless rule first", []TxResult{{Err: rule(chain.ErrZeroAmount)}, forged}, TxRule, 0},
	} {
		if ev, n, _ := judgeBatch(c.in); ev != c.want || n != c.admitted {
			t.Errorf("%s: %s with %d admitted, want %s with %d", c.name, ev, n, c.want, c.admitted)
		}
	}
}

// Every row, entered against a stranger, a static peer and ourselves.
func TestPenalties(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	inWorld(t, func(w *world) {
		f := newFake(g)
		n := w.start(f, nil)
		for ev, row := range blame {
			stranger, static := w.liar(g, func() wire.Status { return statusOf(f) }), w.liar(g, func() wire.Status { return statusOf(f) })
			w.dialTo(stranger, n)
			if err := n.Connect(w.Context(), addrOf(static)); err != nil {
				t.Fatal(err)
			}
			w.within(time.Second, "both followed", func() bool {
				return n.remote(static.ID()) != nil && n.remote(static.ID()).hasStatusNow(n) && n.remote(stranger.ID()).hasStatusNow(n)
			})
			for _, p := range []peer.ID{stranger.ID(), static.ID(), n.host.ID()} {
				if v := n.charge(p, ev, errors.New("made by a test")); v != row.Verdict {
					t.Errorf("%s: verdict %s, want %s", ev, v, row.Verdict)
				}
			}
			rests := func(p peer.ID) bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				r := n.remotes[p]
				return r != nil && r.restUntil.After(time.Now())
			}
			if n.gate.denied(n.host.ID()) || w.banned(n, static, ev)() {
				t.Errorf("%s: we or a static peer are banned", ev)
			}
			if got, want := n.gate.denied(stranger.ID()), row.Penalty == Ban || row.Penalty == Disconnect; got != want {
				t.Errorf("%s: stranger denied %v, want %v", ev, got, want)
			}
			if got := w.banned(n, stranger, ev)(); got != (row.Penalty == Ban) {
				t.Errorf("%s: stranger banned %v", ev, got)
			}
			if got := rests(stranger.ID()); got != (row.Penalty == Rest) {
				t.Errorf("%s: stranger rests %v", ev, got)
			}
			if got := rests(static.ID()); got != (row.Penalty == Rest || row.Penalty == Ban) {
				t.Errorf("%s: static peer rests %v", ev, got)
			}
			if row.Penalty >= Disconnect {
				n.gate.mu.Lock()
				if got := n.gate.refused[stranger.ID()]; got.until.Sub(got.at) != row.Expiry || got.evidence != ev || got.detail == "" {
					t.Errorf("%s: refused %+v, want it for %v", ev, got, row.Expiry)
				}
				n.gate.mu.Unlock()
			}
			stranger.Close()
			static.Close()
			w.within(time.Minute, "gone", func() bool { return n.remote(static.ID()) == nil && n.remote(stranger.ID()) == nil })
		}
	})
}

func (r *remote) hasStatusNow(n *node) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return r != nil && r.hasStatus
}

func TestTooManyRequestsAreResetNotBanned(t *testing.T) {
	g := chaintest.Genesis(nil, alice)
	inWorld(t, func(w *world) {
		f := newFake(g)
		n := w.start(f, nil)
		h := w.liar(g, func() wire.Status { return statusOf(f) })
		w.dialTo(h, n)
		q := wire.HeadersRequest{Locator: f.Locator(), Max: 1}
		const workers, each = 12, 80
		start := time.Now()
		served := make(chan int)
		for range workers {
			go func() {
				ok := 0
				for range each {
					if w.send(h, n, wire.NameHeaders, wire.AppendFrame(nil, q.Append(nil))) == nil {
						ok++
					}
				}
				served <- ok
			}()
		}
		sum := 0
		for range workers {
			sum += <-served
		}
		most := requestsBurst + int(requestsASecond*time.Since(start).Seconds()) + 1
		if sum < requestsBurst/2 || sum > most {
			t.Errorf("%d of %d requests served, want at most %d", sum, workers*each, most)
		}
		if len(n.Bans()) > 0 || n.remote(h.ID()) == nil {
			t.Errorf("bans %+v", n.Bans())
		}
	})
}

func TestGateHoldsALimitedNumber(t *testing.T) {
	g := newGate()
	now := time.Now()
	for i := range maxBans + 10 {
		g.refuse(peer.ID(fmt.Sprint(i)), refusal{evidence: Malformed, at: now, until: now.Add(time.Hour + time.Duration(i)*time.Second), ban: true})
	}
	if n := len(g.bans()); n != maxBans {
		t.Errorf("%d bans, want %d", n, maxBans)
	}
	if g.denied("0") || !g.denied(peer.ID(fmt.Sprint(maxBans))) {
		t.Error("not the one that ends first went")
	}
	g.refuse("x", refusal{until: now.Add(2 * time.Hour), ban: true})
	g.refuse("x", refusal{until: now.Add(time.Minute)})
	if !g.refused["x"].ban {
		t.Error("a shorter refusal has replaced a ban")
	}
	g.pardon("x")
	if g.denied("x") {
		t.Error("denied after a pardon")
	}
}

func TestRefusalExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		now := time.Now()
		g.refuse("x", refusal{evidence: Malformed, at: now, until: now.Add(time.Hour), ban: true})
		time.Sleep(time.Hour - time.Nanosecond) // virtual
		if !g.denied("x") || len(g.bans()) != 1 {
			t.Error("pardoned early")
		}
		time.Sleep(time.Nanosecond)
		if g.denied("x") || len(g.bans()) != 0 {
			t.Error("denied after the end")
		}
	})
}
