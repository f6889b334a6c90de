// Package bip340 is BIP-340: Schnorr signatures over secp256k1 with 32-byte x-only public keys and 64-byte signatures
// (https://github.com/bitcoin/bips/blob/master/bip-0340.mediawiki).
//
// [Verify] is the rule: a signature is valid exactly when Verify says so. [VerifyBatch] and [Invalid] check many
// signatures with one multi-exponentiation, which is several times cheaper a signature. A batch only shortcuts
// acceptance; what a batch doesn't accept, Verify decides. The two stand on different libraries (dcrd's secp256k1 for
// one, gnark-crypto's for many), and the tests hold them against each other on every kind of malformed input.
//
// Nothing here keeps state between calls, logs or returns a secret; all functions may be called from several goroutines.
// A batch runs on one core: use several goroutines over several slices for several cores.
//
// Pointers given to this package must not be nil. No function keeps them or writes through them.
package bip340
