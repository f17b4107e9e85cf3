package companion

import "context"

// CallsConfig is what calls need of the rest of the program.
type CallsConfig struct{}

// calls is the server's state of calls.
type calls struct{}

// callRoutes registers /v1/calls. Called by New, after s.api is made.
func (s *Server) callRoutes() {}

// startCalls starts the timers and the outbox. Called by New, at its end.
func (s *Server) startCalls(context.Context) error { return nil }

// stopCalls ends what startCalls started. Called by Close, after s.ctx ended and
// before s.wg is waited for.
func (s *Server) stopCalls() {}

// callSnapshot returns the calls in the snapshot of a new event socket: those that
// ring or go on, as this session sees them.
func (s *Server) callSnapshot(context.Context, Session) (any, error) { return []struct{}{}, nil }
