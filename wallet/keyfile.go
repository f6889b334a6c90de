package wallet

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"quipu/chain"
)

// Bounds of the key file, held before anything is computed from it.
const (
	fileVersion  = 1
	maxFile      = 64 << 10 // bytes
	maxKDFMemory = 1 << 20  // KiB: 1 GiB
	maxKDFTime   = 16
	maxKDFLanes  = 8
	saltSize     = 16 // RFC 9106 §3.1
	maxName      = 64
	maxNetwork   = 32
	maxAddress   = 90 // BIP-173
	checkSize    = 8
)

// KDF is the cost of turning a passphrase into a key with argon2id (RFC 9106).
type KDF struct {
	Time      uint32 // passes, 1 to 16
	MemoryKiB uint32 // 8 × Threads to 1,048,576
	Threads   uint32 // lanes, 1 to 8
}

// DefaultKDF is RFC 9106's second recommendation (64 MiB, three passes) with
// one lane. It takes some tenths of a second.
var DefaultKDF = KDF{Time: 3, MemoryKiB: 64 << 10, Threads: 1}

// LightKDF protects nothing worth having: for tests and for wallets of
// throw-away networks, which have no passphrase.
var LightKDF = KDF{Time: 1, MemoryKiB: 64, Threads: 1}

// Validate holds the bounds, so that a hostile file can't take all memory.
func (k KDF) Validate() error {
	if k.Time < 1 || k.Time > maxKDFTime || k.Threads < 1 || k.Threads > maxKDFLanes ||
		k.MemoryKiB < 8*k.Threads || k.MemoryKiB > maxKDFMemory {
		return fmt.Errorf("argon2id with time %d, memory %d KiB, threads %d is out of bounds (1 to %d, 8 × threads to %d, 1 to %d)",
			k.Time, k.MemoryKiB, k.Threads, maxKDFTime, maxKDFMemory, maxKDFLanes)
	}
	return nil
}

func (k KDF) key(passphrase, salt []byte) []byte {
	return argon2.IDKey(passphrase, salt, k.Time, k.MemoryKiB, uint8(k.Threads), chacha20poly1305.KeySize)
}

// Info is the part of a wallet file that can be read without the passphrase.
// It is authenticated by the seal, so Open finds out whether it was altered.
type Info struct {
	Name          string
	Network       string // genesis name
	NetworkID     chain.NetworkID
	Address       string // of account 0
	BackedUp      bool
	HasPassphrase bool // false: sealed with the empty passphrase, for throw-away networks
}

// keyFile is one wallet file between its JSON and its secret.
//
//	{"quipu_wallet": 1, "name": …, "network": …, "network_id": 64 hex, "address": …,
//	 "backed_up": bool, "passphrase": bool,
//	 "kdf": {"name": "argon2id", "time": …, "memory_kib": …, "threads": …, "salt": 32 hex},
//	 "cipher": {"name": "xchacha20-poly1305", "nonce": 48 hex},
//	 "sealed": hex, "check": 16 hex}
//
// Exactly these keys, each once, in any order; hex in lower case. sealed is the
// AEAD output over the encoded secret; everything else but check is its
// additional data. check is the first 8 bytes of SHA-256(additional data ‖
// sealed): it tells decay of the file from a mistyped passphrase, and protects
// against nothing else.
type keyFile struct {
	Info
	kdf    KDF
	salt   [saltSize]byte
	nonce  [chacha20poly1305.NonceSizeX]byte
	sealed []byte
}

// aad is the additional data: every clear field, strings behind a length byte.
func (f *keyFile) aad() []byte {
	le := binary.LittleEndian
	b := []byte("quipu-wallet/1\n")
	for _, s := range []string{f.Name, f.Network, f.Address} {
		b = append(append(b, byte(len(s))), s...)
	}
	b = append(b, f.NetworkID[:]...)
	b = append(b, flag(f.BackedUp), flag(f.HasPassphrase))
	b = le.AppendUint32(b, f.kdf.Time)
	b = le.AppendUint32(b, f.kdf.MemoryKiB)
	b = le.AppendUint32(b, f.kdf.Threads)
	b = append(b, f.salt[:]...)
	return append(b, f.nonce[:]...)
}

func (f *keyFile) check() [checkSize]byte {
	sum := sha256.Sum256(append(f.aad(), f.sealed...))
	return [checkSize]byte(sum[:checkSize])
}

// seal encrypts s under key with a fresh nonce and returns the file's bytes.
func (f *keyFile) seal(key []byte, s *secret) ([]byte, error) {
	rand.Read(f.nonce[:])
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	plain := s.encode()
	defer clear(plain)
	f.sealed = aead.Seal(nil, f.nonce[:], plain, f.aad())
	return f.encode()
}

// open derives the key from the passphrase and decrypts. The caller clears both.
func (f *keyFile) open(passphrase []byte) (*secret, []byte, error) {
	if !f.HasPassphrase {
		passphrase = nil
	}
	key := f.kdf.key(passphrase, f.salt[:])
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, nil, err
	}
	plain, err := aead.Open(nil, f.nonce[:], f.sealed, f.aad())
	defer clear(plain)
	if err != nil {
		clear(key)
		return nil, nil, &Error{Kind: ErrWrongPassphrase}
	}
	s, err := decodeSecret(plain)
	if err != nil {
		clear(key)
		return nil, nil, err
	}
	return s, key, nil
}

