package sfu

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
)

// srtpProfiles are those that we take.
var srtpProfiles = []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testKeys are master keys of a profile, other ones for another seed.
func testKeys(profile dtls.SRTPProtectionProfile, seed byte) masterKeys {
	key, salt := 16, 12
	switch profile {
	case dtls.SRTP_AEAD_AES_256_GCM:
		key = 32
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
		salt = 14
	}
	return masterKeys{key: bytes.Repeat([]byte{seed, 7}, key/2), salt: bytes.Repeat([]byte{seed, 9}, salt/2)}
}

// everyProfile runs a test for each profile: what we make of a connection, and Pion's two contexts, which seal and open.
func everyProfile(t *testing.T, test func(t *testing.T, seal *sealer, open *opener, theirs, ours *srtp.Context)) {
	for _, profile := range srtpProfiles {
		t.Run(profileName(profile), func(t *testing.T) {
			m := testKeys(profile, 1)
			seal, err := newSealer(profile, m)
			must(t, err)
			open, err := newOpener(profile, m)
			must(t, err)
			var contexts [2]*srtp.Context
			for i := range contexts {
				contexts[i], err = srtp.CreateContext(m.key, m.salt, srtp.ProtectionProfile(profile),
					srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
				must(t, err)
			}
			test(t, seal, open, contexts[0], contexts[1])
		})
	}
}

// plainRTP is a packet; its form, with CSRCs, an extension and padding or not, follows from the sequence number. It has room
// for a tag. header is the length of its header.
func plainRTP(ssrc uint32, sequence uint16) (b []byte, header int) {
	b = make([]byte, 12, maxSegment)
	b[0], b[1] = 0x80, 96
	binary.BigEndian.PutUint16(b[2:], sequence)
	binary.BigEndian.PutUint32(b[4:], uint32(sequence)*3000)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	if sequence%3 == 0 {
		b[0] |= 2 // CSRCs
		b = append(b, 1, 2, 3, 4, 5, 6, 7, 8)
	}
	if sequence%2 == 0 {
		b[0] |= 0x10
		b = append(b, 0xbe, 0xde, 0, 1, 0x10, 0x55, 0, 0) // RFC 8285: one element of one byte
	}
	header = len(b)
	for i := range int(sequence) % 1100 {
		b = append(b, byte(i))
	}
	if sequence%5 == 0 {
		b[0] |= 0x20
		b = append(b, 0, 0, 3) // RFC 3550 section 5.1
	}
	return b, header
}

// sealed is what seal makes of plainRTP, in memory of its own.
func sealed(t testing.TB, seal *sealer, ssrc uint32, sequence uint16) []byte {
	t.Helper()
	b, header := plainRTP(ssrc, sequence)
	out, err := seal.seal(b, header)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(out)
}

// TestSealIsSRTP: Pion opens what we seal, and it is the same, bit for bit, as what Pion makes of it.
func TestSealIsSRTP(t *testing.T) {
	everyProfile(t, func(t *testing.T, seal *sealer, _ *opener, theirs, ours *srtp.Context) {
		for i := range 70000 { // more than one cycle, and two sources that are not in step
			if i > 200 && i < 64800 && i%97 != 0 {
				continue
			}
			for _, ssrc := range []uint32{5, 0xfffffff0} {
				sequence := uint16(i) + uint16(ssrc)
				plain, header := plainRTP(ssrc, sequence)
				want, err := theirs.EncryptRTP(nil, plain, nil)
				must(t, err)
				b := append(make([]byte, 0, maxSegment), plain...)
				got, err := seal.seal(b, header)
				must(t, err)
				if &got[0] != &b[0] {
					t.Fatal("the packet was moved")
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("packet %d of %d: sealed otherwise than by Pion", sequence, ssrc)
				}
				if again, err := ours.DecryptRTP(nil, got, nil); err != nil || !bytes.Equal(again, plain) {
					t.Fatalf("packet %d of %d: Pion opens it to something else: %v", sequence, ssrc, err)
				}
			}
		}
	})
}

// TestOpenIsSRTP: we open what Pion seals: in order, in disorder, over the end of a cycle, and late ones of the cycle before.
func TestOpenIsSRTP(t *testing.T) {
	everyProfile(t, func(t *testing.T, _ *sealer, open *opener, theirs, _ *srtp.Context) {
		random := rand.New(rand.NewPCG(3, 4))
		const first, n = 65536 - 600, 1200
		var packets [n][]byte
		for i := range packets {
			b, _ := plainRTP(9, uint16(first+i))
			var err error
			packets[i], err = theirs.EncryptRTP(nil, b, nil)
			must(t, err)
		}
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		// Each comes at most 100 places away from its own: within the window.
		for i := 1; i+50 < n; i++ {
			j := i + random.IntN(50)
			order[i], order[j] = order[j], order[i]
		}
		late := -1
		for at, i := range order {
			if i > 300 && i < 590 && late < 0 { // of the first cycle, kept back until the second has begun
				late = i
				continue
			}
			want, _ := plainRTP(9, uint16(first+i))
			if got, err := open.open(packets[i]); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("place %d, packet %d: %v", at, i, err)
			}
			if at == 700 {
				want, _ := plainRTP(9, uint16(first+late))
				if got, err := open.open(packets[late]); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("packet %d of the cycle before: %v", late, err)
				}
			}
		}
	})
}

