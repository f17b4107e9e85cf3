package sfu

import "testing"

func TestWearsOut(t *testing.T) {
	for origin, want := range map[string]bool{
		"o=- 6432 1763818912 IN IP4 0.0.0.0":                     true,  // Pion
		"o=- 4858251974351650128 2 IN IP4 127.0.0.1":             false, // libwebrtc
		"o=mozilla...THIS_IS_SDPARTA-99.0 2936 0 IN IP4 0.0.0.0": false, // Firefox
		"o=rtc 1936 0 IN IP4 127.0.0.1":                          false, // libdatachannel
		"s=o=- 1 1 IN IP4 0.0.0.0":                               false,
		"o=- 0.0.0.0":                                            false,
		"":                                                       false,
	} {
		if got := wearsOut("v=0\r\n" + origin + "\r\ns=-\r\n"); got != want {
			t.Errorf("%q: %v", origin, got)
		}
	}
}
