package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"quipu/chain"
	"quipu/rpc"
)

// goal is how far a transaction must have come.
type goal int

const (
	waitNone      goal = iota // the node took it
	waitVerified              // this node verified it, and more than half of its peers say they did
	waitIncluded              // in a block of the best chain
	waitConfirmed             // that block is so many deep
)

var goals = []string{"none", "verified", "included", "confirmed"}

func parseGoal(s string) (goal, error) {
	for i, name := range goals {
		if s == name {
			return goal(i), nil
		}
	}
	return 0, usageError("", "--wait %q: one of %s", s, strings.Join(goals, ", "))
}

// Times between two questions about a transaction: short at first, when much happens.
const (
	pollFirst   = 50 * time.Millisecond
	pollMost    = 500 * time.Millisecond
	callTimeout = 5 * time.Second // of one question: a node that hangs must not hide the deadline
)

// resendAfter is the time between handing in anew what the node lost. Tests shorten it.
var resendAfter = 2 * time.Second

// waiter follows one transaction by asking a node, and says each step once. It gives up for one of three reasons:
// the transaction can't get there any more, the context's deadline, or the context was cancelled.
type waiter struct {
	a       *app
	node    *rpc.Client
	id      chain.TxID
	raw     []byte // to hand in anew if the node forgot it; nil never does. The same bytes can't pay twice.
	goal    goal
	depth   uint64 // confirmations wanted, at least 1
	start   time.Time
	changed func(*rpc.TxStatus) error // nil, or told of every change

	last     rpc.TxStatus // as last seen; zero before
	down     error        // why the last question had no answer
	said     goal         // highest step said
	block    *chain.BlockID
	lastSent time.Time
}

// run waits until the goal is reached. Its errors are exitErrors: exit 6 if it never can be, exit 7 after the
// deadline.
func (w *waiter) run(ctx context.Context) error {
	w.depth = max(w.depth, 1)
	w.lastSent = time.Now()
	pause := pollFirst
	for {
		s, err := w.poll(ctx)
		if ctx.Err() != nil {
			return w.over(ctx)
		}
		if w.down = err; err == nil {
			if err := w.note(&s); err != nil {
				return err
			}
			if w.reached() {
				return nil
			}
			if err := w.hopeless(); err != nil {
				return err
			}
			w.resend(ctx)
		} else if !transient(err) || w.raw == nil && w.last.State == "" && unreachable(err) {
			return err // a watch that finds no node at its first question says so at once
		}
		select {
		case <-ctx.Done():
			return w.over(ctx)
		case <-time.After(pause):
			pause = min(pause*3/2, pollMost)
		}
	}
}

func (w *waiter) poll(ctx context.Context) (rpc.TxStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return w.node.TxStatus(ctx, rpc.TxStatusParams{TxID: w.id, AskPeers: w.said < waitVerified, Confirmations: w.depth})
}

// transient reports whether asking again may help: the node is away, busy or starting.
func transient(err error) bool {
	var gone *rpc.Unreachable
	var silent *rpc.NoAnswer
	var call *rpc.Error
	return errors.As(err, &gone) || errors.As(err, &silent) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &call) && (call.Data.Retryable || call.Data.Name == rpc.NameInternal)
}

// unreachable reports that no node answers at all.
func unreachable(err error) bool {
	var gone *rpc.Unreachable
	return errors.As(err, &gone)
}

// note records an answer and says what is new in it.
func (w *waiter) note(s *rpc.TxStatus) error {
	peers := w.last.Peers
	if s.Peers != nil {
		peers = s.Peers
	}
	isNew := s.State != w.last.State || s.Confirmations != w.last.Confirmations || s.Never != w.last.Never ||
		s.ThisNode.Verified != w.last.ThisNode.Verified || peerWords(peers) != peerWords(w.last.Peers)
	w.last = *s
	w.last.Peers = peers
	w.say()
	if isNew && w.changed != nil {
		return w.changed(&w.last)
	}
	return nil
}

