package signaling

import (
	"cmp"
	"slices"
	"time"
)

// Bounds of a dataLog.
const (
	dataLogAge     = 10 * time.Second
	dataLogPackets = 4096     // of one sender
	dataLogBytes   = 4 << 20  // of one sender
	dataLogTotal   = 32 << 20 // of a room
)

// dataLog keeps the reliable data packets of a room's last seconds, so that a client that comes back
// gets what it says it has not received. It is pure: its owner tells it the time.
type dataLog struct {
	senders map[string]*senderLog // by participant id
	bytes   int
	count   uint64    // of packets ever kept
	due     time.Time // when expire has something to do; zero when nothing is kept
}

type senderLog struct {
	packets []keptPacket // the oldest first
	bytes   int
}

type keptPacket struct {
	at       time.Time
	number   uint64   // in the order of the room
	sequence uint32   // in the order of the sender
	to       []string // participant ids
	payload  []byte
}

// add keeps a packet that is passed on to participants. Neither to nor payload may change any more.
func (l *dataLog) add(now time.Time, sender string, sequence uint32, to []string, payload []byte) {
	if l.senders == nil {
		l.senders = map[string]*senderLog{}
	}
	if l.due.IsZero() {
		l.due = now.Add(dataLogAge)
	}
	s := l.senders[sender]
	if s == nil {
		s = &senderLog{}
		l.senders[sender] = s
	}
	l.count++
	s.packets = append(s.packets, keptPacket{at: now, number: l.count, sequence: sequence, to: to, payload: payload})
	s.bytes += len(payload)
	l.bytes += len(payload)
	for len(s.packets) > 0 && (s.bytes > dataLogBytes || len(s.packets) > dataLogPackets || now.Sub(s.packets[0].at) > dataLogAge) {
		l.drop(s)
	}
	for l.bytes > dataLogTotal {
		l.drop(l.largest())
	}
}

// drop forgets a sender's oldest packet.
func (l *dataLog) drop(s *senderLog) {
	size := len(s.packets[0].payload)
	s.packets[0] = keptPacket{}
	s.packets = s.packets[1:]
	s.bytes -= size
	l.bytes -= size
}

// largest is the sender with the most bytes: whoever sends little keeps what it sent.
func (l *dataLog) largest() *senderLog {
	var most *senderLog
	for _, s := range l.senders {
		if len(s.packets) > 0 && (most == nil || s.bytes > most.bytes) {
			most = s
		}
	}
	return most
}

// expire forgets what is too old.
func (l *dataLog) expire(now time.Time) {
	if l.due.IsZero() || now.Before(l.due) {
		return
	}
	oldest := time.Time{}
	for id, s := range l.senders {
		for len(s.packets) > 0 && now.Sub(s.packets[0].at) >= dataLogAge {
			l.drop(s)
		}
		if len(s.packets) == 0 {
			delete(l.senders, id)
		} else if at := s.packets[0].at; oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	l.due = time.Time{}
	if !oldest.IsZero() {
		// Once a second is often enough, whatever the pace of the packets.
		l.due = now.Add(max(oldest.Add(dataLogAge).Sub(now), time.Second))
	}
}

// missed returns what was meant for a participant and is newer than the last sequence that it has of
// the sender, in the order in which it was passed on. A sender that is not in last has sent it nothing
// that arrived.
func (l *dataLog) missed(now time.Time, participant string, last map[string]uint32) [][]byte {
	var kept []keptPacket
	for sender, s := range l.senders {
		have := last[sender]
		for _, p := range s.packets {
			if p.sequence > have && now.Sub(p.at) <= dataLogAge && slices.Contains(p.to, participant) {
				kept = append(kept, p)
			}
		}
	}
	slices.SortFunc(kept, func(a, b keptPacket) int { return cmp.Compare(a.number, b.number) })
	var out [][]byte
	for _, p := range kept {
		out = append(out, p.payload)
	}
	return out
}