// TestCyclesAreFollowedAsByPion takes steps of every length from everywhere, those of half a cycle among them.
func TestCyclesAreFollowedAsByPion(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	m := testKeys(dtls.SRTP_AEAD_AES_128_GCM, 1)
	for range 300 {
		seal, err := newSealer(dtls.SRTP_AEAD_AES_128_GCM, m)
		must(t, err)
		theirs, err := srtp.CreateContext(m.key, m.salt, srtp.ProtectionProfileAeadAes128Gcm)
		must(t, err)
		sequence := uint16(random.Uint32())
		for step := range 40 {
			switch random.IntN(4) {
			case 0:
				sequence += 1 << 15
			case 1:
				sequence += 1<<15 - 1 + uint16(random.IntN(3))
			case 2:
				sequence += uint16(random.IntN(1 << 14))
			case 3:
				sequence -= uint16(random.IntN(100))
			}
			b, header := plainRTP(1, sequence)
			want, err := theirs.EncryptRTP(nil, b, nil)
			must(t, err)
			got, err := seal.seal(b, header)
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Fatalf("step %d: packet %d is of another cycle than Pion's", step, sequence)
			}
		}
	}
}

func TestReplaysAreRefused(t *testing.T) {
	everyProfile(t, func(t *testing.T, seal *sealer, open *opener, _, _ *srtp.Context) {
		var packets [][]byte
		for i := range 3 * replayWindow {
			packets = append(packets, sealed(t, seal, 1, uint16(65000+i)))
		}
		take := func(i int) error {
			_, err := open.open(bytes.Clone(packets[i]))
			return err
		}
		for i := range packets {
			if i%7 == 3 && i >= 2*replayWindow {
				continue // lost for now
			}
			if err := take(i); err != nil {
				t.Fatalf("packet %d: %v", i, err)
			}
			if err := take(i); err == nil {
				t.Fatalf("packet %d was taken twice", i)
			}
		}
		last := len(packets) - 1
		for i := range packets {
			lost, old := i%7 == 3 && i >= 2*replayWindow, last-i >= replayWindow
			if err := take(i); (err == nil) != (lost && !old) {
				t.Errorf("packet %d again: %v", i, err)
			}
		}
		if open.gcm != nil {
			if err := take(last); !errors.Is(err, errReplayed) {
				t.Errorf("a replay: %v", err)
			}
		}
	})
}

// TestForgeriesLeaveNothing: a packet of which one bit is another is refused, and what came after it is as if it hadn't come.
func TestForgeriesLeaveNothing(t *testing.T) {
	everyProfile(t, func(t *testing.T, seal *sealer, open *opener, _, _ *srtp.Context) {
		plain, _ := plainRTP(1, 60)
		packet := sealed(t, seal, 1, 60)
		for _, known := range []bool{false, true} {
			for bit := range 8 * len(packet) {
				forged := bytes.Clone(packet)
				forged[bit/8] ^= 1 << (bit % 8)
				if got, err := open.open(forged); err == nil {
					t.Fatalf("bit %d is another: opened to %x", bit, got)
				}
			}
			for n := range packet {
				if _, err := open.open(bytes.Clone(packet[:n])); err == nil {
					t.Fatalf("opened the first %d of %d bytes", n, len(packet))
				}
			}
			if n := len(open.rtp); known != (n == 1) || n > 1 {
				t.Fatalf("%d sources", n)
			}
			if !known {
				if got, err := open.open(bytes.Clone(packet)); err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("the packet itself: %v", err)
				}
			}
		}
		// Forgeries far ahead don't move the window either.
		for i := range 100 {
			b, header := plainRTP(1, uint16(100+300*i))
			b = append(b[:header], make([]byte, 40)...)
			if _, err := open.open(b); err == nil {
				t.Fatal("opened what nobody sealed")
			}
		}
		if _, err := open.open(sealed(t, seal, 1, 59)); err != nil {
			t.Errorf("the packet before the first: %v", err)
		}
	})
}