type jsonKDF struct {
	Name      string `json:"name"`
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint32 `json:"threads"`
	Salt      string `json:"salt"`
}

type jsonCipher struct {
	Name  string `json:"name"`
	Nonce string `json:"nonce"`
}

func (f *keyFile) encode() ([]byte, error) {
	check := f.check()
	out, err := json.MarshalIndent(struct {
		Version    int        `json:"quipu_wallet"`
		Name       string     `json:"name"`
		Network    string     `json:"network"`
		NetworkID  string     `json:"network_id"`
		Address    string     `json:"address"`
		BackedUp   bool       `json:"backed_up"`
		Passphrase bool       `json:"passphrase"`
		KDF        jsonKDF    `json:"kdf"`
		Cipher     jsonCipher `json:"cipher"`
		Sealed     string     `json:"sealed"`
		Check      string     `json:"check"`
	}{
		fileVersion, f.Name, f.Network, f.NetworkID.String(), f.Address, f.BackedUp, f.HasPassphrase,
		jsonKDF{kdfName, f.kdf.Time, f.kdf.MemoryKiB, f.kdf.Threads, hex.EncodeToString(f.salt[:])},
		jsonCipher{cipherName, hex.EncodeToString(f.nonce[:])},
		hex.EncodeToString(f.sealed), hex.EncodeToString(check[:]),
	}, "", "  ")
	return append(out, '\n'), err
}

const (
	kdfName    = "argon2id"
	cipherName = "xchacha20-poly1305"
)

// decodeKeyFile reads a wallet file. It refuses what it doesn't know, and costs
// no more than reading: no key is derived.
func decodeKeyFile(raw []byte) (*keyFile, error) {
	if len(raw) > maxFile {
		return nil, damaged("larger than 64 KiB")
	}
	r := object(raw)
	if v := r.number("quipu_wallet"); r.err == nil && v > fileVersion {
		// Before anything else: a newer file may have any other keys.
		return nil, &Error{Kind: ErrNewer, Detail: fmt.Sprintf("file version %d, this program reads %d", v, fileVersion)}
	} else if r.err == nil && v != fileVersion {
		return nil, damaged("file version " + strconv.Itoa(int(v)))
	}
	f := new(keyFile)
	f.Name = r.text("name", maxName)
	f.Network = r.text("network", maxNetwork)
	r.bytes("network_id", f.NetworkID[:])
	f.Address = r.text("address", maxAddress)
	f.BackedUp = r.flag("backed_up")
	f.HasPassphrase = r.flag("passphrase")
	kdf := object(r.raw("kdf"))
	if name := kdf.text("name", maxName); kdf.err == nil && name != kdfName {
		kdf.err = damaged("key derivation " + strconv.Quote(name))
	}
	f.kdf = KDF{kdf.number("time"), kdf.number("memory_kib"), kdf.number("threads")}
	kdf.bytes("salt", f.salt[:])
	cipher := object(r.raw("cipher"))
	if name := cipher.text("name", maxName); cipher.err == nil && name != cipherName {
		cipher.err = damaged("cipher " + strconv.Quote(name))
	}
	cipher.bytes("nonce", f.nonce[:])
	sealed := r.text("sealed", 2*(maxSecret+chacha20poly1305.Overhead))
	var check [checkSize]byte
	r.bytes("check", check[:])
	for _, o := range []*reader{r, kdf, cipher} {
		if err := o.done(); err != nil {
			return nil, err
		}
	}
	f.sealed = make([]byte, len(sealed)/2)
	if err := unhexStrict(sealed, f.sealed); err != nil {
		return nil, damaged("sealed " + err.Error())
	}
	if err := f.kdf.Validate(); err != nil {
		return nil, damaged(err.Error())
	}
	if err := CheckName(f.Name); err != nil {
		return nil, damaged("name " + strconv.Quote(f.Name))
	}
	if a, err := chain.DecodeAddress(f.prefix(), f.Address); err != nil || chain.EncodeAddress(f.prefix(), a) != f.Address {
		return nil, damaged("its address is none")
	}
	if check != f.check() {
		return nil, damaged("its checksum doesn't match")
	}
	return f, nil
}

// prefix is the address's part before the last "1" (BIP-173).
func (i Info) prefix() string { return i.Address[:max(strings.LastIndexByte(i.Address, '1'), 0)] }

// CheckName reports whether name can name a wallet: 1 to 64 letters, digits,
// '.', '_' or '-', beginning with a letter or digit, so that it is one file
// name on every system.
func CheckName(name string) error {
	ok := len(name) >= 1 && len(name) <= maxName
	for i, c := range []byte(name[:min(len(name), maxName)]) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (alnum || i > 0 && strings.IndexByte("._-", c) >= 0)
	}
	if !ok {
		return &Error{Kind: ErrName, Detail: strconv.Quote(name[:min(len(name), maxName)])}
	}
	return nil
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
