package rpc

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"quipu/chain"
)

// Limits of single calls.
const (
	MaxSubmit = 500  // transactions of one tx_submit
	MaxBlocks = 100  // headers of one chain_blocks
	MaxList   = 1000 // entries of mempool_list and events_since
	MaxGate   = 1000 // peers of one admin_gate
)

// Decimal is an unsigned integer written as a decimal string without leading zeros: an amount in knots, a nonce.
type Decimal uint64

func (d Decimal) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, strconv.FormatUint(uint64(d), 10)), nil
}

func (d *Decimal) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil || b[0] != '"' {
		return fmt.Errorf("%.30s is no decimal string", b)
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return fmt.Errorf("%.30q is no plain decimal integer below 2^64", s)
	}
	*d = Decimal(n)
	return nil
}

// List is a slice that is written as [] when it is nil, never as null.
type List[T any] []T

func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// NoParams is the parameters of a method that takes none.
type NoParams struct{}

// Network names the network a node is on.
type Network struct {
	Name   string          `json:"name"`
	ID     chain.NetworkID `json:"id"`
	Prefix string          `json:"prefix"` // of addresses
}

// BlockRef names a block and says when its miner says it was made.
type BlockRef struct {
	Height uint64        `json:"height"`
	ID     chain.BlockID `json:"id"`
	TimeMS uint64        `json:"time_ms"`
}

// NodeStatus is the result of node_status: what one screen shows.
type NodeStatus struct {
	Version    string       `json:"version"`
	Name       string       `json:"name,omitempty"` // in a test network: node-3
	PID        int          `json:"pid"`
	Started    time.Time    `json:"started"`
	UptimeMS   int64        `json:"uptime_ms"`
	Network    Network      `json:"network"`
	PeerID     string       `json:"peer_id"`
	Listen     List[string] `json:"listen"` // multiaddresses with the peer id
	HTTP       string       `json:"http"`   // URL of this listener
	Tip        BlockRef     `json:"tip"`    // validated by this node
	TipAgeMS   int64        `json:"tip_age_ms"`
	StateRoot  chain.Hash   `json:"state_root"`
	Work       string       `json:"work"`        // of the tip, decimal
	BestHeader BlockRef     `json:"best_header"` // most work among headers not known invalid
	Sync       SyncStatus   `json:"sync"`
	Peers      PeerCount    `json:"peers"`
	Discovery  *Discovery   `json:"discovery,omitempty"` // absent: off
	Bans       int          `json:"bans"`
	Mempool    MempoolStats `json:"mempool"`
	Mining     Mining       `json:"mining"`
	Supply     Supply       `json:"supply"`
	History    *HistoryAt   `json:"history,omitempty"`
	Pruned     uint64       `json:"pruned,omitempty"` // bodies of blocks up to this height aren't kept
	// Verified says that this node applied every block from genesis itself; false while it stands on a snapshot that isn't
	// confirmed, or looks for one.
	Verified bool          `json:"verified"`
	Snapshot *SnapshotSync `json:"snapshot,omitempty"` // nil once it is verified
	EventSeq uint64        `json:"event_seq"`          // newest event: read /events from here
	Health   List[Check]   `json:"health"`
	Hint     string        `json:"hint,omitempty"` // what to type next
}

// SyncStatus says how far the validated tip is behind the best header.
type SyncStatus struct {
	State  string `json:"state"`  // "synced", "headers", "bodies", "no_peers", "rebuilding", "snapshot"
	Behind uint64 `json:"behind"` // blocks
	Peers  int    `json:"peers"`  // being fetched from

	Rate    float64 `json:"rate"`    // bytes of bodies a second, over the last seconds
	TxRate  float64 `json:"tx_rate"` // transactions a second, the same
	ETAMS   int64   `json:"eta_ms"`  // until the best header is reached at the pace of the last seconds; 0 isn't known
	Pending int     `json:"pending"` // bodies that are listed and not asked for yet
	Flying  int     `json:"flying"`  // bodies asked for, or waiting for import
	Waiting int     `json:"waiting"` // bytes of those that have come
	Bytes   uint64  `json:"bytes"`   // of bodies, since the start
	Hedged  uint64  `json:"hedged"`  // bytes asked of a second peer, since the start
	InVain  uint64  `json:"in_vain"` // bytes of bodies received a second time, since the start
}

