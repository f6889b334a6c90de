package chain

import (
	"slices"

	"encoding/hex"
	"fmt"

	"github.com/holiman/uint256"
)

// Sizes and bounds of the format (docs/spec.md §2 to §4). Bytes unless said otherwise.
const (
	HeaderSize  = 200    // every header
	OutputSize  = 40     // one recipient: account 32, amount 8
	TxMinSize   = 159    // one recipient, no memo
	TxMaxSize   = 10_399 // 255 recipients, 80 bytes of memo
	MaxMemo     = 80
	MaxOutputs  = 255
	TxVersion   = 1
	Knots       = 100_000_000       // knots in one QPU
	MaxHeight   = 1<<32 - 1         // header rule H2
	TimeLimit   = uint64(1) << 53   // exclusive bound of every time in Unix ms: exact in JSON numbers
	MaxBody     = 1 << 22           // largest body_limit a genesis may set
	AnySupply   = uint64(1)<<63 - 1 // largest MAX_SUPPLY a genesis may have
	txFixedHead = 1 + 32 + 8 + 8 + 4 + 1
)

// Account is an x-only secp256k1 public key (BIP-340), 32 bytes. As a recipient any 32 bytes are allowed; only
// a sender is lifted to the curve, by verification.
type Account [32]byte

// TxID names what was signed: tagged("quipu/tx", network_id ‖ all bytes before the signature).
type TxID [32]byte

// LeafHash commits to all bytes of a transaction, its signature included: SHA-256(0x00 ‖ bytes). Caches and
// requests use it, since two variants of one txid differ in it.
type LeafHash [32]byte

// BlockID is the double SHA-256 of a header and its proof of work.
type BlockID [32]byte

// Hash is any other 32-byte digest: a Merkle root or a peak.
type Hash [32]byte

// NetworkID is the hash of the canonical genesis; it is block 0's parent and bound into every signature.
type NetworkID [32]byte

// Work is an amount of proof of work: expected hashes, an integer below 2^256.
type Work = uint256.Int

func (a Account) String() string   { return hex.EncodeToString(a[:]) }
func (t TxID) String() string      { return hex.EncodeToString(t[:]) }
func (l LeafHash) String() string  { return hex.EncodeToString(l[:]) }
func (b BlockID) String() string   { return hex.EncodeToString(b[:]) }
func (h Hash) String() string      { return hex.EncodeToString(h[:]) }
func (n NetworkID) String() string { return hex.EncodeToString(n[:]) }

// Short is the first 8 hex digits, as topics, protocol ids and log lines carry it.
func (n NetworkID) Short() string { return hex.EncodeToString(n[:4]) }

func (a Account) MarshalText() ([]byte, error)   { return hexText(a[:]) }
func (t TxID) MarshalText() ([]byte, error)      { return hexText(t[:]) }
func (l LeafHash) MarshalText() ([]byte, error)  { return hexText(l[:]) }
func (b BlockID) MarshalText() ([]byte, error)   { return hexText(b[:]) }
func (h Hash) MarshalText() ([]byte, error)      { return hexText(h[:]) }
func (n NetworkID) MarshalText() ([]byte, error) { return hexText(n[:]) }

func (a *Account) UnmarshalText(s []byte) error   { return unhex32(a[:], s) }
func (t *TxID) UnmarshalText(s []byte) error      { return unhex32(t[:], s) }
func (l *LeafHash) UnmarshalText(s []byte) error  { return unhex32(l[:], s) }
func (b *BlockID) UnmarshalText(s []byte) error   { return unhex32(b[:], s) }
func (h *Hash) UnmarshalText(s []byte) error      { return unhex32(h[:], s) }
func (n *NetworkID) UnmarshalText(s []byte) error { return unhex32(n[:], s) }

func hexText(b []byte) ([]byte, error) { return hex.AppendEncode(nil, b), nil }

// unhex32 accepts exactly 64 lower-case hex digits: one text a value, as with the binary formats.
func unhex32(dst, s []byte) error {
	if len(s) != 64 {
		return fmt.Errorf("want 64 hex digits, got %d characters", len(s))
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%q is not a lower-case hex digit", c)
		}
	}
	_, err := hex.Decode(dst, s)
	return err
}

// Output credits Amount knots to To.
type Output struct {
	To     Account
	Amount uint64
}

