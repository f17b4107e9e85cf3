package signaling

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"anytime/signaling/room"
	"anytime/signaling/wire"
)

// dataPacket is a user packet with a sequence and destinations.
func dataPacket(t *testing.T, sequence uint32, text string, to ...string) []byte {
	t.Helper()
	b, err := wire.EncodeData(&wire.DataPacket{
		Sequence: sequence, DestinationIdentities: to,
		Value: &wire.DataUser{User: &wire.UserPacket{Payload: []byte(text)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withMedia joins and waits until the media is there.
func (w *world) withMedia(room, identity string, change func(*wire.Claims)) *peer {
	w.t.Helper()
	p := w.join(room, identity, change, nil)
	p.until("media", func(m *wire.SignalResponse) bool { return m.GetOffer() != nil })
	return p
}

// received waits until a fake has n data packets, and returns them.
func (p *fakePeer) received(t *testing.T, n int) []*wire.DataPacket {
	t.Helper()
	eventually(t, fmt.Sprint(n, " data packets"), func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.data) >= n })
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*wire.DataPacket
	for _, b := range p.data {
		packet, err := wire.DecodeData(b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, packet)
	}
	return out
}

// TestMissedDataIsResent: after a resume the client says what it has of each sender, and gets the rest.
func TestMissedDataIsResent(t *testing.T) {
	w := newWorld(t, nil)
	ann, bob, eve := w.withMedia("r", "ann", nil), w.withMedia("r", "bob", nil), w.withMedia("r", "eve", nil)
	from := func(p *peer, sequence uint32, text string, to ...string) {
		w.media.peer(p.id).cfg.Notify(DataReceived{Reliable: true, Payload: dataPacket(t, sequence, text, to...)})
		p.sync()
	}
	from(ann, 1, "a1")
	from(ann, 2, "a2", "eve")
	from(eve, 1, "e1")
	from(ann, 3, "a3")
	w.media.peer(ann.id).cfg.Notify(DataReceived{Payload: dataPacket(t, 0, "lossy")})
	from(eve, 2, "e2", "bob", "ann")
	bob.ws.UnderlyingConn().Close()
	from(ann, 4, "while away")
	bob = w.resume(bob)
	bob.send(&wire.SignalRequest{Message: &wire.RequestSyncState{SyncState: &wire.SyncState{
		DatachannelReceiveStates: []*wire.DataReceiveState{{PublisherSid: ann.id, LastSeq: 1}, {PublisherSid: eve.id, LastSeq: 1}},
	}}})
	fake := w.media.peer(bob.id)
	eventually(t, "the rest is sent again", func() bool { return fake.did("resend") })
	fake.mu.Lock()
	defer fake.mu.Unlock()
	var got []string
	for _, b := range fake.resent {
		p, err := wire.DecodeData(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(string(p.GetUser().Payload), " of ", p.ParticipantIdentity, " ", p.Sequence))
		if !slices.ContainsFunc(fake.data, func(sent []byte) bool { return &sent[0] == &b[0] }) {
			t.Errorf("%s is a copy: media can't tell what is on its way", got[len(got)-1])
		}
	}
	if want := []string{"a3 of ann 3", "e2 of eve 2", "while away of ann 4"}; !slices.Equal(got, want) {
		t.Errorf("sent again: %v, want %v", got, want)
	}
}

// TestResumeTellsTheLastSequence: a sender repeats from there, and what came twice goes out once.
func TestResumeTellsTheLastSequence(t *testing.T) {
	w := newWorld(t, nil)
	ann, bob := w.withMedia("r", "ann", nil), w.withMedia("r", "bob", nil)
	media := w.media.peer(ann.id)
	for i := range uint32(3) {
		media.cfg.Notify(DataReceived{Reliable: true, Payload: dataPacket(t, i+1, fmt.Sprint("m", i+1))})
	}
	ann.sync()
	ann.ws.UnderlyingConn().Close()
	ws, _, err := w.dial(ann.tok, map[string][]string{"reconnect": {"1"}, "sid": {ann.id}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	again := &peer{t: t, w: w, ws: ws, id: ann.id, tok: ann.tok}
	if r := again.read().GetReconnect(); r.GetLastMessageSeq() != 3 {
		t.Errorf("the reconnect response says %d", r.GetLastMessageSeq())
	}
	for i := range uint32(4) { // 2 to 5
		media.cfg.Notify(DataReceived{Reliable: true, Payload: dataPacket(t, i+2, fmt.Sprint("m", i+2))})
	}
	again.sync()
	for i, p := range w.media.peer(bob.id).received(t, 5) {
		if want := fmt.Sprint("m", i+1); string(p.GetUser().Payload) != want {
			t.Errorf("packet %d is %q", i, p.GetUser().Payload)
		}
	}
}

// TestUnnumberedDataIsNumbered: clients that count nothing are counted for, so that receivers can say what they have.
func TestUnnumberedDataIsNumbered(t *testing.T) {
	w := newWorld(t, nil)
	ann, bob := w.withMedia("r", "ann", nil), w.withMedia("r", "bob", nil)
	for range 3 {
		w.media.peer(ann.id).cfg.Notify(DataReceived{Reliable: true, Payload: dataPacket(t, 0, "x")})
	}
	w.media.peer(ann.id).cfg.Notify(DataReceived{Payload: dataPacket(t, 0, "lossy")})
	for i, p := range w.media.peer(bob.id).received(t, 4) {
		if want := []uint32{1, 2, 3, 0}[i]; p.Sequence != want {
			t.Errorf("packet %d has sequence %d, want %d", i, p.Sequence, want)
		}
	}
}

// TestRefusedDataIsTold: once a second at most.
func TestRefusedDataIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*wire.Claims)
		payload []byte
		reason  wire.RequestReason
		text    string
	}{
		"not allowed": {func(c *wire.Claims) { c.Video.CanPublishData = ptr(false) }, dataPacket(t, 1, "x"), wire.RequestNotAllowed, "may not send data"},
		"too large":   {nil, dataPacket(t, 1, strings.Repeat("x", wire.MaxDataPacketBytes)), wire.RequestLimitExceeded, "64512"},
		"garbage":     {nil, []byte{0xff}, wire.RequestInvalid, "DataPacket"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			ann, bob := w.withMedia("r", "ann", c.change), w.withMedia("r", "bob", nil)
			for range 5 {
				w.media.peer(ann.id).cfg.Notify(DataReceived{Reliable: true, Payload: c.payload})
			}
			told := 0
			ann.send(&wire.SignalRequest{Message: &wire.RequestMute{Mute: &wire.MuteTrackRequest{Sid: "TR_sync"}}})
			ann.until("the answer to the marker", func(m *wire.SignalResponse) bool {
				r := m.GetRequestResponse()
				if r != nil && r.GetMute() == nil {
					told++
					if r.Reason != c.reason || !strings.Contains(r.Message, c.text) {
						t.Errorf("told %v", r)
					}
				}
				return r.GetMute().GetSid() == "TR_sync"
			})
			if told != 1 {
				t.Errorf("told %d times", told)
			}
			bob.sync()
			if w.media.peer(bob.id).did("data") {
				t.Error("it was passed on")
			}
		})
	}
}

// TestMessageThatNoChannelCarries ends the session: nothing is heard of that channel any more.
func TestMessageThatNoChannelCarries(t *testing.T) {
	w := newWorld(t, nil)
	ann := w.withMedia("r", "ann", nil)
	w.media.peer(ann.id).cfg.Notify(DataRefused{Err: ErrOverflow})
	_, _, leave := ann.closed()
	if leave.GetAction() != wire.LeaveReconnect || leave.GetReason() != wire.ReasonMediaFailure {
		t.Errorf("got %v", leave)
	}
}

// TestSenderOfData: hidden senders stay unnamed, and agents may speak for others in text alone.
func TestSenderOfData(t *testing.T) {
	w := newWorld(t, nil)
	bob := w.withMedia("r", "bob", nil)
	hidden := w.withMedia("r", "ghost", func(c *wire.Claims) { c.Video.Hidden = true })
	agent := w.withMedia("r", "scribe", func(c *wire.Claims) { c.Kind = "agent" })
	ann := w.withMedia("r", "ann", nil)
	n := 0
	send := func(p *peer, packet *wire.DataPacket) *wire.DataPacket {
		t.Helper()
		b, err := wire.EncodeData(packet)
		if err != nil {
			t.Fatal(err)
		}
		w.media.peer(p.id).cfg.Notify(DataReceived{Reliable: true, Payload: b})
		n++
		return w.media.peer(bob.id).received(t, n)[n-1]
	}
	claim := func(v *wire.DataPacket) *wire.DataPacket {
		v.ParticipantIdentity, v.ParticipantSid = "king", "PA_king"
		return v
	}
	user := func() *wire.DataPacket {
		return claim(&wire.DataPacket{Sequence: uint32(n + 1), Value: &wire.DataUser{User: &wire.UserPacket{Payload: []byte("x")}}})
	}
	if p := send(hidden, user()); p.ParticipantIdentity != "" || p.ParticipantSid != "" || p.Sequence != 0 {
		t.Errorf("of the hidden one: %v", p)
	}
	if p := send(agent, user()); p.ParticipantIdentity != "scribe" || p.ParticipantSid != agent.id {
		t.Errorf("a user packet of the agent: %v", p)
	}
	if p := send(agent, claim(chatPacket("hello"))); p.ParticipantIdentity != "king" || p.ParticipantSid != agent.id || !p.GetChatMessage().GetGenerated() {
		t.Errorf("a chat message of the agent: %v", p)
	}
	if p := send(agent, claim(&wire.DataPacket{Value: &wire.DataStreamHeader{StreamHeader: &wire.StreamHeader{
		StreamId: "id", ContentHeader: &wire.StreamTextHeader{TextHeader: &wire.TextHeader{}},
	}}})); p.ParticipantIdentity != "king" || !p.GetStreamHeader().GetTextHeader().GetGenerated() {
		t.Errorf("a text stream of the agent: %v", p)
	}
	if p := send(ann, claim(chatPacket("hello"))); p.ParticipantIdentity != "ann" || p.GetChatMessage().GetGenerated() {
		t.Errorf("a chat message of a person: %v", p)
	}
}

func chatPacket(text string) *wire.DataPacket {
	return &wire.DataPacket{Value: &wire.DataChat{ChatMessage: &wire.ChatMessage{Id: "1", Message: text}}}
}

// TestMetricsAreForThoseWhoMay: a client's measurements don't go to everybody.
func TestMetricsAreForThoseWhoMay(t *testing.T) {
	w := newWorld(t, nil)
	ann, bob := w.withMedia("r", "ann", nil), w.withMedia("r", "bob", nil)
	watch := w.withMedia("r", "watch", func(c *wire.Claims) { c.Video.CanSubscribeMetrics = ptr(true) })
	b, err := wire.EncodeData(&wire.DataPacket{Value: &wire.DataMetrics{Metrics: &wire.MetricsBatch{TimestampMs: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	w.media.peer(ann.id).cfg.Notify(DataReceived{Payload: b})
	w.media.peer(watch.id).received(t, 1)
	bob.sync()
	if w.media.peer(bob.id).did("data") {
		t.Error("bob got them")
	}
}

// TestUnknownDataPassesThrough: kinds and fields that this server's schema lacks arrive as they were sent.
func TestUnknownDataPassesThrough(t *testing.T) {
	w := newWorld(t, nil)
	ann, bob := w.withMedia("r", "ann", nil), w.withMedia("r", "bob", nil)
	// A oneof member and a plain field of a later schema, and a destination of today's.
	raw := protowire.AppendTag(nil, 90, protowire.BytesType)
	raw = protowire.AppendString(raw, "a kind of tomorrow")
	raw = protowire.AppendTag(raw, 91, protowire.VarintType)
	raw = protowire.AppendVarint(raw, 7)
	unknown := slices.Clone(raw)
	raw = protowire.AppendTag(raw, 5, protowire.BytesType)
	raw = protowire.AppendString(raw, "bob")
	w.media.peer(ann.id).cfg.Notify(DataReceived{Reliable: true, Payload: raw})
	p := w.media.peer(bob.id).received(t, 1)[0]
	if string(p.ProtoReflect().GetUnknown()) != string(unknown) || p.ParticipantIdentity != "ann" {
		t.Errorf("received %v", p)
	}
}

// TestDataLogIsForgotten: a silent room keeps nothing.
func TestDataLogIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, err := New(Config{Media: newFakeMedia(), Keys: testKeys})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := srv.create("r", room.Policy{EmptyTimeout: time.Minute}, ""); err != nil {
			t.Fatal(err)
		}
		kept := func() (n int) {
			srv.ask("r", func(a *actor) { n = a.data.bytes })
			return n
		}
		srv.ask("r", func(a *actor) { a.data.add(time.Now(), "PA_a", 1, []string{"PA_b"}, []byte("x")) })
		if kept() != 1 {
			t.Fatal("nothing is kept")
		}
		time.Sleep(dataLogAge + 1)
		synctest.Wait()
		if n := kept(); n != 0 {
			t.Errorf("%d bytes are kept", n)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