// SnapshotSync is how far a node is that begins with a snapshot.
type SnapshotSync struct {
	State    string        `json:"state"`            // "waiting" for one, "loading", fetching "history", "replay" of it
	Height   uint64        `json:"height,omitempty"` // of its block
	Block    chain.BlockID `json:"block"`
	Accounts uint64        `json:"accounts,omitempty"` // loaded
	Of       uint64        `json:"of,omitempty"`       // accounts there are, as peers say
	Missing  uint64        `json:"missing,omitempty"`  // blocks before it whose bodies aren't here yet
	Replayed uint64        `json:"replayed,omitempty"` // blocks before it that have been applied
}

// String is one line for a person.
func (s *SnapshotSync) String() string {
	switch s.State {
	case "waiting":
		return "looking for a snapshot"
	case "loading":
		return fmt.Sprintf("loading the accounts at block %d: %d of %d", s.Height, s.Accounts, s.Of)
	case "history":
		return fmt.Sprintf("stands on a snapshot of block %d: %d blocks before it are to be fetched and applied", s.Height, s.Missing)
	}
	return fmt.Sprintf("stands on a snapshot of block %d: %d blocks before it have been applied", s.Height, s.Replayed)
}

// PeerCount counts connected peers.
type PeerCount struct {
	In  int `json:"in"`
	Out int `json:"out"`
}

// Discovery counts the addresses a node knows, and the outbound peers it chose among them.
type Discovery struct {
	New    int `json:"new"`    // told, not answered yet
	Tried  int `json:"tried"`  // have answered
	Groups int `json:"groups"` // of addresses: 16 bits of IPv4, 32 of IPv6
	Slots  int `json:"slots"`  // outbound peers chosen from the book
	Want   int `json:"want"`   // of these
}

// Mining says whether this node mines.
type Mining struct {
	On          bool   `json:"on"`
	HashRate    uint64 `json:"hash_rate"`       // H/s, measured
	RateCap     uint64 `json:"rate_cap"`        // H/s; 0 is none
	Miner       string `json:"miner,omitempty"` // address
	BlocksMined uint64 `json:"blocks_mined"`    // since start
}

// Supply at the tip.
type Supply struct {
	Genesis Decimal `json:"genesis"`
	Issued  Decimal `json:"issued"`
	Burned  Decimal `json:"burned"`
	Max     Decimal `json:"max"`
}

// HistoryAt says how far the index of accounts' histories is, on a node that keeps one.
type HistoryAt struct {
	Height uint64 `json:"height"` // blocks up to here are in it
	Behind uint64 `json:"behind"` // blocks that wait for it; a few are listed all the same, see account_history
}

// Header is a block header. The id is the double SHA-256 of its 200 bytes.
type Header struct {
	ID           chain.BlockID `json:"id"`
	Version      uint32        `json:"version"`
	Height       uint64        `json:"height"`
	Parent       chain.BlockID `json:"parent"`
	HistoryRoot  chain.Hash    `json:"history_root"`
	TimeMS       uint64        `json:"time_ms"`
	TxRoot       chain.Hash    `json:"tx_root"`
	StateRoot    chain.Hash    `json:"state_root"`
	Miner        chain.Account `json:"miner"`
	MinerAddress string        `json:"miner_address"`
	TxCount      uint32        `json:"tx_count"`
	BodySize     uint32        `json:"body_size"` // bytes
	Bits         string        `json:"bits"`      // 8 hex digits, most significant first
	Nonce        Decimal       `json:"nonce"`
}

// ChainHead is the result of chain_head.
type ChainHead struct {
	Header     Header   `json:"header"`
	Work       string   `json:"work"` // decimal
	BestHeader BlockRef `json:"best_header"`
}

// ChainBlockParams names a block by exactly one of height (on the best chain) and id.
type ChainBlockParams struct {
	Height *uint64        `json:"height,omitempty"`
	ID     *chain.BlockID `json:"id,omitempty"`
	Txs    bool           `json:"txs,omitempty"` // with all transactions
}

func (p ChainBlockParams) Validate() error {
	if (p.Height == nil) == (p.ID == nil) {
		return Errorf(NameInvalidParams, "", "give exactly one of height and id")
	}
	return nil
}

// ChainBlock is the result of chain_block.
type ChainBlock struct {
	Header        Header   `json:"header"`
	OnBest        bool     `json:"on_best"`           // part of this node's best chain
	Validated     bool     `json:"validated"`         // every rule checked by this node
	Invalid       string   `json:"invalid,omitempty"` // why, if it breaks a rule
	Pruned        bool     `json:"pruned,omitempty"`  // this node doesn't keep its transactions any more
	Confirmations uint64   `json:"confirmations"`     // 0 off the best chain
	Txs           List[Tx] `json:"txs"`               // empty unless asked for and held
}

