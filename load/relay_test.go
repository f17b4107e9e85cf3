package load

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"
)

// channelData frames what goes over a channel (RFC 8656 §12.4).
func channelData(number uint16, data, padding string) []byte {
	return append([]byte{byte(number >> 8), byte(number), byte(len(data) >> 8), byte(len(data))}, data+padding...)
}

// message is a STUN message of attributes (RFC 8489 §5).
func message(kind uint16, attributes ...string) []byte {
	b := append([]byte{byte(kind >> 8), byte(kind), 0, 0, 0x21, 0x12, 0xa4, 0x42}, "transaction!"...)
	for _, a := range attributes {
		b = append(b, a...)
	}
	b[3] = byte(len(b) - stunHeader)
	return b
}

func TestRelayed(t *testing.T) {
	const peer = "\x00\x12\x00\x08\x00\x01\x12\x34\x5e\x12\xa4\x43" // XOR-PEER-ADDRESS
	for name, test := range map[string]struct {
		datagram []byte
		want     string
	}{
		"a channel":                 {channelData(0x4000, "data", ""), "data"},
		"the last channel":          {channelData(0x4fff, "data", ""), "data"},
		"padding":                   {channelData(0x4001, "datum", "\x00\x00\x00"), "datum"},
		"no data":                   {channelData(0x4000, "", ""), ""},
		"a channel cut short":       {channelData(0x4000, "data", "")[:7], ""},
		"no channel":                {channelData(0x5000, "data", ""), ""},
		"a Data indication":         {message(indicationData, peer, "\x00\x13\x00\x04data"), "data"},
		"a Send indication":         {message(indicationSend, "\x00\x13\x00\x05datum\x00\x00\x00", peer), "datum"},
		"padding left out":          {message(indicationSend, "\x00\x13\x00\x05datum"), "datum"},
		"no attribute of data":      {message(indicationData, peer), ""},
		"an attribute cut short":    {message(indicationData, peer, "\x00\x13\x00\x08data"), ""},
		"a message cut short":       {message(indicationData, peer, "\x00\x13\x00\x04data")[:30], ""},
		"another message":           {message(0x0101, "\x00\x13\x00\x04data"), ""},
		"RTP":                       {[]byte("\x80\x60 an RTP header"), ""},
		"three bytes":               {[]byte{0x40, 0, 0}, ""},
		"an empty one":              {nil, ""},
		"half an attribute's value": {message(indicationData, "\x00\x13\x00"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := relayed(test.datagram); string(got) != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func FuzzRelayed(f *testing.F) {
	f.Add(channelData(0x4000, "data", ""))
	f.Add(message(indicationData, "\x00\x13\x00\x04data"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := relayed(b); !bytes.Contains(b, got) {
			t.Errorf("%x is not in %x", got, b)
		}
	})
}

// TestLineToRelay: of what a TURN server sends, RTP stays with the line. The rest goes to Pion as it came, in its order.
func TestLineToRelay(t *testing.T) {
	of := &participant{load: &generator{cfg: Config{Relay: true}, base: time.Now(), interval: time.Second / frameRate, secrets: secrets{by: map[[32]byte][]byte{}}}}
	of.description.Store(&description{payloads: map[uint8]payload{0x60: {VP8, 90_000}}})
	local := network{of: of, local: netip.MustParseAddr("127.0.0.1")}
	conn, err := local.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		of.close()
		of.load.work.Wait()
	})
	_, port, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := net.Dial("udp4", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const rtp = "\x80\x60\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03body"
	success := message(0x0103, "\x00\x13\x00\x0cnot for you!") // of an allocation
	check := channelData(0x4000, string(message(0x0101)), "")
	for _, b := range [][]byte{success, channelData(0x4000, rtp, ""), message(indicationData, "\x00\x13\x00\x10"+rtp), check} {
		if _, err := server.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	buffer := make([]byte, 1600)
	for _, want := range [][]byte{success, check} {
		if n, _, err := conn.ReadFrom(buffer); err != nil || !bytes.Equal(buffer[:n], want) {
			t.Fatalf("Pion got %x and %v, want %x", buffer[:n], err, want)
		}
	}
	of.load.participants = append(of.load.participants, of)
	if got := of.load.sum(); got.packets != 2 {
		t.Errorf("%d packets of RTP were counted, want 2", got.packets)
	}
	if _, err := local.DialTCP("tcp4", nil, nil); err == nil {
		t.Error("a relay is reached over TCP")
	}
}
