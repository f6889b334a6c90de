package p2p

import (
	"errors"
	"time"

	"quipu/chain"
	"quipu/p2p/wire"
)

// Backend is all that this package knows of the node. Its methods may block on verification and disk, are called from
// many goroutines at once, and must not call back into Service methods that wait (all exported ones but Connect,
// AskTxStatus and Run return at once).
type Backend interface {
	Genesis() *chain.Genesis
	Tip() chain.State        // validated, but for what Verified says
	Verified() bool          // every block up to Tip was applied here; else it stands on a snapshot
	BestHeader() chain.State // most work among headers not known invalid

	// AcceptTxs takes encodings that decode, at most wire.MaxBatchTxs; one result each. Several callers may be answered
	// together: signatures are cheaper in large batches.
	AcceptTxs(raws [][]byte) []TxResult
	// AcceptHeader takes a gossiped header, with its body if that is small, else nil. nil means forward. A RuleError
	// blames the sender as verdict.go says; everything else is nobody's fault.
	AcceptHeader(h chain.Header, body []byte) error
	// AddHeaders stores linked headers in order and returns how many leading ones are stored, known ones included.
	// New ones with no more work than WorkFloor are not stored: ErrLowWork.
	AddHeaders(hs []chain.Header) (int, error)
	// AddHeadersProven is AddHeaders without that floor. It is called only for a branch that was walked to its end
	// before, and whose work there is above the floor.
	AddHeadersProven(hs []chain.Header) (int, error)
	// AddBodies takes blocks whose bodies passed chain.CheckBody, in any order. An error is ours.
	AddBodies(blocks []chain.Block) error

	Locator() []chain.BlockID // of the best header's chain, newest first, 1 to wire.MaxLocator
	HeadersAfter(locator []chain.BlockID, max int) []chain.Header
	// HeadersTo are up to max headers of the chain that ends in id, best or not, from a height on; none if id isn't known.
	HeadersTo(id chain.BlockID, from uint64, max int) []chain.Header
	WorkFloor() chain.Work
	Header(id chain.BlockID) (chain.State, bool)
	Body(id chain.BlockID) ([]byte, bool)
	HasBody(id chain.BlockID) bool // without reading it
	Invalid(id chain.BlockID) bool // known invalid, or a descendant of one

	// Wanted lists missing bodies of branches with more work than the tip, heaviest branch first, then ascending.
	Wanted(maxBytes int) []Want
	Held() []wire.Range // bodies held along the best header's chain

	// PoolLeaves is a window of the pool of at most max; a pool that is larger should show another window each time.
	PoolLeaves(max int) []chain.LeafHash
	// PoolPart lists leaves of the pool of the accounts with a prefix, an account's in the order of nonces: all, or with
	// settled only what is pending and has been here for about a second, time enough to come to others by gossip.
	PoolPart(part wire.Prefix, settled bool) []chain.LeafHash
	PoolTxs(leaves []chain.LeafHash) [][]byte
	HasTx(leaf chain.LeafHash) bool // in the pool, in a recent block, or known to be bad: not worth fetching
	TxStatus(ids []chain.TxID) []wire.TxStatus
	// AccountProof is about the validated tip, TxProof about a block of the validated chain; both blocks are the anchor or
	// below it. Without wire.ProofFollows there is none.
	AccountProof(anchor chain.BlockID, a chain.Account) (chain.AccountProof, wire.ProofCode)
	TxProof(anchor chain.BlockID, id chain.TxID) (chain.TxProof, wire.ProofCode)
	// FindShort looks for transactions by short id among those that need no look at their signature any more: in the pool,
	// dropped from it lately, in the last blocks. One entry an id; an id that two have, or that is asked for twice, finds none.
	FindShort(key wire.ShortKey, ids []uint64) []Found

	Snapshots() []wire.Snapshot // served, ascending by height
	// StateRange is a range of such a snapshot of at most so many accounts, encoded; false if it isn't here.
	StateRange(q *wire.StateRequest, maxLeaves int) ([]byte, bool)

	Observe(Event)
}

