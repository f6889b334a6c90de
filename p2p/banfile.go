package p2p

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// The file of bans is JSON, so that a person can read it: {"schema":"quipu.banned/v1","bans":[{"id":…,"evidence":…,
// "detail":…,"at":…,"until":…}, …]}. A ban outlives a restart; what only disconnects for a minute doesn't.
const (
	banSchema  = "quipu.banned/v1"
	maxBanFile = 4 << 20 // maxBans of the longest
	maxBanText = 256     // bytes of a detail
	longestBan = 24 * time.Hour
)

type banFile struct {
	Schema string      `json:"schema"`
	Bans   []bannedOne `json:"bans"`
}

type bannedOne struct {
	ID       string    `json:"id"`
	Evidence Evidence  `json:"evidence"`
	Detail   string    `json:"detail"`
	At       time.Time `json:"at"`
	Until    time.Time `json:"until"`
}

// readBans reads a file of bans; none if there is no file.
func readBans(file string) ([]bannedOne, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxBanFile+1))
	if err != nil {
		return nil, err
	}
	return decodeBans(raw)
}

func decodeBans(raw []byte) ([]bannedOne, error) {
	var out banFile
	switch err := json.Unmarshal(raw, &out); {
	case len(raw) > maxBanFile || len(out.Bans) > maxBans:
		return nil, errors.New("too long")
	case err != nil:
		return nil, fmt.Errorf("damaged: %w", err)
	case out.Schema != banSchema:
		return nil, fmt.Errorf("schema %q, want %q", printable(out.Schema, 64), banSchema)
	}
	for i := range out.Bans {
		b := &out.Bans[i]
		if _, err := peer.Decode(b.ID); err != nil || b.Until.Before(b.At) {
			return nil, fmt.Errorf("damaged: ban %d", i)
		}
		b.Evidence, b.Detail = Evidence(printable(string(b.Evidence), 32)), printable(b.Detail, maxBanText)
	}
	return out.Bans, nil
}

// loadBans enters the bans of the last run that are in force. A file that can't be used is a warning: the node starts
// with none, and writes over it with the next ban.
func (s *Service) loadBans() {
	if s.cfg.BanFile == "" {
		return
	}
	bans, err := readBans(s.cfg.BanFile)
	if err != nil {
		s.log.Warn("starting without the bans of the last run: their file can't be used and is written anew with the next ban", "file", s.cfg.BanFile, "err", err)
		return
	}
	now := time.Now()
	for _, b := range bans {
		id, err := peer.Decode(b.ID)
		until := b.Until
		if most := now.Add(longestBan); until.After(most) { // the clock has been set back
			until = most
		}
		if err == nil && now.Before(until) && !s.isStatic(id) {
			s.gate.refuse(id, refusal{evidence: b.Evidence, detail: b.Detail, at: b.At, until: until, ban: true})
		}
	}
}

// banLoop writes the bans whenever they have changed, at most once a second, and once more at the end.
func (s *Service) banLoop(ctx context.Context) {
	if s.cfg.BanFile == "" {
		return
	}
	for {
		select {
		case <-ctx.Done():
			select {
			case <-s.gate.changed:
				s.writeBans()
			default:
			}
			return
		case <-s.gate.changed:
			s.writeBans()
			sleep(ctx, time.Second)
		}
	}
}

func (s *Service) writeBans() {
	out := banFile{Schema: banSchema, Bans: []bannedOne{}}
	for _, b := range s.gate.bans() {
		out.Bans = append(out.Bans, bannedOne{ID: b.ID, Evidence: b.Evidence, Detail: printable(b.Detail, maxBanText), At: b.At.UTC(), Until: b.Until.UTC()})
	}
	raw, err := json.MarshalIndent(out, "", " ")
	if err == nil {
		err = writeBook(s.cfg.BanFile, append(raw, '\n'))
	}
	if err != nil {
		s.log.Error("writing the bans", "file", s.cfg.BanFile, "err", err)
	}
}

// Pardon lifts a ban or any other refusal of a peer by its id, and reports whether there was one.
func (s *Service) Pardon(id string) (bool, error) {
	p, err := peer.Decode(id)
	if err != nil {
		return false, fmt.Errorf("peer id %q: %w", id, err)
	}
	return s.gate.pardon(p), nil
}
