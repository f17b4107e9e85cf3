package main

import (
	"strconv"
	"time"

	"anytime/sfu"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics shows what the services count, read when it is asked for.
func (n *node) metrics() prometheus.Collector { return collector{n} }

type collector struct{ n *node }

// metric is one figure: its name, its help, and whether it only ever grows. packets is the value of its label packets, if it
// has one.
type metric struct {
	name, help string
	value      float64
	grows      bool
	packets    string
}

// Describe implements prometheus.Collector. Sending nothing makes it an unchecked one, whose
// metrics are known when collected.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, m := range c.n.figures() {
		kind := prometheus.GaugeValue
		if m.grows {
			kind = prometheus.CounterValue
		}
		var labels prometheus.Labels
		if m.packets != "" {
			labels = prometheus.Labels{"packets": m.packets}
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("anytime_"+m.name, m.help, nil, labels), kind, m.value)
	}
}

// downlinks sums up the paths to those who receive video.
type downlinks struct {
	all, reports, congested, short, waiting int
	target                                  float64
}

func (d *downlinks) add(t *sfu.TransportStats) {
	c := &t.Congestion
	switch c.Source {
	case sfu.NoEstimate:
		return
	case sfu.ByREMB, sfu.ByReports:
		d.reports++
	}
	d.all++
	d.target += float64(c.Target)
	d.waiting += t.Egress.Waiting
	if c.Queue > 100*time.Millisecond || c.Loss > 0.1 {
		d.congested++
	}
	if c.Wanted > c.Target {
		d.short++
	}
}

