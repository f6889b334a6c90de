package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// xdg is the directory an XDG variable names, or its default below the home directory (XDG Base Directory
// Specification 0.8: relative values are ignored).
func xdg(variable, fallback string) (string, error) {
	if v := os.Getenv(variable); filepath.IsAbs(v) {
		return v, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fail(exitUsage, "export "+variable+"=/some/directory", "there is no home directory to keep data in: %w", err)
	}
	return filepath.Join(home, fallback), nil
}

// dataHome is $XDG_DATA_HOME/quipu.
func dataHome() (string, error) {
	d, err := xdg("XDG_DATA_HOME", ".local/share")
	return filepath.Join(d, "quipu"), err
}

// nodeDir is where the node of a network keeps its data: --data-dir, then QUIPU_DATA_DIR, then the default.
func (a *app) nodeDir(network string) (string, error) {
	if a.dataDir != "" {
		return filepath.Abs(a.dataDir)
	}
	if v := os.Getenv("QUIPU_DATA_DIR"); v != "" {
		return filepath.Abs(v)
	}
	home, err := dataHome()
	if err != nil {
		return "", err
	}
	name := fileName(network)
	if name == "wallets" || name == "light" { // is taken
		name = "network-" + name
	}
	return filepath.Join(home, name), nil
}

// walletDir is where wallets made by hand live.
func walletDir() (string, error) {
	home, err := dataHome()
	return filepath.Join(home, "wallets"), err
}

// fileName makes a network's name, any printable ASCII, one plain file name.
func fileName(network string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, network)
	if strings.Trim(name, ".") == "" {
		return "_"
	}
	return name
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}
