package wire

import "quipu/chain"

// Names of the stream protocols and topics.
const (
	NameStatus   = "status"
	NameHeaders  = "headers"
	NameBodies   = "bodies"
	NameBlockTxs = "blocktxs"
	NameTxStatus = "txstatus"
	NameState    = "state"
	NamePeers    = "peers"
	NameProof    = "proof"
	NamePool     = "pool"
	NameCompact  = "compact"

	TopicTxs    = "txs"
	TopicBlocks = "blocks"
)

// ProtocolID is "/quipu/<first 8 hex digits of the network id>/<name>/1": nodes of two networks share no protocol.
func ProtocolID(network chain.NetworkID, name string) string {
	return "/quipu/" + network.Short() + "/" + name + "/1"
}

// Topic has the form of ProtocolID; name is TopicTxs or TopicBlocks.
func Topic(network chain.NetworkID, name string) string { return ProtocolID(network, name) }
