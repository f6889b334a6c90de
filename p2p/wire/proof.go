package wire

import (
	"quipu/chain"
	"quipu/chain/statetree"
)

// Limits of proof.
const (
	MaxProofRequest = 1 + 32 + 32
	maxBlockProof   = chain.HeaderSize + 32 + 1 + chain.MaxBlockPath*32
	maxAccountProof = maxBlockProof + 1 + 8 + 8 + statetree.MaxProofSize
	maxTxProof      = maxBlockProof + 4 + 1 + chain.MaxTxPath*32 + chain.TxMaxSize
	MaxProofAnswer  = 1 + max(maxAccountProof, maxTxProof)
)

// ProofKind is what a proof is about.
type ProofKind uint8

const (
	ProofAccount ProofKind = 1 // Subject is an account
	ProofTx      ProofKind = 2 // Subject is a txid
)

// ProofRequest asks for a proof under a header that the asker holds: about an account at the other side's validated tip, or
// a transaction in a block of its validated chain.
type ProofRequest struct {
	Kind    ProofKind
	Anchor  chain.BlockID // the block proved is this one or an ancestor of it
	Subject [32]byte
}

// Append appends kind u8 ‖ anchor 32 ‖ subject 32.
func (q *ProofRequest) Append(dst []byte) []byte {
	dst = append(dst, byte(q.Kind))
	dst = append(dst, q.Anchor[:]...)
	return append(dst, q.Subject[:]...)
}

// DecodeProofRequest reads a request to its end.
func DecodeProofRequest(b []byte) (ProofRequest, error) {
	r := reader{b: b}
	q := ProofRequest{Kind: ProofKind(r.u8())}
	copy(q.Anchor[:], r.take(32))
	copy(q.Subject[:], r.take(32))
	if err := r.end("proof request"); err != nil {
		return ProofRequest{}, err
	}
	if q.Kind != ProofAccount && q.Kind != ProofTx {
		return ProofRequest{}, malformed("request for a proof of kind %d", q.Kind)
	}
	return q, nil
}

// ProofCode is the first byte of an answer.
type ProofCode uint8

const (
	ProofMissing   ProofCode = 0 // not here: no such transaction, or its block's body isn't held any more
	ProofFollows   ProofCode = 1 // the rest is the proof
	ProofElsewhere ProofCode = 2 // the block isn't under that anchor, as far as is known here: fetch headers and ask again
)

// AppendAccountProof appends the answer to a request of kind ProofAccount: code u8 ‖ block ‖ exists u8 ‖ balance u64 ‖ nonce
// u64 ‖ account proof (spec.md §9), of which only the code stands unless ProofFollows. block is header 200 ‖ work 32 ‖ n u8 ‖
// n × hash 32.
func AppendAccountProof(dst []byte, code ProofCode, p *chain.AccountProof) []byte {
	dst = append(dst, byte(code))
	if code != ProofFollows {
		return dst
	}
	dst = appendBlockProof(dst, &p.Block)
	exists := byte(0)
	if p.Exists {
		exists = 1
	}
	dst = append(dst, exists)
	dst = le.AppendUint64(dst, p.State.Balance)
	dst = le.AppendUint64(dst, p.State.Nonce)
	return p.Proof.Append(dst)
}

// AppendTxProof appends the answer to a request of kind ProofTx: code u8 ‖ block ‖ index u32 ‖ n u8 ‖ n × hash 32 ‖
// transaction, of which only the code stands unless ProofFollows.
func AppendTxProof(dst []byte, code ProofCode, p *chain.TxProof) []byte {
	dst = append(dst, byte(code))
	if code != ProofFollows {
		return dst
	}
	dst = appendBlockProof(dst, &p.Block)
	dst = le.AppendUint32(dst, p.Index)
	dst = appendIDs(append(dst, byte(len(p.Path))), p.Path)
	return append(dst, p.Raw...)
}

func appendBlockProof(dst []byte, p *chain.BlockProof) []byte {
	dst = p.Header.Append(dst)
	dst = appendWork(dst, &p.Work)
	return appendIDs(append(dst, byte(len(p.Path))), p.Path)
}

// DecodeAccountProof reads an answer to its end. Nothing is verified: see chain.AccountProof.
func DecodeAccountProof(b []byte) (ProofCode, chain.AccountProof, error) {
	var p chain.AccountProof
	r, code, err := readProof(b, 1+maxAccountProof, &p.Block)
	if err != nil || code != ProofFollows {
		return code, p, err
	}
	exists := r.u8()
	p.State = chain.AccountState{Balance: r.u64(), Nonce: r.u64()}
	if r.short {
		return 0, chain.AccountProof{}, r.end("account proof")
	}
	if p.Exists = exists == 1; exists > 1 || !p.Exists && p.State != (chain.AccountState{}) {
		return 0, chain.AccountProof{}, malformed("account proof that says exists %d with balance %d, nonce %d", exists, p.State.Balance, p.State.Nonce)
	}
	if p.Proof, err = statetree.DecodeProof(r.b); err != nil {
		return 0, chain.AccountProof{}, malformed("%v", err)
	}
	return code, p, nil
}

// DecodeTxProof reads an answer to its end. The transaction decodes (D1 to D5) and aliases b; nothing is verified: see
// chain.TxProof.
func DecodeTxProof(b []byte) (ProofCode, chain.TxProof, error) {
	var p chain.TxProof
	r, code, err := readProof(b, 1+maxTxProof, &p.Block)
	if err != nil || code != ProofFollows {
		return code, p, err
	}
	p.Index = r.u32()
	if p.Path, err = readPath(&r, chain.MaxTxPath); err != nil {
		return 0, chain.TxProof{}, err
	}
	raws, err := chain.SplitBody(r.b)
	if err != nil {
		return 0, chain.TxProof{}, err
	}
	if len(raws) != 1 {
		return 0, chain.TxProof{}, malformed("proof of %d transactions, want 1", len(raws))
	}
	p.Raw = raws[0]
	return code, p, nil
}

// readProof reads what both kinds of answer begin with.
func readProof(b []byte, most int, p *chain.BlockProof) (reader, ProofCode, error) {
	r := reader{b: b}
	if len(b) > most {
		return r, 0, malformed("proof of %d bytes, at most %d", len(b), most)
	}
	code := ProofCode(r.u8())
	if r.short || code > ProofElsewhere {
		return r, 0, malformed("proof answer with code %d in %d bytes", code, len(b))
	}
	if code != ProofFollows {
		return r, code, r.end("proof answer")
	}
	header := r.take(chain.HeaderSize)
	p.Work = r.work()
	path, err := readPath(&r, chain.MaxBlockPath)
	if err == nil {
		p.Path = path
		p.Header, err = chain.DecodeHeader(header)
	}
	return r, code, err
}

func readPath(r *reader, most int) ([]chain.Hash, error) {
	n := int(r.u8())
	if n > most {
		return nil, malformed("path of %d hashes, at most %d", n, most)
	}
	path := readIDs[chain.Hash](r, n)
	if r.short {
		return nil, r.end("proof")
	}
	return path, nil
}
