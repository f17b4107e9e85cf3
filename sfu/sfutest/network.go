// Package sfutest runs rooms of the sfu over a virtual network: synthetic publishers, subscribers that record, links
// that lose packets. [Simulate] runs them in virtual time, a [Link] impairs one client's packets by a seed, and a [Viewer]
// asks for what is lost as browsers do and says how many frames were in time. A [Client] is a stock Pion client with Pion's own interceptors, so that the server's feedback, NACK
// and RTX are met by somebody else's.
package sfutest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anytime/sfu"

	"github.com/pion/logging"
	"github.com/pion/transport/v4/vnet"
)

// ServerIP is the server's address in a [Network].
const ServerIP = "10.0.0.1"

// Network is a virtual network with one server. It is torn down with the test.
type Network struct {
	t      testing.TB
	router *vnet.Router
	Server *sfu.Server

	hosts    atomic.Int32
	loss     [2]atomic.Uint64 // to and from the server: share of media packets, in 1/1e6
	cut      sync.Map         // client IPs whose packets are dropped
	virtual  bool             // time is
	random   *rand.Rand
	randomMu sync.Mutex

	speakersMu sync.Mutex
	speakers   map[string][]sfu.Speaker
	changed    chan struct{}
}

// virtual guards the making of virtual hosts: Pion counts their hardware addresses in a plain global.
var virtual sync.Mutex

// New starts a network with a server in it. configure may change the server's configuration.
func New(t testing.TB, configure func(*sfu.Config)) *Network {
	t.Helper()
	n := &Network{t: t, random: rand.New(rand.NewPCG(1, 2)), speakers: map[string][]sfu.Speaker{}, changed: make(chan struct{}, 1)}
	virtual.Lock()
	defer virtual.Unlock()
	router, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: "10.0.0.0/16", LoggerFactory: quiet(), QueueSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	n.router = router
	host, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{ServerIP}})
	if err != nil {
		t.Fatal(err)
	}
	if err := router.AddNet(host); err != nil {
		t.Fatal(err)
	}
	router.AddChunkFilter(n.pass)
	if err := router.Start(); err != nil {
		t.Fatal(err)
	}
	cfg := sfu.Config{UDPAddr: "0.0.0.0:7882", NodeIPs: []netip.Addr{netip.MustParseAddr(ServerIP)}, Net: host,
		Speakers: n.spoke, Log: slog.New(slog.DiscardHandler)}
	if configure != nil {
		configure(&cfg)
	}
	n.Server, err = sfu.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Server.Close(); err != nil {
			t.Errorf("closing the server: %v", err)
		}
		_ = router.Stop()
	})
	return n
}

func quiet() logging.LoggerFactory {
	f := logging.NewDefaultLoggerFactory()
	f.DefaultLogLevel = logging.LogLevelDisabled
	f.ScopeLevels = map[string]logging.LogLevel{}
	return f
}

// host adds one more host.
func (n *Network) host() (*vnet.Net, string) {
	n.t.Helper()
	return n.hostBehind(nil)
}

// hostBehind adds one more host, behind what wrap makes of its network interface.
func (n *Network) hostBehind(wrap func(vnet.NIC) (vnet.NIC, error)) (*vnet.Net, string) {
	n.t.Helper()
	i := n.hosts.Add(1)
	ip := fmt.Sprintf("10.0.%d.%d", 1+i/200, 10+i%200)
	virtual.Lock()
	host, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{ip}})
	virtual.Unlock()
	if err != nil {
		n.t.Fatal(err)
	}
	nic := vnet.NIC(host)
	if wrap != nil {
		if nic, err = wrap(nic); err != nil {
			n.t.Fatal(err)
		}
	}
	if err := n.router.AddNet(nic); err != nil {
		n.t.Fatal(err)
	}
	return host, ip
}

// Lose makes the links lose a share (0–1) of the RTP packets, on the way to and from the server. STUN, DTLS and RTCP
// pass.
func (n *Network) Lose(toServer, fromServer float64) {
	n.loss[0].Store(uint64(toServer * 1e6))
	n.loss[1].Store(uint64(fromServer * 1e6))
}

// pass is the router's filter.
func (n *Network) pass(c vnet.Chunk) bool {
	src, dst := c.SourceAddr().String(), c.DestinationAddr().String()
	for _, a := range []string{src, dst} {
		ip, _, _ := strings.Cut(a, ":")
		if _, cut := n.cut.Load(ip); cut {
			return false
		}
	}
	b := c.UserData()
	// RFC 7983 section 7: 128–191 is RTP and RTCP; RFC 5761 section 4 tells RTCP by its packet types.
	if len(b) < 2 || b[0]>>6 != 2 || b[1] >= 192 && b[1] <= 223 {
		return true
	}
	direction := 1
	if strings.HasPrefix(dst, ServerIP+":") {
		direction = 0
	}
	loss := n.loss[direction].Load()
	if loss == 0 {
		return true
	}
	n.randomMu.Lock()
	defer n.randomMu.Unlock()
	return n.random.Uint64N(1e6) >= loss
}

func (n *Network) spoke(room string, list []sfu.Speaker) {
	n.speakersMu.Lock()
	n.speakers[room] = list
	n.speakersMu.Unlock()
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// AwaitSpeaker waits until the loudest active speaker of the room is id; "" waits for silence.
func (n *Network) AwaitSpeaker(ctx context.Context, room, id string) error {
	for {
		n.speakersMu.Lock()
		loudest := ""
		if list := n.speakers[room]; len(list) > 0 && list[0].Active {
			loudest = list[0].ID
		}
		n.speakersMu.Unlock()
		if loudest == id {
			return nil
		}
		select {
		case <-n.changed:
		case <-ctx.Done():
			return fmt.Errorf("the loudest speaker is %q, waiting for %q: %w", loudest, id, ctx.Err())
		}
	}
}

// CheckGoroutines returns a function that fails the test when more goroutines run than now. Goroutines that are ending
// get a moment: the count is polled, as their end is no event that anybody tells.
func CheckGoroutines(t testing.TB) func() {
	t.Helper()
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for runtime.NumGoroutine() > before {
			if time.Now().After(deadline) {
				b := make([]byte, 1<<20)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
				return
			}
			<-tick.C
		}
	}
}

// countSections returns the video m-lines of a description, and how many of them send.
func countSections(text string) (video, sending int) {
	for _, m := range strings.Split(text, "\r\nm=")[1:] {
		if strings.HasPrefix(m, "video") {
			video++
			if strings.Contains(m, "a=sendonly") {
				sending++
			}
		}
	}
	return video, sending
}
