package sfutest

import (
	"bytes"
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"

	"anytime/sfu"

	"github.com/pion/webrtc/v4"
)

// TestNoncesAreUsedOnce: on one peer connection, so under one key, the media moves from UDP to TCP and back while packets are
// lost and sent again and tracks come and go. Nothing that the server ever sends has an SSRC and index in common with anything
// else, which under AES-GCM would give the key away (RFC 7714 section 8.4).
func TestNoncesAreUsedOnce(t *testing.T) {
	defer CheckGoroutines(t)()
	t.Run("room", func(t *testing.T) {
		for name, rtx := range map[string]bool{"with RTX": true, "without RTX": false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				testNonces(t, rtx)
			})
		}
	})
}

func testNonces(t *testing.T, rtx bool) {
	n := New(t, nil)
	s := loopback(t, sfu.Config{})
	network := osNet(t)
	settings := func(e *webrtc.SettingEngine) {
		e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeTCP4})
		e.SetIncludeLoopbackCandidate(true)
		e.SetHostAcceptanceMinWait(200 * time.Millisecond) // else TCP may be the first that answers
	}
	p := newTap(t, s)
	viewer := Options{Net: network, Settings: settings, Offered: p.offered}
	if !rtx {
		viewer.Codecs = withoutRTX
	}
	a, b := n.JoinWith(t, s, "room", "PA_a", Options{Net: network, Settings: settings}), n.JoinWith(t, s, "room", "PA_b", viewer)
	for _, id := range []string{"TR_v1", "TR_v2"} {
		_, err := a.Video(id, "q", "h")
		must(t, err)
	}
	_, err := a.Audio("TR_a")
	must(t, err)
	subscribe(t, b, "TR_v1")
	subscribe(t, b, "TR_a")
	ctx, cancel := context.WithTimeout(t.Context(), 4*Timeout)
	defer cancel()

	await := func(what string, count int, is func(tapped) bool) {
		t.Helper()
		must(t, p.await(ctx, what, count, is))
	}
	over := func(tcp bool) func(tapped) bool {
		return func(q tapped) bool { return q.tcp == tcp && !q.rtcp() }
	}
	// repaired waits for answers to NACKs over a path: on the RTX stream, or the same packets again.
	repaired := func(what string, tcp bool) {
		t.Helper()
		streams := map[uint32]bool{}
		for _, offer := range b.offers() {
			for _, id := range repairStreams(offer) {
				streams[id] = true
			}
		}
		seen := map[[2]uint32]bool{}
		p.lose(true)
		defer p.lose(false)
		await(what, 6, func(q tapped) bool {
			if q.rtcp() || q.tcp != tcp {
				return false
			}
			ssrc := binary.BigEndian.Uint32(q.b[8:])
			key := [2]uint32{ssrc, uint32(binary.BigEndian.Uint16(q.b[2:]))}
			again := seen[key]
			seen[key] = true
			return rtx && streams[ssrc] || !rtx && again
		})
	}
	move := func(what string, tcp bool) {
		t.Helper()
		p.block(tcp, !tcp)
		b.Participant.RestartICE(sfu.Subscriber)
		await(what, 100, over(tcp))
		if _, protocol := b.RemoteCandidate(sfu.Subscriber); protocol != map[bool]string{false: "udp", true: "tcp"}[tcp] {
			t.Errorf("%s: the client is connected over %s", what, protocol)
		}
	}

	await("UDP", 200, over(false))
	repaired("what was lost over UDP", false)
	b.Participant.Unsubscribe("TR_v1")
	subscribe(t, b, "TR_v2")
	_, err = b.AwaitPackets("TR_v2", 10)
	must(t, err)
	move("TCP", true)
	repaired("what was lost over TCP", true)
	subscribe(t, b, "TR_v1") // on an m-line and SSRCs that it had, or others
	_, err = b.AwaitPackets("TR_v1", 10)
	must(t, err)
	b.Participant.Unsubscribe("TR_v2")
	await("TCP after a renegotiation", 100, over(true))
	move("UDP again", false)
	subscribe(t, b, "TR_v2")
	_, err = b.AwaitPackets("TR_v2", 10)
	must(t, err)
	repaired("what was lost over UDP again", false)

	checkNonces(t, p.packets())
}

// checkNonces follows the packets in the order in which they came, each SSRC by its own.
func checkNonces(t *testing.T, packets []tapped) {
	t.Helper()
	type index struct {
		ssrc uint32
		rtcp bool
		n    int64
	}
	latest, seen := map[uint32]int64{}, map[index][]byte{}
	var over [2]int
	repeats, reports := 0, 0
	for _, q := range packets {
		var at index
		if q.rtcp() {
			// RFC 3711 section 3.4, RFC 7714 section 9.2: the last 31 bits are the index.
			reports++
			at = index{binary.BigEndian.Uint32(q.b[4:]), true, int64(binary.BigEndian.Uint32(q.b[len(q.b)-4:]) &^ (1 << 31))}
		} else {
			if q.tcp {
				over[1]++
			} else {
				over[0]++
			}
			sequence := binary.BigEndian.Uint16(q.b[2:])
			at.ssrc = binary.BigEndian.Uint32(q.b[8:])
			at.n = int64(sequence)
			if last, known := latest[at.ssrc]; known {
				at.n = last + int64(int16(sequence-uint16(last)))
			}
			latest[at.ssrc] = max(latest[at.ssrc], at.n)
		}
		if before, twice := seen[at]; twice {
			if !bytes.Equal(before, q.b) {
				t.Fatalf("index %d of SSRC %d (RTCP %v) was used for two packets:\n%x\n%x", at.n, at.ssrc, at.rtcp, before, q.b)
			}
			repeats++
			continue
		}
		seen[at] = q.b
	}
	t.Logf("%d packets over UDP, %d over TCP, %d of RTCP; %d sources; %d were sent again bit for bit", over[0], over[1], reports, len(latest), repeats)
	if over[0] < 400 || over[1] < 200 || reports < 5 || len(latest) < 3 {
		t.Error("that is too little to tell")
	}
}

// repairStreams are the SSRCs of RTX streams in a description: RFC 5576 section 4.2.
func repairStreams(sdp string) (out []uint32) {
	for line := range strings.SplitSeq(sdp, "\r\n") {
		if rest, ok := strings.CutPrefix(line, "a=ssrc-group:FID "); ok {
			if _, repair, ok := strings.Cut(rest, " "); ok {
				if n, err := strconv.ParseUint(repair, 10, 32); err == nil {
					out = append(out, uint32(n))
				}
			}
		}
	}
	return out
}

// withoutRTX supports VP8 and Opus, with NACK but without RTX.
func withoutRTX(m *webrtc.MediaEngine) error {
	if err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}}, webrtc.RTPCodecTypeAudio); err != nil {
		return err
	}
	return m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}}}},
		webrtc.RTPCodecTypeVideo)
}
