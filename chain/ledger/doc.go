// Package ledger is what this node keeps: every header it accepted, the bodies it holds, and the accounts as they
// stand after the heaviest branch whose blocks are all complete and valid. It is the only package that knows Badger.
// One mutex, no goroutine of its own.
//
// # What is atomic
//
// Headers and bodies are stored first, in transactions of their own; they say nothing about what is valid. One
// apply or revert of a block is a unit: tip, supply, main index, accounts, transaction index and undo change in one
// Badger transaction, and several units may share one. A crash therefore leaves a valid, merely older chain (in the
// middle of a reorg perhaps a lighter one), and Open goes on with fork choice from there.
//
// # Fork choice
//
// Most work among branches whose bodies are all here and none of whose blocks is known to be invalid; between equal
// ones the branch whose last body was complete first, by a sequence number that is stored with the body. A block
// that fails is marked invalid with its reason, its descendants with it, and the choice is made again.
//
// # Memory
//
// All headers' ids and links (about 200 bytes each) and the whole tree of accounts are kept in memory, both brought
// up at Open; reads of accounts and proofs never touch the disk.
package ledger