func (n *node) figures() []metric {
	media := n.sfu.Stats()
	publications, subscriptions := 0, 0
	var paths downlinks
	var runs [len(sfu.EgressStats{}.RunLengths)]uint64
	for _, p := range media.Participants {
		publications += len(p.Publications)
		subscriptions += len(p.Subscriptions)
		for i := range p.Transports {
			paths.add(&p.Transports[i])
			for n, count := range p.Transports[i].Egress.RunLengths {
				runs[n] += count
			}
		}
	}
	large := 0
	for _, v := range media.Voices {
		if v.Gating {
			large++
		}
	}
	list := []metric{
		{name: "rooms", help: "Rooms with somebody in them.", value: float64(media.Rooms)},
		{name: "participants", help: "Participants in rooms.", value: float64(len(media.Participants))},
		{name: "publications", help: "Tracks published.", value: float64(publications)},
		{name: "subscriptions", help: "Tracks forwarded, one for each that receives.", value: float64(subscriptions)},
		{name: "downlinks", help: "Connections to participants who receive video, over which it is paced.", value: float64(paths.all)},
		{name: "downlinks_by_reports", help: "Those of them without feedback on single packets: REMB or receiver reports lead.", value: float64(paths.reports)},
		{name: "downlinks_congested", help: "Those of them on which packets wait for more than 100 ms, or a tenth is lost.", value: float64(paths.congested)},
		{name: "downlinks_short", help: "Those of them that take less than is wanted.", value: float64(paths.short)},
		{name: "downlink_target_bits", help: "What all of them together are thought to take, in bits per second.", value: paths.target},
		{name: "downlink_waiting_packets", help: "Packets that wait to be sent in time.", value: float64(paths.waiting)},
		{name: "media_receive_overflow_total", help: "Messages that the kernel dropped because media was read too slowly.", value: float64(media.Ports.UDP.Overflow), grows: true},
		{name: "media_send_full_total", help: "Datagrams of media that found the send buffer full.", value: float64(media.Ports.UDP.Full), grows: true},
		{name: "media_send_failed_total", help: "Datagrams of media that the kernel refused.", value: float64(media.Ports.UDP.Failed), grows: true},
		{name: "media_unsegmented_total", help: "Runs of media that the kernel refused to cut up.", value: float64(media.Ports.UDP.Unsegmented), grows: true},
		{name: "media_unknown_total", help: "Packets on the media ports from or for nobody known.", value: float64(media.Ports.Unknown), grows: true},
		{name: "media_control_full_total", help: "Packets of ICE and DTLS dropped because too many of a client's waited.", value: float64(media.Ports.Full), grows: true},
		{name: "ice_tcp_connections", help: "ICE-TCP connections open now.", value: float64(media.Ports.TCPOpen)},
		{name: "ice_tcp_refused_total", help: "ICE-TCP connections refused because of a limit.", value: float64(media.Ports.TCPRefused), grows: true},
		{name: "ice_tcp_dropped_packets_total", help: "Packets dropped because an ICE-TCP client takes them in too slowly.", value: float64(media.Ports.TCPDropped), grows: true},
		{name: "downlink_shed_packets_total", help: "Video packets dropped because too many waited.", value: float64(media.Totals.Shed), grows: true},
		{name: "downlink_padding_bytes_total", help: "Bytes sent to find out what links take.", value: float64(media.Totals.PaddingBytes), grows: true},
		{name: "downlink_probes_total", help: "Probes that found out something.", value: float64(media.Totals.Probes), grows: true},
		{name: "downlink_probes_failed_total", help: "Probes that found out nothing.", value: float64(media.Totals.ProbesFailed), grows: true},
		{name: "fan_outs_shared_total", help: "Times that packets for many subscribers were shared out among the cores.", value: float64(media.Crew.Shifts), grows: true},
		{name: "fan_outs_alone_total", help: "Times that they weren't, because the other cores had another publisher's.", value: float64(media.Crew.Busy), grows: true},
		{name: "fan_out_chunks_helped_total", help: "Parts of shared ones that another core did.", value: float64(media.Crew.Helped), grows: true},
	}
	list = append(list,
		metric{name: "rooms_choosing_voices", help: "Rooms with so many open microphones that only the loudest are forwarded.", value: float64(large)},
		metric{name: "voices_held_back_total", help: "Packets of microphones that were held back there.", value: float64(media.HeldBack), grows: true},
	)
	for i, count := range runs {
		list = append(list, metric{name: "media_runs", help: "How often so many packets left at once, for those who are connected now.", value: float64(count), packets: strconv.Itoa(i + 1)})
	}
	if n.webhooks != nil {
		told := n.webhooks.Stats()
		list = append(list,
			metric{name: "webhook_waiting", help: "Webhook events that have not arrived yet.", value: float64(told.Waiting)},
			metric{name: "webhook_delivered_total", help: "Webhook events that arrived.", value: float64(told.Delivered), grows: true},
			metric{name: "webhook_retried_total", help: "Attempts repeated after a failure.", value: float64(told.Retried), grows: true},
			metric{name: "webhook_failed_total", help: "Webhook events given up after their last attempt or a refusal.", value: float64(told.Failed), grows: true},
			metric{name: "webhook_dropped_total", help: "Webhook events dropped because too many waited or the server stopped.", value: float64(told.Dropped), grows: true},
		)
	}
	if n.splitter != nil {
		shared := n.splitter.stats()
		list = append(list,
			metric{name: "https_connections", help: "Connections open on the port that HTTPS and TURN share.", value: float64(shared.Open)},
			metric{name: "https_pending", help: "Those of them whose handshake or first bytes are awaited.", value: float64(shared.Pending)},
			metric{name: "https_refused_total", help: "Connections refused there because of a limit.", value: float64(shared.Refused), grows: true},
			metric{name: "https_failed_total", help: "Connections there that ended before it was clear what they want.", value: float64(shared.Failed), grows: true},
			metric{name: "https_timed_out_total", help: "Connections there that took too long to say what they want.", value: float64(shared.TimedOut), grows: true},
		)
	}
	if n.turn == nil {
		return list
	}
	relay := n.turn.Stats()
	return append(list,
		metric{name: "turn_allocations", help: "TURN allocations that exist now.", value: float64(relay.Allocations)},
		metric{name: "turn_connections", help: "TURN clients connected over TCP and TLS.", value: float64(relay.Connections)},
		metric{name: "turn_allocations_total", help: "TURN allocations made.", value: float64(relay.AllocationsMade), grows: true},
		metric{name: "turn_up_bytes_total", help: "Bytes relayed from clients.", value: float64(relay.BytesUp), grows: true},
		metric{name: "turn_down_bytes_total", help: "Bytes relayed to clients.", value: float64(relay.BytesDown), grows: true},
		metric{name: "turn_refused_credentials_total", help: "Requests with unknown, expired or wrong credentials.", value: float64(relay.RefusedCredentials), grows: true},
		metric{name: "turn_over_quota_total", help: "Allocations refused because of a limit.", value: float64(relay.OverQuota), grows: true},
		metric{name: "turn_forbidden_peers_total", help: "Attempts to reach something that isn't this server's SFU.", value: float64(relay.ForbiddenPeers), grows: true},
		metric{name: "turn_over_bandwidth_total", help: "Packets dropped because their user is over the limit.", value: float64(relay.OverBandwidth), grows: true},
		metric{name: "turn_congested_total", help: "Packets dropped because their client takes them in too slowly over TCP or TLS.", value: float64(relay.Congested), grows: true},
	)
}