// ChainBlocksParams asks for the headers of heights from … from+count−1 of the best chain. Without from: the last
// count ones. Count is 1 to 100.
type ChainBlocksParams struct {
	From  *uint64 `json:"from,omitempty"`
	Count int     `json:"count"`
}

func (p ChainBlocksParams) Validate() error { return within("count", p.Count, MaxBlocks) }

// ChainBlocks is the result of chain_blocks, ascending by height; short at the tip.
type ChainBlocks struct {
	Headers List[Header] `json:"headers"`
}

// ChainGenesis is the result of chain_genesis.
type ChainGenesis struct {
	Network   Network         `json:"network"`
	Block     chain.BlockID   `json:"block"` // id of block 0
	MaxSupply Decimal         `json:"max_supply"`
	Genesis   json.RawMessage `json:"genesis"` // the genesis.json this node runs on
}

// Tx is a decoded transaction.
type Tx struct {
	TxID        chain.TxID     `json:"txid"`
	Leaf        chain.LeafHash `json:"leaf"` // commits to the signature too
	From        chain.Account  `json:"from"`
	FromAddress string         `json:"from_address"`
	Nonce       Decimal        `json:"nonce"`
	Fee         Decimal        `json:"fee"`
	ValidUntil  uint32         `json:"valid_until"` // last height it may stand in; 0 is for ever
	Outputs     List[Output]   `json:"outputs"`
	Memo        string         `json:"memo"` // hex of up to 80 bytes anyone may have chosen
	Signature   string         `json:"signature"`
	Size        int            `json:"size"` // bytes
}

// Output is one recipient.
type Output struct {
	To        chain.Account `json:"to"`
	ToAddress string        `json:"to_address"`
	Amount    Decimal       `json:"amount"`
}

// TxSubmitParams carries exactly one of tx, the hex of one encoded transaction, and txs, up to 500 of them.
type TxSubmitParams struct {
	Tx  string       `json:"tx,omitempty"`
	Txs List[string] `json:"txs,omitempty"`
}

func (p TxSubmitParams) Validate() error {
	if (p.Tx == "") == (len(p.Txs) == 0) {
		return Errorf(NameInvalidParams, "", "give exactly one of tx and txs")
	}
	if len(p.Txs) > MaxSubmit {
		return Errorf(NameInvalidParams, "send the rest in another call", "txs: %d transactions, at most %d", len(p.Txs), MaxSubmit)
	}
	return nil
}

// TxSubmit is the result of tx_submit: one entry a transaction, in the order given. Submitting is idempotent: a
// transaction the node knows already gives its present state.
type TxSubmit struct {
	Results List[Submitted] `json:"results"`
}

// Submitted is what became of one transaction. With Error set it was not taken. A call with tx fails with that
// error; a call with txs never fails for one of them.
type Submitted struct {
	TxID  chain.TxID `json:"txid"`
	State TxState    `json:"state"`
	Known bool       `json:"known"` // was known before this call
	Error *Error     `json:"error,omitempty"`
}

// TxState is where a transaction stands, as this node sees it.
type TxState string

const (
	TxUnknown  TxState = "unknown"  // never seen, or forgotten
	TxQueued   TxState = "queued"   // in the pool behind a gap of nonces or funds
	TxPending  TxState = "pending"  // in the pool, ready for the next block
	TxIncluded TxState = "included" // in a block of the best chain; see confirmations
	TxReplaced TxState = "replaced" // another transaction holds its (from, nonce); see rival
	TxExpired  TxState = "expired"  // the tip is past valid_until
	TxDropped  TxState = "dropped"  // left the pool for want of room or funds; it may come back
	TxRejected TxState = "rejected" // broke a rule; see reason
)

// DefaultConfirmations is how deep a block lies before people rely on it, unless they say otherwise.
const DefaultConfirmations = 2

// TxStatusParams. Confirmations is the depth at which "never" may be said; 0 means DefaultConfirmations.
type TxStatusParams struct {
	TxID          chain.TxID `json:"txid"`
	AskPeers      bool       `json:"ask_peers,omitempty"` // ask connected peers what they think of it
	Confirmations uint64     `json:"confirmations,omitempty"`
}

