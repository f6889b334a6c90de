package p2p

import (
	"errors"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Verdict is what gossip does with a message, and whether what was served is used.
type Verdict uint8

const (
	Ignore Verdict = iota // nobody's fault, not forwarded
	Accept                // forwarded
	Reject                // the sender's fault
)

func (v Verdict) String() string { return [...]string{"ignore", "accept", "reject"}[v] }

// subject is what an error is about. The same broken rule blames the sender of one thing and not of another.
type subject uint8

const (
	aboutFrame  subject = iota // the bytes of a message
	aboutTx                    // a transaction in gossip or from a pool
	aboutHeader                // a header, gossiped (with its small body) or served
	aboutBody                  // a served body
)

// evidenceOf turns the outcome of a check into evidence, a row of the blame table. It is the only place that does.
func evidenceOf(about subject, err error) Evidence {
	var rule *chain.RuleError
	switch {
	case err == nil:
		return Fine
	case errors.Is(err, chain.ErrUnknownParent):
		return UnknownParent
	case errors.Is(err, chain.ErrUpgrade):
		return UpgradeNeeded
	case errors.Is(err, ErrInvalidAncestor):
		return InvalidAncestor
	case errors.Is(err, errOtherChain):
		return WrongRange
	case !errors.As(err, &rule):
		return NobodysFault // pool policy, too early, known already, or ours: the node logs its own
	case about == aboutFrame || rule.Kind == wire.ErrMalformed:
		return Malformed
	case about == aboutTx && rule.Kind == chain.ErrSignature:
		return TxSignature
	case about == aboutTx:
		return TxRule
	case chain.WrongBody(err):
		return WrongBody
	case about == aboutHeader && rule.Kind == chain.ErrWork:
		return HeaderWork
	case about == aboutHeader && headerRules[rule.Kind]:
		return HeaderRule
	default:
		return InvalidBlock
	}
}

// headerRules are H2 to H9 of docs/spec.md, without the work.
var headerRules = map[chain.ErrorKind]bool{
	chain.ErrHeight: true, chain.ErrVersion: true, chain.ErrTimeOrder: true, chain.ErrTimeLimit: true, chain.ErrBits: true,
	chain.ErrHistoryRoot: true, chain.ErrBodySize: true, chain.ErrTxCount: true,
}

// judgeBatch is the forward rule for a batch of transactions: Accept it as it is only if all of it passed the stateless
// checks here and at least 3/4 is newly admitted; Reject it if one broke a stateless rule; else Ignore it, and what is
// newly admitted rides in our own next batch.
func judgeBatch(results []TxResult) (ev Evidence, admitted int, detail error) {
	checked := 0
	for i := range results {
		if results[i].Admitted {
			admitted++
		}
		if results[i].Checked {
			checked++
		}
		if e := evidenceOf(aboutTx, results[i].Err); blame[e].Verdict == Reject && detail == nil {
			ev, detail = e, results[i].Err
		}
	}
	switch {
	case detail != nil:
		return ev, admitted, detail
	case checked == len(results) && 4*admitted >= 3*len(results):
		return Fine, admitted, nil
	default:
		return NobodysFault, admitted, nil
	}
}
