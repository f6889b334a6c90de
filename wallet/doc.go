// Package wallet keeps keys, and builds and signs transactions with them.
//
// A wallet file holds either a seed, from which any number of accounts derive,
// or one secret key. Keys never leave the process that opened the file: a node
// sees signed transactions only.
//
//	bip39.go    words <-> entropy (BIP-39, English list)
//	bip32.go    seed -> account keys (BIP-32, m/44'/4820'/0'/0/i)
//	keyfile.go  the sealed, versioned file format: values in, bytes out;
//	            secret.go is what is sealed, strictjson.go reads the JSON
//	store.go    that file on disk: create once, replace atomically, list
//	wallet.go   Create, Restore, Import, Open; accounts of an open wallet
//	key.go      one key: sign a transaction
//	build.go    transactions from payments: checks and fee
//	amount.go   "1.5" <-> 150000000 knots
package wallet
