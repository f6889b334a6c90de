package p2p

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Identity is a node's libp2p key pair. Only this package sees the key.
type Identity struct {
	key crypto.PrivKey
	id  peer.ID
}

// ID is the peer id in its text form, empty for the zero Identity.
func (i Identity) ID() string {
	if i.key == nil {
		return ""
	}
	return i.id.String()
}

// NewIdentity makes an identity that lives in memory only.
func NewIdentity() (Identity, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return Identity{}, err
	}
	return identityOf(key)
}

func identityOf(key crypto.PrivKey) (Identity, error) {
	id, err := peer.IDFromPrivateKey(key)
	return Identity{key: key, id: id}, err
}

const (
	identityHead = "quipu-identity/1 "
	identityMax  = 4096
)

// LoadIdentity reads the identity in file, or makes one there with mode 0600. An existing file is never written to:
// a new one appears whole under its name or not at all.
func LoadIdentity(file string) (Identity, error) {
	ident, err := readIdentity(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return ident, err
	}
	if ident, err = NewIdentity(); err != nil {
		return Identity{}, err
	}
	if err := writeIdentity(file, ident); err != nil {
		if errors.Is(err, fs.ErrExist) { // another process was first
			return readIdentity(file)
		}
		return Identity{}, fmt.Errorf("identity %s: %w", file, err)
	}
	return ident, nil
}

func readIdentity(file string) (Identity, error) {
	f, err := os.Open(file)
	if err != nil {
		return Identity{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Identity{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Identity{}, fmt.Errorf("identity %s can be read by others (mode %04o): run chmod 600 on it", file, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, identityMax))
	if err != nil {
		return Identity{}, err
	}
	body, ok := strings.CutPrefix(strings.TrimSuffix(string(text), "\n"), identityHead)
	if !ok {
		return Identity{}, fmt.Errorf("identity %s is damaged or made by a newer program", file)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(body)
	if err != nil {
		return Identity{}, fmt.Errorf("identity %s is damaged", file)
	}
	key, err := crypto.UnmarshalPrivateKey(raw)
	if err != nil {
		return Identity{}, fmt.Errorf("identity %s is damaged", file)
	}
	return identityOf(key)
}

// writeIdentity fills a temporary file, syncs it, and links it to its name: a link, unlike a rename, fails if the
// name is taken.
func writeIdentity(file string, ident Identity) error {
	raw, err := crypto.MarshalPrivateKey(ident.key)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".identity-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(identityHead + base64.StdEncoding.EncodeToString(raw) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Link(f.Name(), file)
}
