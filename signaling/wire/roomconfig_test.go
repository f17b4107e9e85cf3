package wire

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TestRoomConfigClaim: as the server SDKs write it, in either case, and back.
func TestRoomConfigClaim(t *testing.T) {
	now := time.Now()
	for name, claim := range map[string]any{
		"camel case": map[string]any{"name": "n", "emptyTimeout": 60, "departureTimeout": 5, "maxParticipants": 3, "metadata": "m",
			"agents": []any{map[string]any{"agentName": "a"}}, "later": true},
		"snake case": map[string]any{"empty_timeout": 60, "departure_timeout": 5, "max_participants": 3, "metadata": "m",
			"egress": map[string]any{"room": map[string]any{}}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
				"iss": key, "sub": "a", "exp": now.Add(time.Minute).Unix(), "roomConfig": claim,
			}).SignedString([]byte(secret))
			if err != nil {
				t.Fatal(err)
			}
			c, err := VerifyAt(text, keys, now)
			if err != nil {
				t.Fatal(err)
			}
			again, err := MintAt(key, secret, c, time.Minute, now)
			if err != nil {
				t.Fatal(err)
			}
			c2, err := VerifyAt(again, keys, now)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []*RoomConfiguration{c.Room, c2.Room} {
				if r.GetEmptyTimeout() != 60 || r.GetDepartureTimeout() != 5 || r.GetMaxParticipants() != 3 || r.GetMetadata() != "m" {
					t.Errorf("the claim says %v", r)
				}
			}
		})
	}
	plain, err := MintAt(key, secret, Claims{Identity: "a"}, time.Minute, now)
	if err != nil {
		t.Fatal(err)
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(plain, ".")[1])
	if err != nil || strings.Contains(string(body), "roomConfig") {
		t.Errorf("a token without room settings: %s, %v", body, err)
	}
	odd, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": key, "sub": "a", "exp": now.Add(time.Minute).Unix(), "roomConfig": map[string]any{"emptyTimeout": "soon"},
	}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyAt(odd, keys, now); err == nil {
		t.Error("odd room settings are taken")
	}
}
