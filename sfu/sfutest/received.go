package sfutest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pion/webrtc/v4"
)

// Packet is one received packet of synthetic media.
type Packet struct {
	At        time.Time
	Sequence  uint16
	Timestamp uint32
	Marker    bool
	// Source, Layer, Frame and Index are what the source put in.
	Source       string
	Layer, Index int
	Frame        uint32
	Sent         time.Time
	// Whole: every byte behind the codec's header is the source's.
	Whole bool
	// Video only.
	Keyframe bool
	Start    bool
	Picture  uint16
	TL0      uint8
	// Padding: no payload.
	Padding bool
	// Mime is the codec under which it came.
	Mime string
}

// Received records one received track. Its fields are guarded by the client.
type Received struct {
	c          *Client
	ID, Stream string
	Mime       string
	video      bool
	packets    []Packet
}

// track is the OnTrack of the subscriber's peer connection.
func (c *Client) track(t *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	go func() { // Pion's receiver reports follow from the sender reports that somebody reads
		for err := error(nil); err == nil; {
			_, _, err = receiver.ReadRTCP()
		}
	}()
	r := &Received{c: c, ID: t.ID(), Stream: t.StreamID(), Mime: t.Codec().MimeType, video: t.Kind() == webrtc.RTPCodecTypeVideo}
	c.mu.Lock()
	c.received[r.ID] = r
	c.told()
	c.mu.Unlock()
	for {
		p, _, err := t.ReadRTP()
		if err != nil {
			return
		}
		q := Packet{At: time.Now(), Sequence: p.SequenceNumber, Timestamp: p.Timestamp, Marker: p.Marker,
			Padding: len(p.Payload) == 0, Mime: t.Codec().MimeType}
		if !q.Padding {
			q.read(p.Payload, r.video)
		}
		c.mu.Lock()
		r.packets = append(r.packets, q)
		c.told()
		c.mu.Unlock()
	}
}

func (p *Packet) read(b []byte, video bool) {
	if video && len(b) > 7 {
		p.Start = b[0]&0x10 != 0
		p.Picture = uint16(b[2]&0x7f)<<8 | uint16(b[3])
		p.TL0 = b[4]
		p.Keyframe = p.Start && b[6]&1 == 0
	}
	at := bytes.IndexByte(b, 0xa5)
	header := 1
	if video {
		header = 7
	}
	if at < 0 || len(b) < header+8 {
		return
	}
	if b[min(header, len(b)-1)] == 0xa5 {
		at = header
	}
	body := b[at:]
	b = b[at+1:]
	if len(b) < 7 || len(b) < 7+int(b[2]) {
		return
	}
	p.Layer, p.Index = int(b[0]), int(b[1])
	p.Frame = binary.BigEndian.Uint32(b[3:])
	p.Source = string(b[7 : 7+int(b[2])])
	if b = b[7+int(b[2]):]; len(b) >= 8 {
		sent := time.Duration(binary.BigEndian.Uint64(b))
		p.Sent = epoch.Add(sent)
		p.Whole = bytes.Equal(body, bodyOf(p.Source, p.Layer, p.Frame, p.Index, sent, len(b)-8))
	}
}

// Await waits until a track of that id has come and ok holds for the packets received so far.
func (c *Client) Await(id, what string, ok func([]Packet) bool) (*Received, error) {
	var r *Received
	err := c.await(fmt.Sprintf("%s of track %s", what, id), func() bool {
		r = c.received[id]
		return r != nil && ok(r.packets)
	})
	return r, err
}

// AwaitPackets waits for n more packets of the track than now.
func (c *Client) AwaitPackets(id string, n int) (*Received, error) {
	c.mu.Lock()
	have := 0
	if r := c.received[id]; r != nil {
		have = len(r.packets)
	}
	c.mu.Unlock()
	return c.Await(id, fmt.Sprintf("%d packets", n), func(p []Packet) bool { return len(p) >= have+n })
}

// AwaitLayer waits until the latest n packets are all of that layer.
func (c *Client) AwaitLayer(id string, layer, n int) (*Received, error) {
	return c.Await(id, fmt.Sprintf("layer %d", layer), func(p []Packet) bool {
		if len(p) < n {
			return false
		}
		for _, q := range p[len(p)-n:] {
			if !q.Padding && q.Layer != layer {
				return false
			}
		}
		return true
	})
}

// Packets returns what has been received, in order of arrival.
func (r *Received) Packets() []Packet {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return slices.Clone(r.packets)
}

