package sfu

import (
	"sync/atomic"
	"time"

	"anytime/sfu/history"
)

const (
	// maxResend bounds what one NACK packet may ask for.
	maxResend = 256
	// What is sent again is paid for by what is sent: no receiver gets more than as much again, however often it asks. At
	// first, and after a pause of NACKs, there is a stock, in bytes.
	firstResend = 64 << 10
	stockResend = 512 << 10
)

// nacked answers a NACK: it sends the packets again.
func (s *subscription) nacked(sequences []uint16, now time.Duration) {
	rtt := s.p.knownRTT()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.out
	s.stats.NACKs++
	if st == nil || s.ended || st.sent == nil {
		return
	}
	if st.shed.Load() { // to one who heeds nothing no packet comes that would find it
		s.restart()
		s.heed()
	}
	sequences = sequences[:min(len(sequences), maxResend)]
	// Nothing can be shown before the keyframe is whole: its packets go first.
	for _, first := range [...]bool{true, false} {
		for _, sequence := range sequences {
			sent, known := st.sent.Get(sequence)
			if !known && first || known && (sent.Timestamp == st.keyframe) != first {
				continue
			}
			if st.forsaken.has(sequence, st.packets) {
				s.stats.Forsaken++
				continue
			}
			if known && st.repairs <= 0 { // before it counts as a try
				s.stats.Refused++
				continue
			}
			sent, answer := st.sent.Resend(sequence, now, rtt)
			switch {
			case answer == history.Unknown:
				s.stats.Unknown++
			case answer > history.ResendTwice:
				s.stats.Refused++
			default:
				s.resend(&sent)
				if answer == history.ResendTwice && st.repair != 0 {
					s.resend(&sent)
				}
			}
		}
	}
}

// resend sends one packet again. Called with s.mu held.
func (s *subscription) resend(sent *history.SentPacket) {
	st := s.out
	var p *packet
	var f format
	if sent.Fill {
		f = st.formats.of(st.main)
		if st.stamps != nil {
			f.pt = sent.PT
		}
	} else {
		if p = s.storedOf(sent); p == nil {
			s.stats.Gone++
			return
		}
		defer p.release()
		f = st.formats.of(p.pt)
	}
	if !st.render(sent, p, f) {
		return
	}
	o := &st.packet
	if o.class == media {
		o.class = repair
	}
	switch {
	case st.repair != 0 && f.rtx != 0:
		if o.fill {
			return
		}
		st.wrap(sent, f)
	case st.stamps != nil:
		// Without RTX the same SRTP index is used again. Under AES-GCM that is safe for the very same bytes only: anything
		// else would use a nonce twice (RFC 7714 section 8.1). So it gets no transport-wide sequence number of its own, and
		// the estimator is told not to learn from what is said of the old one ([bwe.Estimator.Again]). The egress refuses
		// when the first one hasn't left yet, or is too long ago; an index of another cycle would be another's.
		if o.pt != sent.PT || st.extended-sent.Extended >= 1<<15 {
			return
		}
		o.stamp, o.again = &st.stamps[int(sent.Sequence)%len(st.stamps)], true
	default:
		return
	}
	if st.egress.send(o) {
		s.stats.Resent++
		st.repairs -= len(o.prefix) + len(o.payload)
	}
}

// storedOf returns the packet that was sent, with a reference for the caller; nil if it is gone.
func (s *subscription) storedOf(sent *history.SentPacket) *packet {
	l := s.pub.codecs.all()[sent.Layer>>layerBits].layers[sent.Layer&(1<<layerBits-1)].Load()
	if l == nil {
		return nil
	}
	return l.stored(sent.Source)
}

// wrap makes st.packet one of the RTX stream. RFC 4588 section 4: the original sequence number stands in front of the
// original payload; the RTX stream counts its own.
func (st *stream) wrap(sent *history.SentPacket, f format) {
	o := &st.packet
	n := rtxHeader + len(o.prefix)
	st.prefix[0], st.prefix[1] = byte(sent.Sequence>>8), byte(sent.Sequence)
	o.prefix = st.prefix[:n]
	o.ssrc, o.pt, o.sequence = st.repair, f.rtx, st.repairNext
	st.repairNext++
}

// moreStamps returns a copy of a stream's stamps with room for n, into which what waits of the stream is stamped from now on.
// Called with mu held.
func (e *egress) moreStamps(stream *atomic.Bool, stamps []stamp, n int) []stamp {
	more := make([]stamp, n)
	for i, m := range stamps {
		if int(m.sequence)%len(stamps) == i {
			more[int(m.sequence)%n] = m
		}
	}
	for _, queue := range [...]*fifo{&e.media, &e.again} {
		for s := queue.head; s != nil; s = s.next {
			if s.shed != stream || s.stamp == nil || s.again {
				continue
			}
			s.stamp = &more[int(s.sequence)%n]
			*s.stamp = stamp{sequence: s.sequence}
		}
	}
	return more
}
