package mempool

// Refusal names why a transaction was not admitted. It is policy, never a chain.RuleError: nobody is blamed.
// Refusals are comparable with errors.Is, and count in Stats.Refused under their text.
type Refusal string

func (r Refusal) Error() string { return string(r) }

const (
	ErrKnown       Refusal = "known"        // this transaction is pooled, maybe with another signature
	ErrStale       Refusal = "stale"        // its nonce is used up
	ErrGap         Refusal = "gap"          // its nonce runs too far ahead, or the account's gapped cap is full
	ErrFunds       Refusal = "funds"        // the balance doesn't cover it and what is pending before it
	ErrUnderpriced Refusal = "underpriced"  // a replacement that pays too little more
	ErrFull        Refusal = "full"         // the pool is full of what pays as much
	ErrAccountFull Refusal = "account-full" // the account's pending cap is reached
	ErrExpiring    Refusal = "expiring"     // fewer than MinValidity blocks of validity left
	ErrCreateFee   Refusal = "create-fee"   // the fee doesn't pay for the accounts it would create
	ErrBehind      Refusal = "behind"       // the accounts given are older than the pool's tip: read them again
)

// Reasons for which a pooled transaction leaves: what Fate answers and Stats.Dropped counts.
const (
	ReasonMined     = "mined"       // stands in a block; the ledger knows which, so Fate doesn't keep it
	ReasonRival     = "rival-mined" // a rival with the same (from, nonce) stands in a block
	ReasonStale     = "stale"       // its nonce is used up
	ReasonReplaced  = "replaced"    // by one with the same (from, nonce) that pays more
	ReasonEvicted   = "evicted"     // the pool was full and it was the cheapest
	ReasonExpired   = "expired"     // valid_until has passed
	ReasonFunds     = "funds"       // no longer covered by the balance, and no room to wait
	ReasonGap       = "gap"         // behind a missing nonce, and no room to wait
	ReasonGapOld    = "gap-old"     // waited too long
	ReasonDiscarded = "discarded"   // a block builder found that it doesn't apply
)
