package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"anytime/signaling/wire"
)

// signal is one WebSocket.
type signal struct {
	ws   *websocket.Conn
	mu   sync.Mutex // of writing
	done chan struct{}
	// attached: a goroutine reads until done is closed.
	attached bool
}

const writeTimeout = 10 * time.Second

// UpgradeError tells why the server did not let the client in.
type UpgradeError struct {
	Status int
	Text   string
}

func (e *UpgradeError) Error() string { return fmt.Sprintf("join refused: %d %s", e.Status, e.Text) }

// dial connects and reads the first message. sid, when set, asks to resume that session.
func (c *Client) dial(ctx context.Context, sid string) (*signal, *wire.SignalResponse, error) {
	target, header, err := c.address(sid)
	if err != nil {
		return nil, nil, err
	}
	if c.cfg.Seen != nil {
		if err := c.cfg.Seen(target.String()); err != nil {
			return nil, nil, err
		}
	}
	dialer := websocket.Dialer{HandshakeTimeout: 15 * time.Second}
	ws, resp, err := dialer.DialContext(ctx, target.String(), header)
	if err != nil {
		if resp != nil {
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusSwitchingProtocols {
				text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
				return nil, nil, &UpgradeError{resp.StatusCode, strings.TrimSpace(string(text))}
			}
		}
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	s := &signal{ws: ws, done: make(chan struct{})}
	stop := context.AfterFunc(ctx, s.cut)
	first, err := s.read()
	if !stop() && err != nil {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		s.cut()
		return nil, nil, fmt.Errorf("read the first message: %w", err)
	}
	if c.cfg.OnMessage != nil {
		c.cfg.OnMessage(first)
	}
	if leave := first.GetLeave(); leave != nil {
		s.close()
		return nil, nil, &LeaveError{leave}
	}
	return s, first, nil
}

// attach makes s the client's connection and starts to read it.
func (c *Client) attach(s *signal, ping time.Duration) {
	s.attached = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil { // closed meanwhile
		close(s.done)
		s.cut()
		return
	}
	c.signal = s
	c.wg.Go(func() {
		defer close(s.done)
		defer s.cut()
		for {
			m, err := s.read()
			if err != nil {
				c.mu.Lock()
				current := c.signal == s
				c.mu.Unlock()
				if current {
					c.update(func(st *State) { st.SignalLost = true })
				}
				return
			}
			if c.cfg.OnMessage != nil {
				c.cfg.OnMessage(m)
			}
			c.handle(m)
		}
	})
	if ping <= 0 {
		ping = 5 * time.Second
	}
	c.wg.Go(func() {
		ticker := time.NewTicker(ping)
		defer ticker.Stop()
		for {
			select {
			case <-s.done:
				return
			case <-c.ctx.Done():
				return
			case now := <-ticker.C:
				_ = s.send(&wire.SignalRequest{Message: &wire.RequestPingReq{
					PingReq: &wire.Ping{Timestamp: now.UnixMilli()},
				}})
			}
		}
	})
}

func (s *signal) read() (*wire.SignalResponse, error) {
	_, frame, err := s.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	return wire.DecodeResponse(frame)
}

func (s *signal) send(m *wire.SignalRequest) error {
	frame, err := wire.EncodeRequest(m)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.ws.SetWriteDeadline(time.Now().Add(writeTimeout))
	return s.ws.WriteMessage(websocket.BinaryMessage, frame)
}

// close says goodbye to the WebSocket and ends it. While it is read (attached), the server gets a
// moment to end it from its side: closing with unread bytes would reset the TCP connection, and the
// server might lose our last message.
func (s *signal) close() {
	_ = s.ws.WriteControl(websocket.CloseMessage,
		websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	if s.attached {
		patience := time.NewTimer(time.Second)
		defer patience.Stop()
		select {
		case <-s.done:
		case <-patience.C:
		}
	}
	s.cut()
}

func (s *signal) cut() { _ = s.ws.Close() }

// Send sends any message, for tests of the server.
func (c *Client) Send(m *wire.SignalRequest) error {
	c.mu.Lock()
	s := c.signal
	c.mu.Unlock()
	if s == nil {
		return ErrClosed
	}
	return s.send(m)
}

// handle takes one message of the server.
func (c *Client) handle(m *wire.SignalResponse) {
	switch m := m.Message.(type) {
	case *wire.ResponseAnswer:
		c.mu.Lock()
		ch := c.offers.answers[m.Answer.GetId()]
		c.mu.Unlock()
		if ch != nil {
			ch <- m.Answer // capacity 1, used once
		}
	case *wire.ResponseOffer:
		if c.subscriber != nil && !c.cfg.Single {
			c.mu.Lock()
			c.unanswered = append(c.unanswered, m.Offer)
			first := len(c.unanswered) == 1
			c.mu.Unlock()
			if first {
				c.wg.Go(c.answerAll)
			}
		}
	case *wire.ResponseMediaSections:
		if c.publisher != nil {
			c.wg.Go(func() { c.addSections(m.MediaSectionsRequirement) })
		}
	case *wire.ResponseTrickle:
		t := c.publisher
		if m.Trickle.GetTarget() == wire.TargetSubscriber {
			t = c.subscriber
		}
		if t != nil {
			t.addCandidate(m.Trickle.GetCandidateInit())
		}
	case *wire.ResponseTrackPublished:
		c.mu.Lock()
		ch := c.waiting[m.TrackPublished.GetCid()]
		delete(c.waiting, m.TrackPublished.GetCid())
		c.mu.Unlock()
		if ch != nil {
			ch <- m.TrackPublished // capacity 1, used once
		}
	case *wire.ResponseRefreshToken:
		c.mu.Lock()
		c.token = m.RefreshToken
		c.mu.Unlock()
		c.update(func(*State) {})
	case *wire.ResponseRoomMoved:
		c.moved(m.RoomMoved)
	default:
		c.update(func(st *State) { view(st, m) })
	}
}

// view changes the view by one message.
func view(st *State, m any) {
	switch m := m.(type) {
	case *wire.ResponseUpdate:
		for _, p := range m.Update.GetParticipants() {
			viewParticipant(st, p)
		}
	case *wire.ResponseRoomUpdate:
		st.Room = m.RoomUpdate.GetRoom()
	case *wire.ResponseSpeakersChanged:
		for _, s := range m.SpeakersChanged.GetSpeakers() {
			if s.Active {
				st.Speakers[s.Sid] = s.Level
			} else {
				delete(st.Speakers, s.Sid)
			}
		}
	case *wire.ResponseConnectionQuality:
		for _, q := range m.ConnectionQuality.GetUpdates() {
			st.Qualities[q.ParticipantSid] = q.Quality
		}
	case *wire.ResponseSubscriptionPermissionUpdate:
		u := m.SubscriptionPermissionUpdate
		st.Denied[u.GetTrackSid()] = !u.GetAllowed()
	case *wire.ResponseSubscriptionResponse:
		st.Failed[m.SubscriptionResponse.GetTrackSid()] = m.SubscriptionResponse.GetErr()
	case *wire.ResponseSubscribedQuality:
		u := m.SubscribedQualityUpdate
		wanted := map[string]int{}
		for _, c := range u.GetSubscribedCodecs() {
			wanted[c.GetCodec()] = -1
			for _, q := range c.GetQualities() {
				if q.GetEnabled() {
					wanted[c.GetCodec()] = max(wanted[c.GetCodec()], int(q.GetQuality()))
				}
			}
		}
		st.Wanted[u.GetTrackSid()] = wanted
	case *wire.ResponseStreamState:
		for _, s := range m.StreamStateUpdate.GetStreamStates() {
			st.Paused[s.GetTrackSid()] = s.GetState() == wire.StreamPaused
		}
	case *wire.ResponseTrackSubscribed:
		st.Subscribed[m.TrackSubscribed.GetTrackSid()] = true
	case *wire.ResponseRequestResponse:
		if m.RequestResponse.GetReason() != wire.RequestOK {
			st.Refused = append(st.Refused, m.RequestResponse)
		}
	case *wire.ResponseLeave:
		st.Left = m.Leave
	}
}

func viewParticipant(st *State, p *wire.ParticipantInfo) {
	if p.Identity == st.Self.GetIdentity() {
		if p.Sid == st.Self.GetSid() && p.Version >= st.Self.GetVersion() {
			st.Self = p
		}
		return
	}
	known := st.Participants[p.Identity]
	switch {
	case p.State == wire.StateDisconnected:
		if known != nil && known.Sid == p.Sid {
			delete(st.Participants, p.Identity)
		}
	case known == nil || known.Sid != p.Sid || p.Version >= known.Version:
		st.Participants[p.Identity] = p
	}
}
