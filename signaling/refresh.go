package signaling

import (
	"context"
	"errors"
	"time"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// firstRefresh is when a client that came with these claims gets its next token: after half of a
// token's life, or of what is left of its own.
func (a *actor) firstRefresh(now time.Time, c wire.Claims) time.Time {
	return now.Add(min(a.srv.cfg.TokenLifetime, max(c.ExpiresAt.Sub(now), 0)) / 2)
}

// refreshRetry is when a refresh is tried again that could not be decided.
const refreshRetry = 15 * time.Second

// refreshTokens starts the refreshes that are due, also of those without a connection: their media may
// go on, so the right to be here is asked for all the same. Authorize may query a database: it runs on a
// goroutine of its own.
func (a *actor) refreshTokens(now time.Time) {
	for _, s := range a.sessions {
		if s.refreshAt.IsZero() || now.Before(s.refreshAt) {
			continue
		}
		s.refreshAt = time.Time{}
		claims := a.presentClaims(s)
		a.srv.running.Go(func() {
			a.srv.refreshing <- struct{}{}
			_, err := a.srv.authorize(context.Background(), claims, Refresh)
			<-a.srv.refreshing
			s.post(func(a *actor) { a.onRefreshed(s, claims, err) })
		})
	}
}

// recheck asks, once a participant is in the room, whether it may be there: a revocation while it
// joined found nobody to remove. What comes later does, so nothing falls between the two.
func (a *actor) recheck(s *session) {
	if a.srv.cfg.Authorize == nil {
		return
	}
	claims := a.presentClaims(s)
	a.srv.running.Go(func() {
		a.srv.refreshing <- struct{}{}
		_, err := a.srv.authorize(context.Background(), claims, Joined)
		<-a.srv.refreshing
		if err != nil {
			a.post(func(a *actor) { a.onRechecked(s, err) })
		}
	})
}

func (a *actor) onRechecked(s *session, err error) {
	if a.sessions[s.id] != s {
		return
	}
	now := time.Now()
	var refusal *Refusal
	if errors.As(err, &refusal) {
		s.log.Info("participant lost the right to be here while it joined", "why", refusal.Text)
		a.apply(a.room.Remove(now, s.id, room.Removed, room.Disconnect))
		return
	}
	s.log.Warn("cannot recheck a join, will try again", "err", err)
	if retry := now.Add(refreshRetry); !s.refreshAt.IsZero() && retry.Before(s.refreshAt) {
		s.refreshAt = retry // a refresh asks the same
	}
}

func (a *actor) onRefreshed(s *session, claims wire.Claims, err error) {
	if a.sessions[s.id] != s || claims.Video.Room != s.claims.Video.Room {
		return // gone, or moved: the new room has given it a token
	}
	now := time.Now()
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		s.log.Info("participant may no longer be here", "why", refusal.Text)
		a.apply(a.room.Remove(now, s.id, room.Removed, room.Disconnect))
		return
	case err != nil:
		s.log.Warn("cannot refresh the token, will try again", "err", err)
		s.refreshAt = now.Add(refreshRetry)
		return
	}
	secret, ok := a.srv.cfg.Keys(claims.APIKey)
	if !ok {
		s.log.Info("the API key of this participant's token is gone")
		a.apply(a.room.Remove(now, s.id, room.Removed, room.Disconnect))
		return
	}
	// Whoever made the client's token may have meant it to last.
	life := max(a.srv.cfg.TokenLifetime, s.claims.ExpiresAt.Sub(now))
	token, err := wire.MintAt(claims.APIKey, secret, claims, life, now)
	if err != nil {
		s.log.Error("cannot refresh the token", "err", err)
		s.refreshAt = now.Add(refreshRetry)
		return
	}
	if s.refreshAt.IsZero() {
		s.refreshAt = now.Add(a.srv.cfg.TokenLifetime / 2)
	}
	a.send(s, &wire.SignalResponse{Message: &wire.ResponseRefreshToken{RefreshToken: token}})
}

// presentClaims are a session's claims with what has changed since it joined.
func (a *actor) presentClaims(s *session) wire.Claims {
	c := s.claims
	if p, ok := a.room.Participant(s.id); ok {
		c.Name, c.Metadata, c.Attributes = p.Name, p.Metadata, p.Attributes
		c.Video = grantWith(c.Video, p.Permission)
	}
	return c
}