// TestKeysOfAnotherAreRefused: neither the other direction's keys nor another connection's open anything.
func TestKeysOfAnotherAreRefused(t *testing.T) {
	for _, profile := range srtpProfiles {
		seal, err := newSealer(profile, testKeys(profile, 2))
		must(t, err)
		open, err := newOpener(profile, testKeys(profile, 1))
		must(t, err)
		if _, err := open.open(sealed(t, seal, 1, 1)); err == nil || len(open.rtp) != 0 {
			t.Errorf("%s: %v, %d sources", profileName(profile), err, len(open.rtp))
		}
	}
}

func TestSourcesAreBounded(t *testing.T) {
	everyProfile(t, func(t *testing.T, seal *sealer, open *opener, theirs, _ *srtp.Context) {
		report := func(ssrc uint32) error {
			b, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: ssrc}})
			must(t, err)
			b, err = theirs.EncryptRTCP(nil, b, nil)
			must(t, err)
			_, err = open.openRTCP(b)
			return err
		}
		for i := range maxProtected / 2 {
			if _, err := open.open(sealed(t, seal, uint32(i), 7)); err != nil {
				t.Fatalf("source %d: %v", i, err)
			}
			if err := report(uint32(i)); err != nil {
				t.Fatalf("source %d of RTCP: %v", i, err)
			}
		}
		if _, err := open.open(sealed(t, seal, 1<<20, 7)); !errors.Is(err, errSources) || !errors.Is(err, ErrLimit) {
			t.Errorf("one source more: %v", err)
		}
		if err := report(1 << 20); !errors.Is(err, errSources) {
			t.Errorf("one source of RTCP more: %v", err)
		}
		if _, err := open.open(sealed(t, seal, 5, 8)); err != nil {
			t.Errorf("a source that is known: %v", err)
		}
		if err := report(5); err != nil {
			t.Errorf("a source of RTCP that is known: %v", err)
		}
	})
}

func TestRTCPIsOpened(t *testing.T) {
	everyProfile(t, func(t *testing.T, _ *sealer, open *opener, theirs, _ *srtp.Context) {
		plain, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: 2}}},
			&rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: 2}})
		must(t, err)
		packet, err := theirs.EncryptRTCP(nil, plain, nil)
		must(t, err)
		for bit := range 8 * len(packet) {
			forged := bytes.Clone(packet)
			forged[bit/8] ^= 1 << (bit % 8)
			if _, err := open.openRTCP(forged); err == nil {
				t.Fatalf("bit %d is another: opened", bit)
			}
		}
		for n := range packet {
			if _, err := open.openRTCP(bytes.Clone(packet[:n])); err == nil {
				t.Fatalf("opened the first %d of %d bytes", n, len(packet))
			}
		}
		if len(open.rtcp) != 0 {
			t.Errorf("forgeries left %d sources", len(open.rtcp))
		}
		if got, err := open.openRTCP(bytes.Clone(packet)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("opened to %x: %v", got, err)
		}
		if _, err := open.openRTCP(bytes.Clone(packet)); err == nil {
			t.Error("taken twice")
		}
	})
}

// TestKeyDerivation is RFC 3711 appendix B.3.
func TestKeyDerivation(t *testing.T) {
	m := masterKeys{key: unhex(t, "E1F97A0D3E018BE0D64FA32C06DE4139"), salt: unhex(t, "0EC675AD498AFEEBB6960B3AABE6")}
	for label, want := range map[byte]string{
		0: "C61E7A93744F39EE10734AFE3FF7A087",
		1: "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF72270986371C10C9A369AC2" +
			"F94A8C5FBCDDDC256D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2DC68",
		2: "30CBBC08863D8C85D49DB34A9AE1",
	} {
		got, err := deriveKey(m, label, len(want)/2)
		if err != nil || !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("label %d: %x, %v; want %s", label, got, err, want)
		}
	}
}

