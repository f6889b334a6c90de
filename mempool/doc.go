// Package mempool holds what may be in the next blocks: checked transactions that wait. Values in, values out; one
// mutex, no goroutine, no clock. What it refuses is policy and blames nobody: another node may see another tip.
//
// An account's transactions form a chain of nonces. Those that follow the tip's nonce without a hole, and that the
// account's balance on the tip pays for altogether, are pending: they are offered to miners and to other nodes. The
// rest is gapped: it waits behind a missing nonce or, after a reorg or a replacement, for funds. Gapped ones have small
// caps of their own, a limited life counted in blocks, and never push out a pending one.
//
// # Order
//
// Fee rates are compared as exact fractions fee/length. A transaction can't be mined before those in front of it, so
// its effective rate is the lowest rate of its account's chain up to and including itself. Candidates yields
// falling effective rates; eviction takes the lowest first, which is always the tail of some account's chain.
//
// # Policy
//
//   - A newcomer to a full pool evicts only what it beats by min_fee_rate a byte (and by anything, if that is 0):
//     the incremental relay fee of Bitcoin Core, without which a flood of ever so slightly dearer transactions is
//     relayed for the price of its last part.
//   - A replacement of the same (from, nonce) pays at least 1.1 times the old fee rate and at least
//     old fee + min_fee_rate × its length. If it leaves followers without funds it pays their fees as well (BIP 125,
//     rule 3); they then wait among the gapped as far as the caps allow.
//   - valid_until leaves at least MinValidity blocks at admission.
//   - The fee covers account_price for each recipient that doesn't exist on the tip. Apply decides anew: whoever builds
//     a block skips what ApplyTx refuses, and may Discard it.
//
// # Use
//
// Update must see every change of the best chain, in order. Add may run at any time with accounts read from the
// ledger: if they are older than the pool's last Update it answers ErrBehind and the caller reads them again.
package mempool
