// Package chain is what a ledger is: the formats and rules of docs/spec.md as functions of values. It has no
// clock, disk, network, goroutine that outlives a call, or logger.
//
// The life of a block: DecodeHeader → CheckHeader (needs the parent's State) → CheckBody (is this the body the header
// commits to?) → CheckBlocks (everything that needs no ledger, signatures included, many blocks at once) → Apply
// (needs the accounts it touches) → CheckStateRoot. Passing a check changes the type: Block becomes CheckedBlock,
// and nothing downstream takes an unchecked one.
//
// # Errors
//
// An error answers "whose fault?" first. errors.As(err, *RuleError): whoever made the value broke a rule, and
// errors.Is(err, ErrX) says which one. WrongBody(err): whoever served the body is to blame, the block may be valid.
// ErrUnknownParent and ErrUpgrade are nobody's fault. Overlay.ApplyTx names a kind but blames nobody, since balance
// and nonce depend on which tip a peer has.
package chain
