package sfutest

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// What libwebrtc's NackRequester does: it asks at once, then every round trip, looking every 20 ms, ten times at most.
const (
	viewerTick  = 20 * time.Millisecond
	viewerTries = 10
	// viewerRTT is what it takes for the round trip when it sends no media itself: nothing measures it then.
	viewerRTT = 100 * time.Millisecond
	// viewerMost and viewerWindow bound what is missing, in packets.
	viewerMost   = 1000
	viewerWindow = 10000
)

// Viewer takes the place of the NACK generator in a [Client]: it asks for what is missing as libwebrtc does and notes when
// each frame of synthetic video was complete.
type Viewer struct {
	interceptor.NoOp
	// RTT is what the viewer takes for the round trip; 0 means 100 ms, as a receiver that sends nothing.
	RTT time.Duration

	mu      sync.Mutex
	writer  interceptor.RTCPWriter
	primary map[uint32]uint32 // by SSRC of RTX
	streams map[uint32]*viewed
	stop    chan struct{}
	done    sync.WaitGroup
	stats   ViewerStats
}

// ViewerStats counts what a [Viewer] did and saw.
type ViewerStats struct {
	// Packets came as media, Repaired over RTX; Duplicates are those of either that had come before, Twice those that came as
	// media both times.
	Packets, Repaired, Duplicates, Twice int
	// NACKs are packets of RTCP, Asked the sequence numbers in them, GivenUp those that never came.
	NACKs, Asked, GivenUp, PLIs int
}

// viewed is one stream of video.
type viewed struct {
	started bool
	highest int64
	missing map[int64]*wanted
	seen    map[int64]bool // whether as media
	frames  map[uint32]*viewedFrame
}

type wanted struct {
	last  time.Time
	tries int
}

// viewedFrame is one frame as far as it has come.
type viewedFrame struct {
	sent, complete time.Time // zero: not yet
	keyframe       bool
	have           map[int]bool
	last           int // index of the packet with the marker, -1 before it
}

// NewViewer returns a viewer, to be given to [Options].
func NewViewer() *Viewer {
	return &Viewer{RTT: viewerRTT, primary: map[uint32]uint32{}, streams: map[uint32]*viewed{}, stop: make(chan struct{})}
}

// NewInterceptor implements interceptor.Factory: the viewer serves one peer connection.
func (v *Viewer) NewInterceptor(string) (interceptor.Interceptor, error) { return v, nil }

var retransmissionGroup = regexp.MustCompile(`a=ssrc-group:FID (\d+) (\d+)`)

// describe learns from an offer which stream repairs which.
func (v *Viewer) describe(offer string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range retransmissionGroup.FindAllStringSubmatch(offer, -1) {
		p, _ := strconv.ParseUint(m[1], 10, 32)
		r, _ := strconv.ParseUint(m[2], 10, 32)
		v.primary[uint32(r)] = uint32(p)
	}
}

// BindRTCPWriter implements interceptor.Interceptor.
func (v *Viewer) BindRTCPWriter(w interceptor.RTCPWriter) interceptor.RTCPWriter {
	v.mu.Lock()
	v.writer = w
	v.mu.Unlock()
	v.done.Go(v.run)
	return w
}

// BindRemoteStream implements interceptor.Interceptor.
func (v *Viewer) BindRemoteStream(info *interceptor.StreamInfo, r interceptor.RTPReader) interceptor.RTPReader {
	if len(info.MimeType) < 6 || info.MimeType[:6] != "video/" {
		return r
	}
	ssrc, rtx := info.SSRC, info.MimeType == "video/rtx"
	return interceptor.RTPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		n, a, err := r.Read(b, a)
		if err != nil {
			return n, a, err
		}
		var p rtp.Packet
		if p.Unmarshal(b[:n]) != nil {
			return n, a, nil
		}
		payload, sequence, primary := p.Payload, p.SequenceNumber, ssrc
		if rtx {
			if len(payload) < 2 {
				return n, a, nil
			}
			v.mu.Lock()
			primary = v.primary[ssrc]
			v.mu.Unlock()
			sequence, payload = binary.BigEndian.Uint16(payload), payload[2:]
		}
		v.packet(primary, sequence, p.Marker, payload, rtx)
		return n, a, nil
	})
}

// Close implements interceptor.Interceptor.
func (v *Viewer) Close() error {
	close(v.stop)
	v.done.Wait()
	return nil
}

// packet notes a packet, and asks at once for those that it leaves out.
func (v *Viewer) packet(ssrc uint32, sequence uint16, marker bool, payload []byte, rtx bool) {
	now := time.Now()
	v.mu.Lock()
	s := v.streams[ssrc]
	if s == nil {
		s = &viewed{missing: map[int64]*wanted{}, seen: map[int64]bool{}, frames: map[uint32]*viewedFrame{}}
		v.streams[ssrc] = s
	}
	if rtx {
		v.stats.Repaired++
	} else {
		v.stats.Packets++
	}
	n := s.highest + int64(int16(sequence-uint16(s.highest)))
	if !s.started {
		s.started, n = true, int64(sequence)
		s.highest = n
	}
	var ask []uint16
	if !rtx { // another stream's packets are read beside: they prove no gap
		for i := s.highest + 1; i < n && len(s.missing) < viewerMost; i++ {
			if _, seen := s.seen[i]; !seen {
				s.missing[i] = &wanted{last: now, tries: 1}
				ask = append(ask, uint16(i))
			}
		}
		s.highest = max(s.highest, n)
	}
	if by, seen := s.seen[n]; seen {
		v.stats.Duplicates++
		if by && !rtx {
			v.stats.Twice++
		}
	} else {
		s.seen[n] = !rtx
		delete(s.seen, n-viewerWindow)
		delete(s.missing, n)
		s.note(now, marker, payload)
	}
	v.mu.Unlock()
	v.ask(ssrc, ask)
}

