package client

// Paths returns the protocols, udp or tcp, of the paths that ICE has chosen: one for each peer connection that is in use.
func (c *Client) Paths() []string {
	var out []string
	transports := []*transport{c.publisher, c.subscriber}
	if c.cfg.Single {
		transports = transports[:1]
	}
	for _, t := range transports {
		if t == nil || !t.used() {
			continue
		}
		pair, err := t.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		if err == nil && pair != nil {
			out = append(out, pair.Remote.Protocol.String())
		}
	}
	return out
}
