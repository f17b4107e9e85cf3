package wire

import (
	"fmt"
	"strconv"
)

// VoicesAttribute is the participant attribute that says how many microphones it takes at a time, in rooms of so many that only
// the loudest are forwarded: "1" to "16". Without it, it takes all that the room forwards.
const VoicesAttribute = "anytime.voices"

// MaxVoices is the most that the attribute may say.
const MaxVoices = 16

// Voices reads the attribute; n is 0 without one.
func Voices(attributes map[string]string) (n int, err error) {
	text := attributes[VoicesAttribute]
	if text == "" {
		return 0, nil
	}
	n, err = strconv.Atoi(text)
	if err != nil || n < 1 || n > MaxVoices || strconv.Itoa(n) != text {
		return 0, fmt.Errorf("the attribute %s is %.20q: expected a number from 1 to %d", VoicesAttribute, text, MaxVoices)
	}
	return n, nil
}
