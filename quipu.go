// Package quipu embeds the constants of the open network, so that a binary needs no file beside it.
package quipu

import _ "embed"

// GenesisJSON is genesis.json: network quipu-open.
//
//go:embed genesis.json
var GenesisJSON []byte
