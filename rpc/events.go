package rpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// EventSchema is in every event. Fields may be added; renaming one makes a v2.
const EventSchema = "quipu.event/v1"

// Event is one thing that happened in a node: tx.seen, tx.verified, tx.rejected, tx.included, tx.dropped, block.seen,
// block.verified, block.rejected, block.tip, reorg, peer.up, peer.down, peer.banned and so on.
type Event struct {
	Schema  string    `json:"schema"`
	Seq     uint64    `json:"seq"` // from 1, without holes within one run of the node
	Time    time.Time `json:"time"`
	Node    string    `json:"node,omitempty"`
	Kind    string    `json:"kind"`
	ID      string    `json:"id,omitempty"`   // txid, block id or peer id: what it is about
	From    string    `json:"from,omitempty"` // peer it came from
	TookUS  uint64    `json:"took_us,omitempty"`
	Verdict string    `json:"verdict,omitempty"` // "accept", "ignore", "reject"
	Reason  string    `json:"reason,omitempty"`
	Height  uint64    `json:"height,omitempty"`
	Count   int       `json:"count,omitempty"` // it stands for so many, or is so many blocks deep
}

// EventSource gives the events after seq that are still held, oldest first, and a channel that is closed when there is
// a newer one than those. A seq above the newest, left over from before a restart, counts as 0. It doesn't block, and
// what it returns is not written to afterwards.
type EventSource func(seq uint64) (events []Event, more <-chan struct{})

const (
	maxStreams    = 32               // readers of /events at once
	streamBeat    = 15 * time.Second // a comment line, so that dead connections are noticed
	streamTimeout = 10 * time.Second // a reader that takes nothing for so long is dropped
)

// gap says that events between seq and the first of events were lost from the ring.
func gap(seq uint64, events []Event) bool { return seq > 0 && events[0].Seq != seq+1 }

// serveEvents streams server-sent events (HTML Living Standard §9.2). It starts after ?since=SEQ or the Last-Event-ID
// header a browser sends when it reconnects; without either it starts with all that is held. A message of type "gap"
// says that some were lost and the state must be read anew.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		s.calls.WithLabelValues("events", string(NameBusy)).Inc()
		http.Error(w, fmt.Sprintf("%d readers of /events are connected already", maxStreams), http.StatusServiceUnavailable)
		return
	}
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("since")
	}
	seq := uint64(0)
	if text != "" {
		var err error
		if seq, err = strconv.ParseUint(text, 10, 64); err != nil {
			http.Error(w, "since and Last-Event-ID: want a sequence number", http.StatusBadRequest)
			return
		}
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	for first := true; ; first = false {
		events, more := s.cfg.Events(seq)
		if len(events) > 0 || first {
			_ = rc.SetWriteDeadline(time.Now().Add(streamTimeout))
			if err := writeEvents(w, seq, events); err != nil || rc.Flush() != nil {
				return
			}
			if len(events) > 0 {
				seq = events[len(events)-1].Seq
			}
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.stopping:
			return
		case <-more:
		case <-beat.C:
			_ = rc.SetWriteDeadline(time.Now().Add(streamTimeout))
			if _, err := w.Write([]byte(": beat\n\n")); err != nil || rc.Flush() != nil {
				return
			}
		}
	}
}

func writeEvents(w http.ResponseWriter, seq uint64, events []Event) error {
	if len(events) == 0 {
		_, err := w.Write([]byte(": open\n\n"))
		return err
	}
	if gap(seq, events) {
		if _, err := fmt.Fprintf(w, "event: gap\ndata: {\"after\":%d,\"next\":%d}\n\n", seq, events[0].Seq); err != nil {
			return err
		}
	}
	for i := range events {
		text, err := json.Marshal(&events[i])
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", events[i].Seq, text); err != nil {
			return err
		}
	}
	return nil
}
