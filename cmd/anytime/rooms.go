package main

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"anytime/companion"
	"anytime/signaling"
	"anytime/signaling/wire"
	"anytime/turn"
)

// joinTokenLife is how long a token may wait between its making and the join.
const joinTokenLife = 2 * time.Minute

// turnLife is how long TURN credentials open allocations: longer than calls last, for a browser
// asks for new ones only when it joins again.
const turnLife = 12 * time.Hour

// callPrefix begins the name of every room that belongs to a call: the call's id.
const callPrefix = "ca_"

// callRooms is signaling as the companion knows it.
type callRooms struct{ n *node }

// Token implements companion.Rooms.
func (r callRooms) Token(identity, room, displayName string) (string, time.Time, error) {
	expires := time.Now().Add(joinTokenLife)
	token, err := wire.Mint(r.n.keys.APIKey, r.n.keys.APISecret, wire.Claims{
		Identity: identity, Name: displayName,
		Video: wire.Grant{RoomJoin: true, Room: room},
	}, joinTokenLife)
	return token, expires, err
}

// Participants implements companion.Rooms.
func (r callRooms) Participants(room string) []string {
	return r.n.signaling.Connected(room)
}

// Disconnect implements companion.Rooms.
func (r callRooms) Disconnect(room, identity, reason string) {
	if r.n.signaling.RemoveParticipant(room, identity, wire.ReasonParticipantRemoved) {
		r.n.log.Info("participant removed", "room", room, "identity", identity, "reason", reason)
	}
}

// CloseRoom implements companion.Rooms.
func (r callRooms) CloseRoom(room string) { r.n.signaling.CloseRoom(room, wire.ReasonRoomDeleted) }

// authorize rechecks a token against the call that its room belongs to. Rooms of no call, which
// only the API secret makes tokens for, are the token maker's business.
func (n *node) authorize(ctx context.Context, claims wire.Claims, _ signaling.Occasion) (signaling.Admission, error) {
	if !strings.HasPrefix(claims.Video.Room, callPrefix) {
		return signaling.Admission{}, nil
	}
	name, err := n.companion.CallAuthorize(ctx, claims.Video.Room, claims.Identity)
	if errors.Is(err, companion.ErrNotAdmitted) {
		return signaling.Admission{}, &signaling.Refusal{Status: http.StatusForbidden, Text: err.Error()}
	}
	return signaling.Admission{Name: name}, err
}

// clientAddr is the address that limits on joins count, as those of the API do.
func (n *node) clientAddr(r *http.Request) netip.Addr {
	return companion.ClientAddr(r, n.config.http.trustedProxies)
}

// observe tells webhooks what happens in rooms, and the companion who is in the rooms of its calls.
func (n *node) observe(e signaling.RoomEvent) {
	n.tellWebhooks(e)
	if !strings.HasPrefix(e.Room, callPrefix) {
		return
	}
	switch e.Kind {
	case signaling.ParticipantJoined, signaling.ParticipantBack:
		n.companion.RoomJoined(e.Room, e.Identity)
	case signaling.ParticipantLost:
		n.companion.RoomLeft(e.Room, e.Identity, true)
	case signaling.ParticipantLeft:
		switch e.Reason {
		case wire.ReasonDuplicateIdentity: // another session of the same device took over
		case wire.ReasonClientInitiated, wire.ReasonParticipantRemoved, wire.ReasonRoomDeleted:
			n.companion.RoomLeft(e.Room, e.Identity, false)
		default:
			n.companion.RoomLeft(e.Room, e.Identity, true)
		}
	}
}

func (n *node) secretOf(apiKey string) (string, bool) {
	return n.keys.APISecret, apiKey == n.keys.APIKey
}

// iceServers are this node's TURN listeners, with credentials for one identity. Few URLs: a
// browser tries them all, from every interface, at every join.
func (n *node) iceServers(identity string) []*wire.ICEServer {
	if n.turn == nil {
		return nil
	}
	username, password := turn.Credentials(n.keys.TURNSecret, identity, time.Now(), turnLife)
	return []*wire.ICEServer{{Urls: n.turnURLs, Username: username, Credential: password}}
}

// relayPeers are the addresses that a relay may reach: the SFU's own.
func (n *node) relayPeers() []netip.AddrPort {
	port := n.sfu.UDPAddr().Port()
	var peers []netip.AddrPort
	for _, ip := range n.sfu.Addrs() {
		peers = append(peers, netip.AddrPortFrom(ip, port))
	}
	return peers
}
