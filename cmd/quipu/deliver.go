package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"quipu/chain"
	"quipu/rpc"
)

// sendDoc is the result of send, also when it fails once the txid is known. Amounts are in knots.
type sendDoc struct {
	Schema        string       `json:"schema"`
	TxID          chain.TxID   `json:"txid"`
	Outcome       string       `json:"outcome"` // dry_run, sent, verified, included, confirmed, rejected, unknown, unreachable, interrupted, failed
	Status        rpc.TxState  `json:"status"`  // as the node last said; "" if it never did
	Network       rpc.Network  `json:"network"`
	From          string       `json:"from"`
	To            string       `json:"to"`
	Amount        rpc.Decimal  `json:"amount"`
	Fee           rpc.Decimal  `json:"fee"`
	AccountPrice  rpc.Decimal  `json:"account_price"` // part of the fee that is burned, for a recipient without an account
	Nonce         rpc.Decimal  `json:"nonce"`
	ValidUntil    uint32       `json:"valid_until"`
	Verified      verifiedDoc  `json:"verified"`
	Block         *blockRefDoc `json:"block"`
	Confirmations uint64       `json:"confirmations"`
	ElapsedMS     int64        `json:"elapsed_ms"`
}

type verifiedDoc struct {
	Local         bool `json:"local"`
	PeersAsked    int  `json:"peers_asked"`
	PeersVerified int  `json:"peers_verified"`
	PeersRejected int  `json:"peers_rejected"`
}

type blockRefDoc struct {
	Height uint64        `json:"height"`
	ID     chain.BlockID `json:"id"`
}

// deliver hands the signed transaction in and waits. The txid is printed first: whatever happens then, it is known.
func (s *sending) deliver(ctx context.Context) error {
	s.start = time.Now()
	if !s.a.json {
		if _, err := fmt.Fprintln(s.a.out, s.id); err != nil {
			return fmt.Errorf("the txid could not be printed, so nothing was sent: %w", err)
		}
	}
	s.a.say("  signed here, the key never left this process")
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	w := &waiter{a: s.a, node: s.node, id: s.id, raw: s.tx.Append(nil), goal: s.goal, depth: s.depth, start: s.start}
	err := s.submit(ctx, w)
	if err == nil && s.goal != waitNone {
		err = w.run(ctx)
	}
	if e := (*exitError)(nil); errors.As(err, &e) && e.code == exitUnknown {
		e.hint += fmt.Sprintf("\nquipu send %s %s --wallet %s --nonce %d", shellQuote(s.to), s.amount, s.from.Name, s.tx.Nonce)
	}
	if s.a.json {
		if jerr := s.a.writeJSON(s.doc(w, s.outcome(err))); jerr != nil && err == nil {
			return jerr
		}
	}
	return err
}

// submit hands it in until the node has answered. Doing so again is safe: the same bytes fill one place of the
// account's order.
func (s *sending) submit(ctx context.Context, w *waiter) error {
	pause := pollFirst
	asked := false // whether the node may have it
	for {
		try, cancel := context.WithTimeout(ctx, callTimeout)
		got, err := s.node.TxSubmit(try, w.raw)
		cancel()
		var gone *rpc.Unreachable
		var call *rpc.Error
		switch {
		case err == nil:
			w.last.State = got.State
			return nil
		case ctx.Err() != nil:
			w.down = err
			return w.over(ctx)
		case errors.As(err, &gone) && !asked:
			return err // nothing was carried out
		case errors.As(err, &call) && call.Data.Name != rpc.NameTimeout && call.Data.Name != rpc.NameBusy:
			e := classifyCall(call)
			if asked && e.code == exitRejected {
				return nil // an earlier attempt may have been taken: let the status say
			}
			return &exitError{e.code, fmt.Errorf("the node didn't take %s: %w", s.id, e.err), e.hint}
		}
		asked = asked || call == nil
		w.down = err
		select {
		case <-ctx.Done():
			return w.over(ctx)
		case <-time.After(pause):
			pause = min(pause*2, pollMost)
		}
	}
}

func (s *sending) outcome(err error) string {
	if err == nil && s.goal == waitNone {
		return "sent"
	}
	if err == nil {
		return goals[s.goal]
	}
	switch classify(err).code {
	case exitRejected, exitFunds:
		return "rejected"
	case exitUnknown:
		return "unknown"
	case exitUnreachable:
		return "unreachable"
	case exitInterrupted:
		return "interrupted"
	}
	return "failed"
}

func (s *sending) doc(w *waiter, outcome string) sendDoc {
	d := sendDoc{
		Schema: "quipu.send/v1", TxID: s.id, Outcome: outcome, Status: w.last.State, Network: rpc.NetworkOf(s.g),
		From: s.from.Address, To: chain.EncodeAddress(s.g.Prefix, s.tx.Outputs[0].To), Amount: rpc.Decimal(s.tx.Outputs[0].Amount),
		Fee: rpc.Decimal(s.tx.Fee), AccountPrice: rpc.Decimal(s.price), Nonce: rpc.Decimal(s.tx.Nonce), ValidUntil: s.tx.ValidUntil,
		Confirmations: w.last.Confirmations, Verified: verifiedDoc{Local: w.last.ThisNode.Verified},
	}
	if !s.start.IsZero() {
		d.ElapsedMS = time.Since(s.start).Milliseconds()
	}
	if p := w.last.Peers; p != nil {
		d.Verified.PeersAsked, d.Verified.PeersVerified, d.Verified.PeersRejected = p.Asked, p.Verified, p.Rejected
	}
	if w.last.Block != nil {
		d.Block = &blockRefDoc{w.last.Height, *w.last.Block}
	}
	return d
}