// Tx is one transfer from one account to 1 to 255 recipients under one signature.
type Tx struct {
	From       Account
	Nonce      uint64 // the sender's next nonce: every transaction of an account fills one slot
	Fee        uint64 // knots
	ValidUntil uint32 // last height it may stand in; 0 is for ever
	Outputs    []Output
	Memo       []byte // up to 80 bytes
	Signature  [64]byte
}

// Size is the encoded length in bytes.
func (t *Tx) Size() int { return txFixedHead + len(t.Outputs)*OutputSize + 1 + len(t.Memo) + 64 }

// Spent is fee + Σ amounts, and false if that is above max.
func (t *Tx) Spent(max uint64) (uint64, bool) {
	sum := t.Fee
	if sum > max {
		return 0, false
	}
	for i := range t.Outputs {
		if t.Outputs[i].Amount > max-sum {
			return 0, false
		}
		sum += t.Outputs[i].Amount
	}
	return sum, true
}

// Header is what the work commits to. 200 bytes encoded.
type Header struct {
	Version     uint32
	Height      uint64
	Parent      BlockID
	HistoryRoot Hash   // MTH over id ‖ work of blocks 0..height−1
	Time        uint64 // Unix ms
	TxRoot      Hash   // MTH over transaction encodings
	StateRoot   Hash   // after all transactions and the reward
	Miner       Account
	TxCount     uint32
	BodySize    uint32
	Bits        uint32
	Nonce       uint64
}

// Block is a header with an unchecked body: transaction encodings one after another.
type Block struct {
	Header Header
	Body   []byte
}

// AccountState is what the ledger keeps of an account.
type AccountState struct {
	Balance uint64 // knots
	Nonce   uint64 // the next nonce it must use
}

// Accounts holds the accounts that exist among those asked for; an absent key is an account that doesn't exist.
type Accounts map[Account]AccountState

// CheckedTx is a transaction that passed every stateless rule, signature included. Only CheckTxs, CheckBlocks and
// AssumeChecked make one.
type CheckedTx struct {
	tx   Tx
	raw  []byte
	id   TxID
	leaf LeafHash
}

func (c *CheckedTx) Tx() *Tx        { return &c.tx }
func (c *CheckedTx) Raw() []byte    { return c.raw } // the encoding; not to be written to
func (c *CheckedTx) ID() TxID       { return c.id }
func (c *CheckedTx) Leaf() LeafHash { return c.leaf }

// Clone is c with bytes of its own: nothing of it lies in a larger buffer.
func (c *CheckedTx) Clone() CheckedTx {
	out := *c
	out.raw = slices.Clone(c.raw)
	out.tx.Outputs = slices.Clone(c.tx.Outputs)
	if n := len(c.tx.Memo); n > 0 {
		at := len(out.raw) - len(out.tx.Signature) - n
		out.tx.Memo = out.raw[at : at+n : at+n]
	}
	return out
}

// CheckedBlock is a block whose body matches its header and whose transactions are all checked.
type CheckedBlock struct {
	header Header
	id     BlockID
	body   []byte
	txs    []CheckedTx
}

func (c *CheckedBlock) Header() *Header  { return &c.header }
func (c *CheckedBlock) ID() BlockID      { return c.id }
func (c *CheckedBlock) Body() []byte     { return c.body }
func (c *CheckedBlock) Txs() []CheckedTx { return c.txs }

// State is the chain's state after one header: all that the check of the next header needs.
type State struct {
	Header     Header
	ID         BlockID
	Work       Work   // W: Σ work of blocks 1..height
	ParentTime uint64 // time of the parent, for the difficulty rule; own time at height 0
	Peaks      []Hash // of the history tree over blocks 0..height, largest subtree first
}

// AccountChange is one account's state before and after a block.
type AccountChange struct {
	Account Account
	Before  AccountState
	After   AccountState
	Existed bool // false: the block created it, and undo removes it
}

// Update is what applying one block changed. Read backwards it is the undo.
type Update struct {
	Block   *CheckedBlock
	Changes []AccountChange // ascending by account
	Burned  uint64          // knots this block burned
	Issued  uint64          // knots this block issued: its subsidy
}

// Change is what one call changed in the best chain: first Reverted, newest first, then Applied, oldest first.
type Change struct {
	Reverted []Update
	Applied  []Update
}
