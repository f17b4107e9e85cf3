package udp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// restLog is a Reader that notes how many datagrams came before each Rest.
type restLog struct {
	mu     sync.Mutex
	since  int
	rests  []int
	before func() // called for each datagram
}

func (l *restLog) Receive([]byte, netip.AddrPort, time.Duration) {
	if l.before != nil {
		l.before()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since++
}

func (l *restLog) Rest(time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rests = append(l.rests, l.since)
	l.since = 0
}

// total is how many datagrams came that a Rest followed.
func (l *restLog) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rest := range l.rests {
		n += rest
	}
	return n
}

func TestReadersRest(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			const many = 500
			gate := make(chan struct{})
			var l restLog
			l.before = func() { <-gate }
			to := open(t, kind, Config{Sockets: 1, Reader: func(int) Reader { return &l }})
			from := open(t, "plain", Config{Sockets: 1})
			for range many { // each of them a message, unless the kernel joins them
				if _, err := from.WriteTo([]byte("x"), to.Addr()); err != nil {
					t.Fatal(err)
				}
			}
			close(gate)
			eventually(t, "a rest after the last datagram", func() bool { return l.total() == many })
			most := 64
			if to.conn != nil {
				most = 1
			}
			l.mu.Lock()
			if n := slices.Max(l.rests); n > most {
				t.Errorf("%d datagrams without a rest", n)
			}
			if slices.Contains(l.rests, 0) {
				t.Error("a rest without anything received")
			}
			rests := len(l.rests)
			l.mu.Unlock()
			if err := to.Close(); err != nil {
				t.Error(err)
			}
			if len(l.rests) != rests {
				t.Error("closing was a rest")
			}
		})
	}
}

// What a Reader had when the port closes is followed by a Rest, and nothing is afterwards.
func TestClosingIsARest(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			gate, inside := make(chan struct{}), make(chan struct{}, 1)
			var l restLog
			l.before = func() {
				select {
				case inside <- struct{}{}:
				default:
				}
				<-gate
			}
			to := open(t, kind, Config{Sockets: 1, Reader: func(int) Reader { return &l }})
			from := open(t, "plain", Config{Sockets: 1})
			if _, err := from.WriteTo([]byte("x"), to.Addr()); err != nil {
				t.Fatal(err)
			}
			<-inside
			var closing sync.WaitGroup
			closing.Go(func() {
				if err := to.Close(); err != nil {
					t.Error(err)
				}
			})
			<-to.done
			close(gate)
			closing.Wait()
			if l.since != 0 || !slices.Equal(l.rests, []int{1}) {
				t.Errorf("rests after %v datagrams, and %d without one", l.rests, l.since)
			}
		})
	}
}

func TestEachSocketHasAReader(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			const sockets, peers = 4, 32
			var asked []int
			var readers []*restLog
			to := open(t, kind, Config{Sockets: sockets, Reader: func(socket int) Reader {
				asked = append(asked, socket)
				if socket == 1 {
					return nil // it drops
				}
				readers = append(readers, new(restLog))
				return readers[len(readers)-1]
			}})
			var want []int
			for i := range to.links() {
				want = append(want, i)
			}
			if !slices.Equal(asked, want) {
				t.Fatalf("asked for the readers of the sockets %v, want %v", asked, want)
			}
			for range peers {
				from := open(t, "plain", Config{Sockets: 1})
				if _, err := from.WriteTo([]byte("x"), to.Addr()); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the counters", func() bool { return to.Stats().Received == peers })
			eventually(t, "the readers", func() bool {
				n := 0
				for _, l := range readers {
					n += l.total()
				}
				for i, l := range to.links() {
					if i == 1 {
						n += int(l.count().received.Load())
					}
				}
				return n == peers
			})
		})
	}
}

// Datagrams come at every moment of a reader's round: before it waits, when it falls asleep, and while it reads. None of
// them may lie until the next one comes.
func TestNoWakeUpIsLost(t *testing.T) {
	rounds := 1000
	if raceEnabled || testing.Short() {
		rounds = 200
	}
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const peers, most = 4, 60
			var acks [peers]chan struct{}
			for i := range acks {
				acks[i] = make(chan struct{}, most)
			}
			to := open(t, kind, Config{Sockets: 2, Reader: every(func(b []byte, _ netip.AddrPort, _ time.Duration) {
				acks[binary.BigEndian.Uint32(b)] <- struct{}{}
			})})
			var all sync.WaitGroup
			for i := range peers {
				from := open(t, kind, Config{Sockets: 1})
				all.Go(func() {
					patience := time.NewTimer(patienceOfTests)
					defer patience.Stop()
					b := make([]byte, 100*most)
					for at := 0; at < len(b); at += 100 {
						binary.BigEndian.PutUint32(b[at:], uint32(i))
					}
					for round := range rounds {
						n := 1 // step by step mostly
						if round%8 == 0 {
							n = 1 + rand.IntN(most)
						}
						if left := from.Send(0, Run{To: to.Addr(), Buffer: b[:100*n], Size: 100}); left != n {
							t.Errorf("%d of %d datagrams left", left, n)
							return
						}
						for range n {
							select {
							case <-acks[i]:
							case <-patience.C:
								t.Errorf("peer %d, round %d: a datagram lies unread", i, round)
								return
							}
						}
					}
				})
			}
			all.Wait()
		})
	}
}
