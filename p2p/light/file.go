package light

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"quipu/chain"
)

// The file of headers holds a trail: magic ‖ network id 32 ‖ n u32 ‖ n × (header 200 ‖ parent's time u64 ‖ work 32 ‖ n u8 ‖
// n × peak 32) ‖ SHA-256 of all before. It is this client's own word to itself: what stands in it was checked before it was
// written, and isn't again, so whoever can write it can deceive its owner.
const trailMagic = "quipu-light-1\n"

const (
	maxTrail     = 4096
	maxTrailFile = maxTrail * (chain.HeaderSize + 8 + 32 + 1 + 64*32)
)

var le = binary.LittleEndian

func appendTrail(dst []byte, network chain.NetworkID, trail []chain.State) []byte {
	dst = append(append(dst, trailMagic...), network[:]...)
	dst = le.AppendUint32(dst, uint32(len(trail)))
	for i := range trail {
		s := &trail[i]
		dst = s.Header.Append(dst)
		dst = le.AppendUint64(dst, s.ParentTime)
		work := chain.WorkBytes(&s.Work)
		dst = append(append(dst, work[:]...), byte(len(s.Peaks)))
		for j := range s.Peaks {
			dst = append(dst, s.Peaks[j][:]...)
		}
	}
	return sealed(dst)
}

// sealed appends the checksum of all before.
func sealed(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeTrail(b []byte, g *chain.Genesis) ([]chain.State, error) {
	damaged := errors.New("damaged")
	network := g.NetworkID()
	head := len(trailMagic) + 32 + 4
	if len(b) < head+sha256.Size || string(b[:len(trailMagic)]) != trailMagic {
		return nil, errors.New("no file of headers")
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return nil, damaged
	}
	if !bytes.Equal(body[len(trailMagic):head-4], network[:]) {
		return nil, errors.New("of another network")
	}
	n := le.Uint32(body[head-4:])
	if n < 1 || n > maxTrail {
		return nil, damaged
	}
	body = body[head:]
	const fixed = chain.HeaderSize + 8 + 32 + 1
	trail := make([]chain.State, n)
	for i := range trail {
		if len(body) < fixed || len(body) < fixed+32*int(body[fixed-1]) {
			return nil, damaged
		}
		s := &trail[i]
		h, err := chain.DecodeHeader(body[:chain.HeaderSize])
		if err != nil {
			return nil, err
		}
		s.Header, s.ID, s.ParentTime = h, h.ID(), le.Uint64(body[chain.HeaderSize:])
		s.Work = chain.WorkFromBytes([32]byte(body[chain.HeaderSize+8:]))
		peaks := int(body[fixed-1])
		for body = body[fixed:]; peaks > 0; peaks-- {
			s.Peaks, body = append(s.Peaks, chain.Hash(body[:32])), body[32:]
		}
		if i > 0 && h.Height <= trail[i-1].Header.Height {
			return nil, damaged
		}
	}
	if len(body) > 0 || trail[0].ID != g.State().ID {
		return nil, damaged
	}
	return trail, nil
}

// ErrFile is wrapped where the file of headers can't be used.
var ErrFile = errors.New("headers kept")

// readTrail is nil if there is no file yet.
func readTrail(file string, g *chain.Genesis) ([]chain.State, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > maxTrailFile {
		err = errors.New("too large")
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(file)
	}
	var trail []chain.State
	if err == nil {
		trail, err = decodeTrail(b, g)
	}
	if err != nil {
		return nil, fmt.Errorf("%w in %s can't be used, remove it to take them from peers again: %w", ErrFile, file, err)
	}
	return trail, nil
}

// writeTrail replaces the file as a whole.
func writeTrail(file string, trail []chain.State) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("keeping headers: %w", err)
	}
	_, err = f.Write(appendTrail(nil, chain.NetworkID(trail[0].Header.Parent), trail))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("keeping headers: %w", err)
	}
	return nil
}
