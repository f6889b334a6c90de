package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"
)

// serveRPC answers POST /rpc: one call or a batch, in order.
func (s *Server) serveRPC(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		http.Error(w, "JSON-RPC 2.0 is answered to POST; method rpc.discover lists the methods", http.StatusMethodNotAllowed)
		return
	}
	if s.cfg.AllowRemote {
		if e := s.checkToken(r); e != nil {
			s.replyError(w, tokenStatus(e), nullID, e)
			return
		}
	}
	body, err := readBody(w, r)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		s.replyError(w, http.StatusRequestEntityTooLarge, nullID, Errorf(NameTooLarge, "split it", "a request of more than %d bytes", MaxBody))
		return
	}
	if err != nil {
		s.replyError(w, http.StatusBadRequest, nullID, Errorf(NameParse, "", "the body could not be read: %v", err))
		return
	}
	calls, batch, bad := decodeRequests(body)
	if bad != nil {
		s.replyError(w, http.StatusBadRequest, nullID, bad)
		return
	}
	if !batch {
		s.serveOne(w, r, calls[0])
		return
	}
	replies := make([]response, 0, len(calls))
	size := 0
	for _, c := range calls {
		var reply response
		if size > maxReply {
			reply = response{Error: Errorf(NameTooLarge, "ask in a smaller batch", "the answers before this one exceed %d bytes", maxReply)}
		} else {
			reply = s.answer(r, c)
		}
		if c.id == nil {
			continue
		}
		reply.JSONRPC, reply.ID = "2.0", c.id
		size += len(reply.Result)
		replies = append(replies, reply)
	}
	if len(replies) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.reply(w, http.StatusOK, replies)
}

func (s *Server) serveOne(w http.ResponseWriter, r *http.Request, c request) {
	reply := s.answer(r, c)
	reply.JSONRPC, reply.ID = "2.0", c.id
	status := http.StatusOK
	if reply.Error != nil {
		switch reply.Error.Data.Name {
		case NameUnauthorized:
			w.Header().Set("WWW-Authenticate", "Bearer")
			status = http.StatusUnauthorized
		case NameForbidden:
			status = http.StatusForbidden
		case NameInvalidRequest:
			status = http.StatusBadRequest
		}
	}
	if c.id == nil && status == http.StatusOK {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if c.id == nil {
		reply.ID = nullID
	}
	s.reply(w, status, reply)
}

// answer runs one call and counts it.
func (s *Server) answer(r *http.Request, c request) response {
	if c.err != nil {
		s.calls.WithLabelValues("unknown", string(c.err.Data.Name)).Inc()
		return response{Error: c.err}
	}
	e, ok := s.methods[c.method]
	if !ok {
		s.calls.WithLabelValues("unknown", string(NameMethodNotFound)).Inc()
		return response{Error: Errorf(NameMethodNotFound, "rpc.discover lists the methods", "no method %.60q", c.method)}
	}
	began := time.Now()
	result, err := s.run(r, e, c.params)
	s.seconds.WithLabelValues(e.Name).Observe(time.Since(began).Seconds())
	if err != nil {
		wire := AsError(err)
		if wire.Data.Name == NameInternal {
			s.cfg.Log.Error("rpc call failed", "method", e.Name, "err", err)
		}
		s.calls.WithLabelValues(e.Name, string(wire.Data.Name)).Inc()
		return response{Error: wire}
	}
	s.calls.WithLabelValues(e.Name, "ok").Inc()
	return response{Result: result}
}

// run calls the method. A panic in it costs the call, not the node.
func (s *Server) run(r *http.Request, e Entry, params json.RawMessage) (text json.RawMessage, err error) {
	if e.Admin {
		if e := s.checkToken(r); e != nil {
			return nil, e
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.CallTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("rpc method panicked", "method", e.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			text, err = nil, Errorf(NameInternal, "see the node's log", "%s failed inside the node", e.Name)
		}
	}()
	result, err := e.call(ctx, params)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

func (s *Server) replyError(w http.ResponseWriter, status int, id json.RawMessage, e *Error) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	s.reply(w, status, response{JSONRPC: "2.0", ID: id, Error: e})
}

func (s *Server) reply(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil { // ids and results were valid JSON before
		s.cfg.Log.Error("rpc answer could not be written", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}