// TestVectorsOfRFC7714 are those of its sections 16.1 and 17.1, which give the session keys.
func TestVectorsOfRFC7714(t *testing.T) {
	const plain = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573"
	for key, want := range map[string]string{
		"000102030405060708090a0b0c0d0e0f": "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f " +
			"42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f": "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa " +
			"332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
	} {
		block, err := aes.NewCipher(unhex(t, key))
		must(t, err)
		aead, err := cipher.NewGCM(block)
		must(t, err)
		keys := &gcmKeys{aead: aead}
		copy(keys.salt[:], unhex(t, "517569642070726f2071756f"))
		b := append(make([]byte, 0, 100), unhex(t, plain)...)
		got, err := (&sealer{gcm: keys, rtp: map[uint32]*rollover{}}).seal(b, 12)
		must(t, err)
		if !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("key of %d bytes: %x, want %s", len(key)/2, got, want)
		}
		opened, err := (&opener{gcm: keys, rtp: map[uint32]*replay{}}).open(got)
		if err != nil || !bytes.Equal(opened, unhex(t, plain)) {
			t.Errorf("key of %d bytes: opened to %x, %v", len(key)/2, opened, err)
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestIndexesEnd: RFC 3711 section 9.2: at most 2⁴⁸ packets under one key.
func TestIndexesEnd(t *testing.T) {
	seal, err := newSealer(dtls.SRTP_AEAD_AES_128_GCM, testKeys(dtls.SRTP_AEAD_AES_128_GCM, 1))
	must(t, err)
	seal.rtp[1] = &rollover{highest: maxIndex - 2, begun: true}
	sealed(t, seal, 1, 65535)
	b, header := plainRTP(1, 0)
	if _, err := seal.seal(b, header); !errors.Is(err, errExhausted) {
		t.Errorf("packet 2⁴⁸: %v", err)
	}
}

func TestSRTPMakesNoGarbage(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, profile := range srtpProfiles {
		seal, err := newSealer(profile, testKeys(profile, 1))
		must(t, err)
		open, err := newOpener(profile, testKeys(profile, 1))
		must(t, err)
		b, sequence := make([]byte, 1200, maxSegment), uint16(0)
		b[0] = 0x80
		if n := testing.AllocsPerRun(1000, func() {
			sequence++
			b[11] = byte(sequence) % 3 // three sources
			binary.BigEndian.PutUint16(b[2:], sequence)
			out, err := seal.seal(b[:1200], 12)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := open.open(out); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for a packet sealed and opened", profileName(profile), n)
		}
	}
}

// FuzzOpen: whatever comes neither panics nor is taken for authentic, and leaves no state.
func FuzzOpen(f *testing.F) {
	for _, sequence := range []uint16{0, 6, 30, 65535} {
		b, _ := plainRTP(1, sequence)
		f.Add(append(b, make([]byte, 16)...))
	}
	f.Add([]byte{0x9f, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0x80, 201, 0, 1, 0, 0, 0, 1, 0x80, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, profile := range srtpProfiles {
			seal, err := newSealer(profile, testKeys(profile, 1))
			must(t, err)
			open, err := newOpener(profile, testKeys(profile, 1))
			must(t, err)
			for _, known := range []bool{false, true} {
				if got, err := open.open(bytes.Clone(b)); err == nil {
					t.Fatalf("%s: opened to %x", profileName(profile), got)
				}
				if got, err := open.openRTCP(bytes.Clone(b)); err == nil {
					t.Fatalf("%s: opened as RTCP to %x", profileName(profile), got)
				}
				if len(open.rtcp) != 0 || (len(open.rtp) == 1) != known {
					t.Fatalf("%s: sources of RTP %d, of RTCP %d", profileName(profile), len(open.rtp), len(open.rtcp))
				}
				if !known {
					if _, err := open.open(sealed(t, seal, 1, 5)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, profile := range srtpProfiles {
		b.Run(profileName(profile), func(b *testing.B) {
			seal, err := newSealer(profile, testKeys(profile, 1))
			if err != nil {
				b.Fatal(err)
			}
			packet, sequence := make([]byte, 1200, maxSegment), uint16(0)
			packet[0] = 0x80
			b.SetBytes(1200)
			b.ReportAllocs()
			for b.Loop() {
				sequence++
				binary.BigEndian.PutUint16(packet[2:], sequence)
				if _, err := seal.seal(packet[:1200], 12); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, profile := range srtpProfiles {
		b.Run(profileName(profile), func(b *testing.B) {
			seal, err := newSealer(profile, testKeys(profile, 1))
			if err != nil {
				b.Fatal(err)
			}
			open, err := newOpener(profile, testKeys(profile, 1))
			if err != nil {
				b.Fatal(err)
			}
			packets := make([][]byte, 512)
			sequence := uint16(0)
			b.SetBytes(1200)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				at := i % len(packets)
				if at == 0 {
					b.StopTimer()
					for j := range packets {
						sequence++
						packets[j] = append(packets[j][:0], make([]byte, 1200)...)
						packets[j][0] = 0x80
						binary.BigEndian.PutUint16(packets[j][2:], sequence)
						if packets[j], err = seal.seal(packets[j], 12); err != nil {
							b.Fatal(err)
						}
					}
					b.StartTimer()
				}
				if _, err := open.open(packets[at]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
