package rpc

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// tokenSize is the length of a token in bytes; the file holds twice as many hex digits.
const tokenSize = 32

// newToken writes a fresh token to file, readable by its owner alone, through a temporary file and a rename.
func newToken(file string) (string, error) {
	var secret [tokenSize]byte
	rand.Read(secret[:]) // never fails (crypto/rand)
	token := hex.EncodeToString(secret[:])
	tmp, err := os.CreateTemp(filepath.Dir(file), ".rpc.token-*") // made 0600
	if err != nil {
		return "", fmt.Errorf("RPC token: %w", err)
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.WriteString(token + "\n"); err != nil {
		tmp.Close()
		return "", fmt.Errorf("RPC token: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return "", fmt.Errorf("RPC token: %w", err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return "", fmt.Errorf("RPC token: %w", err)
	}
	return token, nil
}

// readToken reads a token file written by newToken.
func readToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("RPC token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) != 2*tokenSize {
		return "", fmt.Errorf("RPC token: %s holds no token", file)
	}
	return token, nil
}

// removeToken removes file if it still holds our token: a later start may have replaced it.
func removeToken(file, token string) {
	if held, err := readToken(file); err == nil && sameToken(held, token) {
		os.Remove(file)
	}
}

func sameToken(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