// TxResult is what became of one transaction.
type TxResult struct {
	Err      error // a RuleError is the sender's fault, everything else nobody's
	Admitted bool  // newly admitted to the pool by this call, as pending
	Checked  bool  // passed every stateless check, now or before
}

// Found is a transaction; Raw is nil if there is none.
type Found struct {
	Leaf chain.LeafHash
	Raw  []byte
}

// Want is a block whose body is missing.
type Want struct {
	ID     chain.BlockID
	Header chain.Header
	far    bool // of a branch that lacks more than nearTip bodies
}

// Sentinels that a Backend may return for a header; nobody's fault, like chain.ErrUnknownParent and chain.ErrUpgrade.
var (
	ErrKnown           = errors.New("known already")
	ErrTooEarly        = errors.New("too far ahead of the clock")
	ErrInvalidAncestor = errors.New("descends from an invalid block")
	ErrLowWork         = errors.New("branch has too little work") // not stored; what follows on it may have enough
)

// Kinds of Event.
const (
	PeerUp      = "peer.up"
	PeerDown    = "peer.down"
	PeerBanned  = "peer.banned"
	PeerCharged = "peer.charged" // evidence with a smaller penalty, or against a peer that is never banned
)

// Event is something the network did that a person may want to see.
type Event struct {
	Kind     string
	Peer     string
	Addr     string
	Evidence Evidence // of PeerBanned and PeerCharged
	Detail   string
	Until    time.Time // of PeerBanned
}

// PeerInfo is one connected peer.
type PeerInfo struct {
	ID         string
	Addr       string
	Outbound   bool
	Static     bool
	Bootnode   bool // finds peers and does nothing else
	Since      time.Time
	Version    string // user agent
	BestHeight uint64 // what it says of itself; 0 before the first status
	TipHeight  uint64
	TipID      chain.BlockID
	HasStatus  bool
	RTT        time.Duration // of the last status exchange
	Skew       time.Duration // its clock minus ours, as of the last status
	LastSeen   time.Time     // last message of any kind
	Bodies     uint64        // bodies it has delivered
	BodyBytes  uint64
	Rate       float64             // bytes a second of bodies while it is asked for some, as last measured
	Charges    map[Evidence]uint64 // what has been held against it since it connected
	RestUntil  time.Time           // it is asked for nothing before; past or zero: it doesn't rest
}

// Score sums up the charges: 0 is a peer without any, one that rests loses 1, one that is disconnected 5, one that would be
// banned were it not static 10. It is for people; nothing is decided by it.
func (p *PeerInfo) Score() (score float64) {
	for ev, n := range p.Charges {
		score -= float64(n) * [...]float64{None: 0, Rest: 1, Disconnect: 5, Ban: 10}[blame[ev].Penalty]
	}
	return score
}

// BanInfo is one banned peer.
type BanInfo struct {
	ID       string
	Evidence Evidence
	Detail   string
	At       time.Time
	Until    time.Time
}

// SyncState is how far the download is.
type SyncState struct {
	TipHeight     uint64
	BestHeight    uint64 // of headers held
	NetworkHeight uint64 // highest best header that a connected peer claims
	Pending       int    // bodies listed and to be asked for
	Flying        int    // bodies asked for or being imported
	Waiting       int    // bytes of bodies that have come and aren't imported
	Jobs          int
	Sources       int       // peers that are asked for bodies now
	Suspects      int       // of those, peers that have sent nothing for a while
	Syncing       bool      // tip more than nearTip blocks behind the best header, and bodies come or haven't been late for long
	Rate, TxRate  float64   // bytes of bodies and transactions imported a second, over the last seconds
	BlockRate     float64   // blocks a second by which the tip rises, over the same
	Bytes, Txs    uint64    // the same, since the start
	Hedged        uint64    // bytes asked of a second peer
	Duplicate     uint64    // bytes received in vain
	Served        uint64    // bytes of bodies sent to others
	First         time.Time // of the first request to any peer
}

// PeerTxStatus is one peer's word on the transactions asked about.
type PeerTxStatus struct {
	Peer     string
	Statuses []wire.TxStatus // one each, nil if Err
	Err      error
}
