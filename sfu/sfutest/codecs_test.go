package sfutest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anytime/sfu"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

var (
	vp8  = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	h264 = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264, ClockRate: 90000,
		SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}
)

// encoder sends one codec of a track: a frame of one packet, 30 times a second, a keyframe when asked for.
type encoder struct {
	c      *Client
	sender *webrtc.RTPSender
	track  *webrtc.TrackLocalStaticRTP
	off    atomic.Bool
	force  atomic.Bool
	stop   chan struct{}
	done   sync.WaitGroup
}

// encode adds an m-line with that codec in front and starts to send.
func (c *Client) encode(t *testing.T, cid string, o webrtc.RTPCodecCapability) *encoder {
	t.Helper()
	track, err := webrtc.NewTrackLocalStaticRTP(o, cid, "stream-"+cid)
	must(t, err)
	tr, err := c.pub.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	must(t, err)
	codecs := tr.Sender().GetParameters().Codecs
	slices.SortStableFunc(codecs, func(a, b webrtc.RTPCodecParameters) int {
		rank := func(p webrtc.RTPCodecParameters) int {
			if p.MimeType == o.MimeType && p.SDPFmtpLine == o.SDPFmtpLine {
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
	must(t, tr.SetCodecPreferences(codecs))
	must(t, c.Negotiate(false))
	must(t, c.AwaitState(sfu.Publisher, sfu.Connected))
	e := &encoder{c: c, sender: tr.Sender(), track: track, stop: make(chan struct{})}
	e.force.Store(true)
	e.done.Go(func() {
		for {
			list, _, err := e.sender.ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range list {
				if _, ok := p.(*rtcp.PictureLossIndication); ok {
					e.force.Store(true)
				}
			}
		}
	})
	e.done.Go(func() { e.send(strings.EqualFold(o.MimeType, webrtc.MimeTypeVP8)) })
	t.Cleanup(e.end)
	return e
}

func (e *encoder) send(isVP8 bool) {
	tick := time.NewTicker(frameInterval)
	defer tick.Stop()
	for n := uint16(1); ; n++ {
		select {
		case <-e.stop:
			return
		case <-tick.C:
		}
		if e.off.Load() {
			continue
		}
		key := e.force.Swap(false)
		// RFC 7741: X, S; picture id of 15 bits; P. RFC 6184: an IDR slice, or another; first_mb_in_slice 0.
		payload := []byte{0x90, 0x80, 0x80 | byte(n>>8&0x7f), byte(n), 1}
		switch {
		case isVP8 && key:
			payload[4] = 0
		case !isVP8 && key:
			payload = []byte{0x65, 0x88, 1, 2, 3}
		case !isVP8:
			payload = []byte{0x41, 0x9a, 1, 2, 3}
		}
		p := &rtp.Packet{Header: rtp.Header{Version: 2, Marker: true, SequenceNumber: n, Timestamp: uint32(n) * 3000}, Payload: payload}
		_ = e.track.WriteRTP(p)
	}
}

func (e *encoder) end() {
	select {
	case <-e.stop:
		return
	default:
	}
	close(e.stop)
	_ = e.sender.Stop()
	e.done.Wait()
}

// remove takes the codec out of the client's description.
func (e *encoder) remove(t *testing.T) {
	t.Helper()
	e.end()
	must(t, e.c.pub.RemoveTrack(e.sender))
	must(t, e.c.Negotiate(false))
}

// only restricts a client to codecs.
func only(list ...webrtc.RTPCodecCapability) Options {
	return Options{Codecs: func(m *webrtc.MediaEngine) error {
		for i, c := range list {
			p := webrtc.RTPCodecParameters{RTPCodecCapability: c, PayloadType: webrtc.PayloadType(100 + i)}
			if err := m.RegisterCodec(p, webrtc.RTPCodecTypeVideo); err != nil {
				return err
			}
		}
		return nil
	}}
}

// awaitCodec waits until the latest n packets of a track are of that codec.
func (c *Client) awaitCodec(t *testing.T, id string, o webrtc.RTPCodecCapability, n int) *Received {
	t.Helper()
	r, err := c.Await(id, o.MimeType, func(p []Packet) bool {
		return len(p) >= n && !slices.ContainsFunc(p[len(p)-n:], func(q Packet) bool { return q.Mime != o.MimeType })
	})
	must(t, err)
	return r
}

// awaitWanted waits until the publisher was told last that these layers are wanted.
func (c *Client) awaitWanted(t *testing.T, id string, layers ...int8) {
	t.Helper()
	must(t, c.await(fmt.Sprintf("%v to be wanted of %s", layers, id), func() bool {
		for _, e := range slices.Backward(c.events) {
			if e, ok := e.(sfu.LayersWanted); ok && e.TrackID == id {
				return slices.Equal(e.Layers, layers)
			}
		}
		return false
	}))
}

// checkUnbroken proves that one stream went on over changes of codec: numbers without a hole, timestamps that rise.
func checkUnbroken(t *testing.T, r *Received, changes int) {
	t.Helper()
	var last Packet
	seen := 0
	for i, p := range r.Packets() {
		if i > 0 {
			if d := int16(p.Sequence - last.Sequence); d != 1 {
				t.Fatalf("packet %d of %s: the sequence number steps by %d", i, r.ID, d)
			}
			if d := int32(p.Timestamp - last.Timestamp); d <= 0 && !p.Padding && !last.Padding || d > 90000*5 {
				t.Fatalf("packet %d of %s: the timestamp steps by %d", i, r.ID, d)
			}
			if !p.Padding && !last.Padding && p.Mime != last.Mime {
				seen++
			}
		}
		last = p
	}
	if seen != changes {
		t.Errorf("%s changed its codec %d times, want %d", r.ID, seen, changes)
	}
}

func twoCodecs(policy sfu.BackupPolicy) sfu.PublicationConfig {
	return sfu.PublicationConfig{ID: "TR_v", CID: "cid-h264", Kind: sfu.Video, MimeType: "video/h264",
		Backups: []sfu.CodecConfig{{MimeType: "video/vp8"}}, Policy: policy}
}

// TestEachGetsItsCodec: a publisher that sends H.264 and, once somebody needs it, VP8.
func TestEachGetsItsCodec(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.JoinWith(t, n.Server, "room", "PA_b", only(h264, vp8))
	must(t, a.Participant.Publish(twoCodecs(sfu.EveryCodec)))
	first := a.encode(t, "cid-h264", h264)
	subscribe(t, b, "TR_v")
	b.awaitCodec(t, "TR_v", h264, 10)
	a.awaitWanted(t, "TR_v", 2, -1)

	c := n.JoinWith(t, n.Server, "room", "PA_c", only(vp8))
	subscribe(t, c, "TR_v")
	a.awaitWanted(t, "TR_v", 2, 2)
	must(t, a.Participant.AddCodec("TR_v", sfu.CodecConfig{MimeType: "video/vp8", CID: "cid-vp8"}))
	second := a.encode(t, "cid-vp8", vp8)
	must(t, a.AwaitEvent("start of VP8", func(e sfu.Event) bool {
		s, ok := e.(sfu.CodecStarted)
		return ok && s == sfu.CodecStarted{TrackID: "TR_v", Codec: 1, MimeType: "video/VP8"}
	}))
	c.awaitCodec(t, "TR_v", vp8, 10)
	r := b.awaitCodec(t, "TR_v", h264, 30)
	checkUnbroken(t, r, 0)

	// The first codec ends: everybody goes on with the second, on the same m-line.
	first.remove(t)
	must(t, a.AwaitEvent("end of H.264", func(e sfu.Event) bool {
		s, ok := e.(sfu.CodecEnded)
		return ok && s == sfu.CodecEnded{TrackID: "TR_v", Codec: 0}
	}))
	r = b.awaitCodec(t, "TR_v", vp8, 20)
	checkUnbroken(t, r, 1)
	// It comes again, and who can returns to it.
	must(t, a.Participant.AddCodec("TR_v", sfu.CodecConfig{MimeType: "video/h264", CID: "cid-again"}))
	again := a.encode(t, "cid-again", h264)
	r = b.awaitCodec(t, "TR_v", h264, 20)
	checkUnbroken(t, r, 2)
	checkUnbroken(t, c.awaitCodec(t, "TR_v", vp8, 20), 0)

	// The backup alone ends: the track stays.
	second.remove(t)
	must(t, a.AwaitEvent("end of VP8", func(e sfu.Event) bool {
		s, ok := e.(sfu.CodecEnded)
		return ok && s.Codec == 1
	}))
	checkUnbroken(t, b.awaitCodec(t, "TR_v", h264, 20), 2)
	again.remove(t)
	must(t, a.AwaitEvent("end of the track", func(e sfu.Event) bool { return e == sfu.PublicationEnded{TrackID: "TR_v"} }))
}

// TestOneCodecForAll: one who lacks the first codec takes the others along, and gives them back when it leaves.
func TestOneCodecForAll(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.JoinWith(t, n.Server, "room", "PA_b", only(h264, vp8))
	must(t, a.Participant.Publish(twoCodecs(sfu.PreferOneCodec)))
	a.encode(t, "cid-h264", h264)
	subscribe(t, b, "TR_v")
	b.awaitCodec(t, "TR_v", h264, 10)
	c := n.JoinWith(t, n.Server, "room", "PA_c", only(vp8))
	subscribe(t, c, "TR_v")
	a.awaitWanted(t, "TR_v", 2, 2) // H.264 until VP8 has come
	must(t, a.Participant.AddCodec("TR_v", sfu.CodecConfig{MimeType: "video/VP8", CID: "cid-vp8"}))
	a.encode(t, "cid-vp8", vp8)
	b.awaitCodec(t, "TR_v", vp8, 10)
	c.awaitCodec(t, "TR_v", vp8, 10)
	a.awaitWanted(t, "TR_v", -1, 2)
	c.Participant.Unsubscribe("TR_v")
	r := b.awaitCodec(t, "TR_v", h264, 20)
	checkUnbroken(t, r, 2)
	a.awaitWanted(t, "TR_v", 2, -1)
}

// TestFixedCodec: one who can't follow a change of codec stays with its own, and gets a new m-line when that ends.
func TestFixedCodec(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	o := only(h264, vp8)
	o.FixedCodec = true
	a, b := n.Join(t, "room", "PA_a"), n.JoinWith(t, n.Server, "room", "PA_b", o)
	must(t, a.Participant.Publish(twoCodecs(sfu.EveryCodec)))
	first := a.encode(t, "cid-h264", h264)
	subscribe(t, b, "TR_v")
	before := b.awaitCodec(t, "TR_v", h264, 10)
	must(t, a.Participant.AddCodec("TR_v", sfu.CodecConfig{MimeType: "video/vp8", CID: "cid-vp8"}))
	a.encode(t, "cid-vp8", vp8)
	first.remove(t)
	after := b.awaitCodec(t, "TR_v", vp8, 10)
	if before == after {
		t.Error("the codec changed in mid-stream")
	}
	checkUnbroken(t, before, 0)
}

// TestLacksEveryCodec: the subscription fails, and doesn't when a codec comes later.
func TestLacksEveryCodec(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.JoinWith(t, n.Server, "room", "PA_b", only(vp8))
	must(t, a.Participant.Publish(sfu.PublicationConfig{ID: "TR_v", CID: "cid-h264", Kind: sfu.Video}))
	a.encode(t, "cid-h264", h264)
	subscribe(t, b, "TR_v")
	must(t, b.AwaitEvent("failure", func(e sfu.Event) bool {
		f, ok := e.(sfu.SubscriptionFailed)
		return ok && f.TrackID == "TR_v" && f.Err == sfu.ErrCodec
	}))
	must(t, a.Participant.AddCodec("TR_v", sfu.CodecConfig{MimeType: "video/VP8", CID: "cid-vp8"}))
	a.encode(t, "cid-vp8", vp8)
	subscribe(t, b, "TR_v")
	b.awaitCodec(t, "TR_v", vp8, 10)
}

func TestStreamStateIsTold(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	src, err := a.Video("TR_v")
	must(t, err)
	subscribe(t, b, "TR_v")
	_, err = b.AwaitPackets("TR_v", 10)
	must(t, err)
	states := func() (list []bool) {
		for _, e := range b.events {
			if s, ok := e.(sfu.StreamPaused); ok && s.TrackID == "TR_v" {
				list = append(list, s.Paused)
			}
		}
		return list
	}
	await := func(want ...bool) {
		t.Helper()
		must(t, b.await(fmt.Sprintf("stream states %v", want), func() bool { return slices.Equal(states(), want) }))
	}
	src.Pause()
	await(true)
	src.Resume()
	await(true, false)
	// What the publisher mutes, or the subscriber has switched off, isn't paused by anybody else.
	b.Participant.Configure("TR_v", sfu.SubscriptionSettings{Disabled: true})
	src.Pause()
	received := func() uint64 { return uint64(time.Now().UnixMilli()) }
	awaitCount(t, received, received()+5000) // longer than silence is allowed to last
	await(true, false)
	b.Participant.Configure("TR_v", sfu.SubscriptionSettings{Quality: 2})
	await(true, false, true)
}

// TestConnectionScore: a lossy link is scored lower, on the side that has it.
func TestConnectionScore(t *testing.T) {
	t.Parallel()
	n := New(t, nil)
	a, b := n.Join(t, "room", "PA_a"), n.Join(t, "room", "PA_b")
	_, err := a.Audio("TR_a")
	must(t, err)
	_, err = a.Video("TR_v")
	must(t, err)
	subscribe(t, b, "TR_a")
	subscribe(t, b, "TR_v")
	score := func(c *Client) float64 {
		for _, e := range slices.Backward(c.events) {
			if s, ok := e.(sfu.ConnectionScored); ok {
				return s.Score
			}
		}
		return 0
	}
	// A busy machine adds jitter of its own: a good connection is told from a bad one, no more.
	must(t, a.await("a good score", func() bool { return score(a) > 3.6 }))
	must(t, b.await("a good score", func() bool { return score(b) > 3.6 }))
	n.Lose(0.3, 0)
	must(t, a.await("a poor score", func() bool { return score(a) != 0 && score(a) < 3.1 }))
	b.mu.Lock()
	other := score(b)
	b.mu.Unlock()
	if other < 3.1 {
		t.Errorf("the receiver's own link is scored %v though it loses nothing", other)
	}
	n.Lose(0, 0.3)
	must(t, b.await("a poor score", func() bool { return score(b) < 3.1 }))
}
