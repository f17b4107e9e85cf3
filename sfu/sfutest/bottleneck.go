package sfutest

import (
	pion "github.com/pion/transport/v4"
	"github.com/pion/transport/v4/vnet"
)

// bottleneckQueue is how long a packet waits in front of a bottleneck at most, in ms.
const bottleneckQueue = 300

// Bottleneck is a slow link to one host, with a drop-tail queue in front of it.
type Bottleneck struct{ queue *vnet.TBFQueue }

// Rate sets how many bit/s the link takes.
func (b *Bottleneck) Rate(bits int) {
	b.queue.SetRate(bits)
	b.queue.SetSize(int64(bits / 8 * bottleneckQueue / 1000))
}

// Bottleneck adds a host behind a slow link, for [Options.Net].
func (n *Network) Bottleneck(bits int) (pion.Net, *Bottleneck) {
	n.t.Helper()
	b := &Bottleneck{vnet.NewTBFQueue(bits, 8000, 0)}
	b.Rate(bits)
	host, _ := n.hostBehind(func(nic vnet.NIC) (vnet.NIC, error) {
		q, err := vnet.NewQueue(nic, b.queue)
		if err == nil {
			n.t.Cleanup(func() { _ = q.Close() })
		}
		return q, err
	})
	return host, b
}
