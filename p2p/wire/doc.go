// Package wire holds the codec of every gossip and stream message (docs/protocol.md). It knows no libp2p, clock or
// disk. All integers are little-endian, every length is bounded before anything is allocated for it, and a value has
// one encoding: what doesn't encode back to the same bytes is refused.
//
// A *chain.RuleError of kind ErrMalformed, or of a decoding kind of package chain, says that the sender built a
// message that no honest node sends. Any other error of ReadFrame or ReadBody is the connection's and blames nobody.
package wire

import (
	"fmt"

	"quipu/chain"
)

// ErrMalformed is the kind of every error that this package finds by itself.
const ErrMalformed chain.ErrorKind = "wire-malformed"

func malformed(format string, args ...any) error {
	return &chain.RuleError{Kind: ErrMalformed, Desc: fmt.Sprintf(format, args...)}
}
