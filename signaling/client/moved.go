package client

import (
	"context"

	"github.com/pion/webrtc/v4"

	"anytime/signaling/wire"
)

// moved follows the server into another room: the people of the old one are gone, and the token is the
// new one's.
func (c *Client) moved(m *wire.RoomMoved) {
	c.mu.Lock()
	c.token = m.GetToken()
	c.mu.Unlock()
	c.update(func(st *State) {
		st.Room, st.Self = m.GetRoom(), m.GetParticipant()
		clear(st.Participants)
		clear(st.Speakers)
		clear(st.Qualities)
		for _, p := range m.GetOtherParticipants() {
			st.Participants[p.Identity] = p
		}
	})
}

// ReopenData closes the reliable data channel, tells between, and opens another, as some browsers make
// SDKs do after a resume. Single mode only: there the server sends over it too.
func (c *Client) ReopenData(ctx context.Context, between func()) error {
	c.mu.Lock()
	old := c.out[index(true)]
	c.mu.Unlock()
	closed := make(chan struct{})
	old.channel.OnClose(func() { close(closed) })
	if err := old.channel.Close(); err != nil {
		return err
	}
	select {
	case <-closed:
	case <-ctx.Done():
		return ctx.Err()
	}
	between()
	ordered := true
	_, err := c.dataChannel(reliableLabel, &webrtc.DataChannelInit{Ordered: &ordered})
	return err
}

// SyncState tells the server what the client believes, as SDKs do after a resume. received holds the
// last sequence of reliable data by its sender's participant id.
func (c *Client) SyncState(received map[string]uint32) error {
	state := &wire.SyncState{}
	for sid, last := range received {
		state.DatachannelReceiveStates = append(state.DatachannelReceiveStates, &wire.DataReceiveState{PublisherSid: sid, LastSeq: last})
	}
	return c.Send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: state}})
}