// Summary is what [Received.Check] found.
type Summary struct {
	Packets, Frames, Keyframes, Missing, Switches int
	// Duplicates were sent again though they had come: Pion's clients ask again for what came back over RTX.
	Duplicates int
	// Longest is the longest time between two packets.
	Longest time.Duration
}

// Check proves that the packets received form one unbroken stream: sequence numbers without a hole but for missing
// packets, timestamps that rise from frame to frame, frames that are whole and of one layer, picture ids that rise by
// one, a first frame and changes of layer that are keyframes, and no packet but the source's. tail packets at the end are
// left out, as retransmissions may be under way.
func (r *Received) Check(source string, tail int) (s Summary, err error) {
	all := r.Packets()
	for i := 1; i < len(all); i++ {
		s.Longest = max(s.Longest, all[i].At.Sub(all[i-1].At))
	}
	if len(all) == 0 {
		return s, errors.New("nothing received")
	}
	// Order by extended sequence number.
	type numbered struct {
		n int64
		Packet
	}
	list := make([]numbered, 0, len(all))
	last := int64(all[0].Sequence)
	seen := map[int64]Packet{}
	for _, p := range all {
		n := last + int64(int16(p.Sequence-uint16(last)))
		last = max(last, n)
		if first, ok := seen[n]; ok {
			p.At = first.At
			if p != first {
				return s, fmt.Errorf("sequence number %d came twice and differs: %+v, %+v", p.Sequence, first, p)
			}
			s.Duplicates++
			continue
		}
		seen[n] = p
		list = append(list, numbered{n, p})
	}
	slices.SortFunc(list, func(a, b numbered) int { return int(a.n - b.n) })
	list = list[:max(1, len(list)-tail)]
	s.Packets = len(list)
	for i := range list {
		p := &list[i]
		if i > 0 {
			s.Missing += int(p.n - list[i-1].n - 1)
		}
		if p.Padding {
			continue
		}
		if p.Source != source {
			return s, fmt.Errorf("a packet of %q in the track of %q", p.Source, source)
		}
	}
	if !r.video {
		for i := 1; i < len(list); i++ {
			a, b := &list[i-1], &list[i]
			if b.n == a.n+1 && b.Frame == a.Frame+1 && b.Timestamp != a.Timestamp+960 {
				return s, fmt.Errorf("timestamp steps by %d, not 960", b.Timestamp-a.Timestamp)
			}
		}
		return s, nil
	}
	var previous *numbered // first packet of the frame before
	for i := 0; i < len(list); {
		p := &list[i]
		if p.Padding {
			i++
			continue
		}
		j := i
		for j < len(list) && (list[j].Timestamp == p.Timestamp || list[j].Padding) {
			j++
		}
		frame := list[i:j]
		i = j
		whole := p.Index == 0 && len(frame) >= PacketsOfLayer(p.Layer)
		for k := range frame {
			q := &frame[k]
			if q.Padding {
				continue
			}
			if q.Layer != p.Layer || q.Frame != p.Frame || q.Picture != p.Picture {
				return s, fmt.Errorf("frame at timestamp %d mixes layers %d and %d, frames %d and %d, picture ids %d and %d",
					p.Timestamp, p.Layer, q.Layer, p.Frame, q.Frame, p.Picture, q.Picture)
			}
			if q.Marker != (q.Index == PacketsOfLayer(q.Layer)-1) {
				return s, fmt.Errorf("packet %d of a frame of layer %d: marker %v", q.Index, q.Layer, q.Marker)
			}
		}
		if whole {
			s.Frames++
		}
		if p.Keyframe {
			s.Keyframes++
		}
		if previous == nil {
			if !p.Keyframe {
				return s, errors.New("the first frame is not a keyframe")
			}
		} else {
			if d := int32(p.Timestamp - previous.Timestamp); d <= 0 || d > 90000*10 {
				return s, fmt.Errorf("timestamp steps by %d between frames", d)
			}
			step := (p.Picture - previous.Picture) & 0x7fff
			if step == 0 || step > 1 && s.Missing == 0 {
				return s, fmt.Errorf("picture id steps by %d", step)
			}
			if p.Layer != previous.Layer {
				s.Switches++
				if !p.Keyframe {
					return s, fmt.Errorf("switch from layer %d to %d without a keyframe", previous.Layer, p.Layer)
				}
			}
		}
		previous = p
	}
	return s, nil
}
