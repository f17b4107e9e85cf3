package turn

import (
	"hash/maphash"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
)

// clientShards is how many parts a table of clients has: each change copies one.
const clientShards = 256

// clientTable holds the clients of a listener that have an allocation. Readers take no lock and share no written memory: every
// packet asks. The zero value is empty.
type clientTable struct {
	changing sync.Mutex
	shards   [clientShards]atomic.Pointer[map[netip.AddrPort]*relay]
}

var seed = maphash.MakeSeed()

// hash spreads addresses, so that nobody outside can make many meet.
func hash(a netip.AddrPort) uint32 {
	ip := a.Addr().As16()
	var key [18]byte
	copy(key[:], ip[:])
	key[16], key[17] = byte(a.Port()>>8), byte(a.Port())
	return uint32(maphash.Bytes(seed, key[:]))
}

func (t *clientTable) shard(a netip.AddrPort) *atomic.Pointer[map[netip.AddrPort]*relay] {
	return &t.shards[hash(a)%clientShards]
}

// at returns the client's relay, or nil.
func (t *clientTable) at(from netip.AddrPort) *relay {
	if m := t.shard(from).Load(); m != nil {
		return (*m)[from]
	}
	return nil
}

func (t *clientTable) put(from netip.AddrPort, r *relay) {
	t.changing.Lock()
	defer t.changing.Unlock()
	t.change(from, func(m map[netip.AddrPort]*relay) { m[from] = r })
}

// drop forgets the client, unless a newer relay has taken the place.
func (t *clientTable) drop(from netip.AddrPort, r *relay) {
	t.changing.Lock()
	defer t.changing.Unlock()
	if t.at(from) == r {
		t.change(from, func(m map[netip.AddrPort]*relay) { delete(m, from) })
	}
}

func (t *clientTable) change(from netip.AddrPort, do func(map[netip.AddrPort]*relay)) {
	shard := t.shard(from)
	next := make(map[netip.AddrPort]*relay)
	if m := shard.Load(); m != nil {
		next = maps.Clone(*m)
	}
	do(next)
	if len(next) == 0 {
		shard.Store(nil)
		return
	}
	shard.Store(&next)
}
