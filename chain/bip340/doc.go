// Package bip340 is BIP-340: Schnorr signatures over secp256k1 with 32-byte x-only public keys and 64-byte signatures
// (https://github.com/bitcoin/bips/blob/master/bip-0340.mediawiki).
//
// [Verify] is the rule: a signature is valid exactly when Verify says so. [VerifyBatch] and [Invalid] check many
// signatures with one sum of multiples of points, which is many times cheaper a signature. A batch only shortcuts
// acceptance; what a batch doesn't accept, Verify decides. The two share no arithmetic: Verify stands on dcrd's secp256k1,
// the batch on this package's own.
//
//	batch.go   items, chunks, halving of a batch that fails        term.go    items to the equation of a batch
//	lift.go    square roots, hints                                 keys.go    keys remembered over calls
//	msm.go     sums of multiples of points (Pippenger)             sums.go    lists of points, added up in affine form
//	field.go   arithmetic modulo p      root.go  roots, inverse    scalar.go  arithmetic modulo n, the endomorphism
//	group.go   points                   verify.go, sign.go, tag.go: one signature
//
// The tests hold each layer against another implementation (math/big, gnark-crypto, btcec), and single and batch against
// each other on every kind of malformed input.
//
// Nothing here keeps state between calls but spare memory and what a [Keys] is asked to; nothing logs or returns a secret.
// All functions may be called from several goroutines.
// A batch runs on one core: use several goroutines over several slices for several cores.
//
// Pointers given to this package must not be nil. No function keeps them or writes through them.
package bip340