// say prints each step once, and again what a reorg took back.
func (w *waiter) say() {
	s := &w.last
	if w.said < waitVerified && s.ThisNode.Verified && (w.verified() || s.Block != nil) {
		w.said = waitVerified
		w.line("verified", "by this node; %s", peerWords(s.Peers))
	}
	if w.said >= waitIncluded && (s.Block == nil || *s.Block != *w.block) {
		w.said = waitVerified
		w.line("moved", "out of block %s: another branch is heavier", w.block)
	}
	if w.said < waitIncluded && s.Block != nil {
		w.said, w.block = waitIncluded, s.Block
		w.line("in block", "%d  %s", s.Height, s.Block)
	}
	if w.said == waitIncluded && s.Block != nil && s.Confirmations >= w.depth {
		w.said = waitConfirmed
		w.line("confirmed", "%d of %d", w.depth, w.depth)
	}
}

func (w *waiter) line(what, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.a.say("  %s  %-70s %s", w.a.paint("32", fmt.Sprintf("%-9s", what)), text, ago(time.Since(w.start)))
}

func peerWords(p *rpc.PeerEvidence) string {
	if p == nil || p.Asked == 0 {
		return "it has no peers to ask"
	}
	return fmt.Sprintf("%d of %d peers say verified too", p.Verified, p.Asked)
}

// verified: this node and more than half of its peers. Without peers nobody else did.
func (w *waiter) verified() bool {
	p := w.last.Peers
	return w.last.ThisNode.Verified && p != nil && 2*p.Verified > p.Asked
}

func (w *waiter) reached() bool {
	switch w.goal {
	case waitNone:
		return true
	case waitVerified:
		return w.verified() || w.last.Block != nil // a later step implies the earlier ones
	case waitIncluded:
		return w.last.Block != nil
	}
	return w.last.Block != nil && w.last.Confirmations >= w.depth
}

// hopeless is the error if the transaction can't be included any more.
func (w *waiter) hopeless() error {
	s := &w.last
	switch {
	case s.State == rpc.TxRejected:
		return fail(exitRejected, "", "the node rejected %s: %s", w.id, clean(s.Reason))
	case s.Never && s.Rival != nil:
		return fail(exitRejected, "quipu tx status "+s.Rival.String(), "%s was replaced: %s took its nonce. It will never be included", w.id, s.Rival)
	case s.Never:
		return fail(exitRejected, "", "%s expired: it will never be included, sending again is safe", w.id)
	}
	return nil
}

// resend hands the transaction in anew if the node has lost it, by a restart or for want of room.
func (w *waiter) resend(ctx context.Context) {
	lost := w.last.State == rpc.TxUnknown || w.last.State == rpc.TxDropped
	if !lost || w.raw == nil || time.Since(w.lastSent) < resendAfter {
		return
	}
	w.lastSent = time.Now()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, w.down = w.node.TxSubmit(ctx, w.raw) // its outcome shows in the next answer
}

// over is the error when the context ended: the time is over, or Ctrl-C.
func (w *waiter) over(ctx context.Context) error {
	how := fmt.Sprintf("not %s after %s", goals[w.goal], ago(time.Since(w.start)))
	code, outcome := exitUnknown, "outcome unknown, sending again is safe only with the same nonce"
	if errors.Is(ctx.Err(), context.Canceled) {
		code, how = exitInterrupted, "interrupted"
	}
	return fail(code, "quipu tx watch "+w.id.String(), "%s (%s): %s", how, w.where(), outcome)
}

// where says what is known of a transaction that isn't there yet.
func (w *waiter) where() string {
	s := &w.last
	switch {
	case w.down != nil:
		return "the node doesn't answer"
	case s.Block != nil:
		return fmt.Sprintf("in block %d with %d of %d confirmations", s.Height, s.Confirmations, w.depth)
	case s.State == "":
		return "the node has not answered"
	case w.goal == waitVerified && s.ThisNode.Verified:
		return "this node verified it; " + peerWords(s.Peers)
	}
	return stateWords(s)
}
