package sfu

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"anytime/sfu/udp"
)

// A relay in this process reaches the SFU without a socket: its packets are taken as if they had come from the relay's address,
// which nobody else has, and what is sent there is given to it.

// insides are the relays in this process, by address, of which there are so many as ports. Those that have ended stay, so that
// what is still to be sent there goes nowhere.
type insides struct {
	n  atomic.Int64 // spares a look where there is none
	mu sync.RWMutex
	by map[netip.AddrPort]*inside
}

func (i *insides) at(a netip.AddrPort) *inside {
	if i.n.Load() == 0 {
		return nil
	}
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.by[a]
}

// inside is one relay.
type inside struct {
	mux     *mux
	address netip.AddrPort

	mu       sync.RWMutex // read while a packet passes, so that detach waits for it
	closed   bool
	receiver func(from netip.AddrPort, run udp.Run)

	// The client talks to several of our addresses until it has chosen one. An answer comes from where its request went.
	choosing sync.Mutex
	chosen   atomic.Pointer[netip.AddrPort]
	asked    [32]question // more than there are addresses of ours
	next     int
}

// question is a STUN request that was sent to one of our addresses.
type question struct {
	transaction [12]byte
	to          netip.AddrPort
}

// Inside opens a way into the SFU for a relay at an address that nothing else has. What is sent to it is given to deliver: a run of
// datagrams from one of our addresses, whose bytes are the caller's again afterwards. deliver is called on any goroutine and must
// neither block nor call send. send takes a datagram of the relay's client to one of our addresses; b may be changed during
// the call. detach ends both, and waits for calls of deliver in progress. An address that is taken is an error.
func (s *Server) Inside(relay netip.AddrPort, deliver func(from netip.AddrPort, run udp.Run)) (send func(b []byte, to netip.AddrPort), detach func(), err error) {
	m := s.mux
	relay = unmapped(relay)
	i := &inside{mux: m, address: relay, receiver: deliver}
	m.insides.mu.Lock()
	defer m.insides.mu.Unlock()
	if m.at(relay) != nil {
		return nil, nil, errors.New("sfu: a client has the relay's address")
	}
	if old := m.insides.by[relay]; old != nil {
		old.mu.RLock()
		closed := old.closed
		old.mu.RUnlock()
		if !closed {
			return nil, nil, errors.New("sfu: the relay's address is taken")
		}
		m.insides.n.Add(-1)
	}
	if m.insides.by == nil {
		m.insides.by = map[netip.AddrPort]*inside{}
	}
	m.insides.by[relay] = i
	m.insides.n.Add(1)
	return i.send, i.detach, nil
}

func (i *inside) detach() {
	i.mu.Lock()
	closed := i.closed
	i.closed = true
	i.mu.Unlock()
	if closed {
		return
	}
	if p := i.mux.at(i.address); p != nil {
		p.forget(i.address)
	}
}

// send takes a datagram of the client's.
func (i *inside) send(b []byte, to netip.AddrPort) {
	if kindOf(b) == kindSTUN && len(b) >= stunHeader {
		m, ok := parseSTUN(b)
		if !ok {
			return
		}
		i.choosing.Lock()
		q := &i.asked[i.next%len(i.asked)]
		i.next++
		copy(q.transaction[:], b[8:])
		q.to = to
		i.choosing.Unlock()
		if m.nominates || i.chosen.Load() == nil {
			i.choose(to)
		}
	}
	i.mu.RLock()
	closed := i.closed
	i.mu.RUnlock()
	if !closed {
		at := i.mux.clock()
		if p := i.mux.receive(b, i.address, at); p != nil {
			p.rest(at)
		}
	}
}

func (i *inside) choose(to netip.AddrPort) {
	if now := i.chosen.Load(); now == nil || *now != to {
		i.chosen.Store(&to)
	}
}

// deliver gives a run to the relay and returns how many packets it has.
func (i *inside) deliver(run udp.Run) int {
	from := i.chosen.Load()
	if from == nil {
		return 0
	}
	return i.give(*from, run)
}

func (i *inside) give(from netip.AddrPort, run udp.Run) int {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.closed {
		return 0
	}
	run.To = i.address
	i.receiver(from, run)
	return run.Datagrams()
}

// answer gives a datagram of the ICE agent's, or of DTLS, to the relay.
func (i *inside) answer(b []byte) {
	from := i.chosen.Load()
	// RFC 8489 section 5: the two most significant bits of the class are bits 8 and 4 of the type. Responses have the first.
	if kindOf(b) == kindSTUN && len(b) >= stunHeader && binary.BigEndian.Uint16(b)&0x0100 != 0 {
		i.choosing.Lock()
		for n := range i.asked {
			if q := &i.asked[n]; q.to.IsValid() && string(q.transaction[:]) == string(b[8:stunHeader]) {
				to := q.to
				from = &to
			}
		}
		i.choosing.Unlock()
	}
	if from != nil {
		i.give(*from, udp.Run{Buffer: b})
	}
}