// TxStatus is the result of tx_status. It keeps two kinds of evidence apart: what this node verified itself, and what
// its peers say.
type TxStatus struct {
	TxID          chain.TxID     `json:"txid"`
	State         TxState        `json:"state"`
	Reason        string         `json:"reason,omitempty"`
	Height        uint64         `json:"height,omitempty"`
	Block         *chain.BlockID `json:"block,omitempty"`
	Index         int            `json:"index,omitempty"` // in the block, from 0
	Confirmations uint64         `json:"confirmations"`   // tip height − block height + 1; 0 while in no block
	Rival         *chain.TxID    `json:"rival,omitempty"` // the included transaction with the same (from, nonce)
	// Never is true only when the block after valid_until, or a rival with the same (from, nonce), has the
	// confirmations asked for: the transaction can't be included any more without a reorg that deep.
	Never    bool          `json:"never"`
	ThisNode ThisNode      `json:"this_node"`
	Peers    *PeerEvidence `json:"peers,omitempty"` // with ask_peers
	Tx       *Tx           `json:"tx,omitempty"`    // if this node holds it
}

// ThisNode is what this node did itself.
type ThisNode struct {
	Verified bool   `json:"verified"` // signature and all stateless rules, by this node
	TookUS   uint64 `json:"took_us"`  // µs, its share of the batch; 0 if it was verified before the last start
}

// PeerEvidence counts what connected peers answered. It is their word, and says nothing of nodes beyond them.
type PeerEvidence struct {
	Asked    int           `json:"asked"`
	Verified int           `json:"verified"`
	Rejected int           `json:"rejected"`
	Unknown  int           `json:"unknown"` // never heard of it, or no answer
	Answers  List[PeerSay] `json:"answers"`
}

// PeerSay is one peer's answer.
type PeerSay struct {
	Peer   string `json:"peer"`
	State  string `json:"state"` // "verified", "included", "rejected", "unknown", "silent"
	Reason string `json:"reason,omitempty"`
	TookUS uint64 `json:"took_us,omitempty"` // µs it says verifying took
	Height uint64 `json:"height,omitempty"`
}

// AccountGetParams names an account by exactly one of its 32 bytes and its address.
type AccountGetParams struct {
	Account *chain.Account `json:"account,omitempty"`
	Address string         `json:"address,omitempty"`
}

func (p AccountGetParams) Validate() error {
	if (p.Account == nil) == (p.Address == "") {
		return Errorf(NameInvalidParams, "", "give exactly one of account and address")
	}
	return nil
}

// Resolve is the account meant, on the network of g.
func (p AccountGetParams) Resolve(g *chain.Genesis) (chain.Account, error) {
	if p.Account != nil {
		return *p.Account, nil
	}
	a, err := chain.DecodeAddress(g.Prefix, p.Address)
	if err != nil {
		return a, Errorf(NameInvalidParams, "", "%v", err)
	}
	return a, nil
}

// Account is the result of account_get. Balance and nonce are as of the tip named; an account that was never paid
// has both 0 and exists false.
type Account struct {
	Account    chain.Account `json:"account"`
	Address    string        `json:"address"`
	Exists     bool          `json:"exists"`
	Balance    Decimal       `json:"balance"`
	Nonce      Decimal       `json:"nonce"`       // the next one the chain takes
	NextNonce  Decimal       `json:"next_nonce"`  // the next one after those in the pool
	PendingIn  Decimal       `json:"pending_in"`  // knots coming in from the pool
	PendingOut Decimal       `json:"pending_out"` // knots going out, fees included
	Tip        BlockRef      `json:"tip"`
}

// MempoolStats is the result of mempool_stats.
type MempoolStats struct {
	Txs      int `json:"txs"`    // ready for a block
	Queued   int `json:"queued"` // behind a gap
	Bytes    int `json:"bytes"`  // both
	MaxBytes int `json:"max_bytes"`
	Senders  int `json:"senders"`
}

// MempoolListParams asks for up to max (1 to 1000) transactions.
type MempoolListParams struct {
	Max int `json:"max"`
}

func (p MempoolListParams) Validate() error { return within("max", p.Max, MaxList) }

// MempoolList is the result of mempool_list: the first ones in the order a miner takes them.
type MempoolList struct {
	Total int          `json:"total"`
	Txs   List[PoolTx] `json:"txs"`
}

// PoolTx is one waiting transaction. Fee rate is fee ÷ size, in knots a byte.
type PoolTx struct {
	TxID       chain.TxID    `json:"txid"`
	From       chain.Account `json:"from"`
	Nonce      Decimal       `json:"nonce"`
	Fee        Decimal       `json:"fee"`
	Amount     Decimal       `json:"amount"` // Σ outputs
	Size       int           `json:"size"`
	ValidUntil uint32        `json:"valid_until"`
	State      TxState       `json:"state"` // pending or queued
}