// note puts a packet into its frame.
func (s *viewed) note(now time.Time, marker bool, payload []byte) {
	var q Packet
	if len(payload) == 0 {
		return
	}
	if q.read(payload, true); q.Sent.IsZero() {
		return
	}
	f := s.frames[q.Frame]
	if f == nil {
		f = &viewedFrame{sent: q.Sent, have: map[int]bool{}, last: -1}
		s.frames[q.Frame] = f
	}
	f.keyframe = f.keyframe || q.Keyframe
	f.have[q.Index] = true
	if marker {
		f.last = q.Index
	}
	if f.complete.IsZero() && f.last >= 0 && len(f.have) == f.last+1 {
		f.complete = now
	}
}

// run asks again for what is still missing.
func (v *Viewer) run() {
	t := time.NewTicker(viewerTick)
	defer t.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-t.C:
		}
		now := time.Now()
		lists := map[uint32][]uint16{}
		v.mu.Lock()
		for ssrc, s := range v.streams {
			var again []int64
			for n, w := range s.missing {
				if now.Sub(w.last) < v.RTT {
					continue
				}
				if w.tries >= viewerTries {
					v.stats.GivenUp++
					delete(s.missing, n)
					continue
				}
				w.tries++
				w.last = now
				again = append(again, n)
			}
			slices.Sort(again)
			for _, n := range again {
				lists[ssrc] = append(lists[ssrc], uint16(n))
			}
		}
		v.mu.Unlock()
		for ssrc, list := range lists {
			v.ask(ssrc, list)
		}
	}
}

// ask sends a NACK.
func (v *Viewer) ask(ssrc uint32, list []uint16) {
	if len(list) == 0 {
		return
	}
	v.mu.Lock()
	v.stats.NACKs++
	v.stats.Asked += len(list)
	v.mu.Unlock()
	v.send(&rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(list)})
}

// RequestKeyframe sends a PLI for every stream.
func (v *Viewer) RequestKeyframe() {
	v.mu.Lock()
	var all []uint32
	for ssrc := range v.streams {
		all = append(all, ssrc)
	}
	v.stats.PLIs++
	v.mu.Unlock()
	for _, ssrc := range all {
		v.send(&rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: ssrc})
	}
}

func (v *Viewer) send(p rtcp.Packet) {
	v.mu.Lock()
	w := v.writer
	v.mu.Unlock()
	if w != nil {
		_, _ = w.Write([]rtcp.Packet{p}, nil) // a connection that is closing
	}
}

// Stats returns the counts.
func (v *Viewer) Stats() ViewerStats {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stats
}

// Playback is what a viewer saw of one stream whose frames are all shown the same time after they were sent: as long as
// the fastest of them took, and Delay.
type Playback struct {
	// Frames were sent; of those InTime could be decoded when they were to be shown, all that they refer to included. Late
	// ones were decoded later, the others never.
	Frames, InTime, Late int
	// Freeze is the longest time for which a picture stood still.
	Freeze time.Duration
	// Base is what the fastest frame took.
	Base time.Duration
}

// Share is how many of the frames were in time, 0 to 1.
func (p Playback) Share() float64 { return float64(p.InTime) / float64(max(p.Frames, 1)) }

func (p Playback) String() string {
	return fmt.Sprintf("%d frames, %.2f %% in time, %d late, %d never, longest freeze %v", p.Frames, 100*p.Share(), p.Late,
		p.Frames-p.InTime-p.Late, p.Freeze.Round(time.Millisecond))
}

// Playback plays the frames sent in a span of time with a playout delay. There must be one stream of video, sent at a
// steady frame rate.
func (v *Viewer) Playback(from, to time.Time, delay time.Duration) (p Playback, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.streams) != 1 {
		return p, fmt.Errorf("%d streams of video", len(v.streams))
	}
	var s *viewed
	for _, s = range v.streams {
	}
	first, last, base := uint32(0), uint32(0), time.Duration(1<<62)
	for n, f := range s.frames {
		if f.sent.Before(from) || f.sent.After(to) {
			continue
		}
		if last == 0 {
			first, last = n, n
		}
		first, last = min(first, n), max(last, n)
		if !f.complete.IsZero() {
			base = min(base, f.complete.Sub(f.sent))
		}
	}
	if last == 0 {
		return p, fmt.Errorf("no frames")
	}
	p.Base = base
	var decoded, shown time.Time
	broken := true // a frame is missing that the next one refers to
	// What came before the span is decoded, or what it refers to.
	for n := first; n <= last; n++ {
		f := s.frames[n]
		p.Frames++
		switch {
		case f == nil || f.complete.IsZero():
			broken = true
			continue
		case f.keyframe || n == first:
			broken, decoded = false, f.complete
		case broken:
			continue
		}
		if f.complete.After(decoded) {
			decoded = f.complete
		}
		at := f.sent.Add(base + delay)
		if decoded.After(at) {
			p.Late++
			at = decoded
		} else {
			p.InTime++
		}
		if !shown.IsZero() {
			p.Freeze = max(p.Freeze, at.Sub(shown))
		}
		if at.After(shown) {
			shown = at
		}
	}
	if end := to.Add(base + delay); !shown.IsZero() {
		p.Freeze = max(p.Freeze, end.Sub(shown)-frameInterval)
	}
	return p, nil
}