// PeerList is the result of peer_list.
type PeerList struct {
	Peers List[Peer] `json:"peers"`
}

// Peer is one connected peer. Height and tip are what it says of itself.
type Peer struct {
	ID        string         `json:"id"`
	Addr      string         `json:"addr"`      // multiaddress of the connection
	Direction string         `json:"direction"` // "in" or "out"
	Agent     string         `json:"agent,omitempty"`
	Static    bool           `json:"static"`  // added by the operator: never banned
	Score     float64        `json:"score"`   // 0 without charges, else below; see charges
	PingUS    int64          `json:"ping_us"` // 0 until measured
	Height    uint64         `json:"height"`
	Tip       *chain.BlockID `json:"tip,omitempty"` // until its first status: absent
	Bodies    uint64         `json:"bodies"`        // of blocks that it has sent this node on request
	BodyBytes uint64         `json:"body_bytes"`
	Rate      int64          `json:"rate"` // bytes a second of bodies while it was last asked for some; 0 until measured
	// What it has been charged with since it connected: rows of the blame table and how often.
	Charges    map[string]uint64 `json:"charges,omitempty"`
	RestsUntil *time.Time        `json:"rests_until,omitempty"` // it is asked for nothing before
	Connected  time.Time         `json:"connected"`
	LastSeen   time.Time         `json:"last_seen"`
}

// PeerBookParams asks for up to max (1 to 1000) addresses.
type PeerBookParams struct {
	Max int `json:"max"`
}

func (p PeerBookParams) Validate() error { return within("max", p.Max, MaxList) }

// PeerBook is the result of peer_book.
type PeerBook struct {
	Discovery
	Known List[KnownPeer] `json:"known"`
}

// KnownPeer is one address of a peer.
type KnownPeer struct {
	ID       string     `json:"id"`
	Addr     string     `json:"addr"`
	Group    string     `json:"group"`
	Source   string     `json:"source"` // group of who told it first; "hand", "mdns"
	Tried    bool       `json:"tried"`  // has answered as a node of this network
	Fails    int        `json:"fails"`  // in a row
	Seen     time.Time  `json:"seen"`   // last told, or last answered
	LastTry  *time.Time `json:"last_try,omitempty"`
	LastGood *time.Time `json:"last_good,omitempty"`
}

// PeerBans is the result of peer_bans.
type PeerBans struct {
	Bans List[Ban] `json:"bans"`
}

// Ban is a peer this node refuses until a time.
type Ban struct {
	ID     string    `json:"id"`
	Addr   string    `json:"addr,omitempty"`
	Reason string    `json:"reason"` // the row of the blame table
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

// EventsSinceParams asks for up to max (1 to 1000) events after seq.
type EventsSinceParams struct {
	Seq uint64 `json:"seq"`
	Max int    `json:"max"`
}

func (p EventsSinceParams) Validate() error { return within("max", p.Max, MaxList) }

// EventsSince is the result of events_since. Gap says that events between seq and the first one here are no longer
// held: read the state anew.
type EventsSince struct {
	Events List[Event] `json:"events"`
	Next   uint64      `json:"next"` // the seq to ask with next
	Gap    bool        `json:"gap"`
}

// AdminGateParams is the whole set of peer ids this node shall neither dial nor accept; empty opens to all again.
type AdminGateParams struct {
	Block List[string] `json:"block"`
}

func (p AdminGateParams) Validate() error {
	if len(p.Block) > MaxGate {
		return Errorf(NameInvalidParams, "", "block: %d peers, at most %d", len(p.Block), MaxGate)
	}
	return nil
}

// AdminGate is the result of admin_gate.
type AdminGate struct {
	Blocked List[string] `json:"blocked"`
}

// AdminConnectParams is a multiaddress that ends in /p2p/<peer id>.
type AdminConnectParams struct {
	Addr string `json:"addr"`
}

// AdminConnect is the result of admin_connect.
type AdminConnect struct {
	ID string `json:"id"`
}

// AdminUnbanParams is the id of a peer that shall be let in again.
type AdminUnbanParams struct {
	ID string `json:"id"`
}

// AdminUnban is the result of admin_unban.
type AdminUnban struct {
	ID     string `json:"id"`
	Banned bool   `json:"banned"` // it was
}

// AdminStop is the result of admin_stop: the node stops after it has answered.
type AdminStop struct {
	Stopping bool `json:"stopping"`
}

func within(name string, n, most int) error {
	if n < 1 || n > most {
		return Errorf(NameInvalidParams, "", "%s: %d, want 1 to %d", name, n, most)
	}
	return nil
}
