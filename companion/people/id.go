package people

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// NewID returns prefix and 16 random base62 characters (95 bits).
func NewID(prefix string) string {
	id := make([]byte, 0, len(prefix)+16)
	id = append(id, prefix...)
	var b [32]byte
	for len(id) < len(prefix)+16 {
		rand.Read(b[:])
		for _, v := range b {
			// 248 = 4·62: above it a remainder would favour the first characters.
			if v < 248 && len(id) < len(prefix)+16 {
				id = append(id, base62[v%62])
			}
		}
	}
	return string(id)
}

// ValidID reports whether s is prefix and 16 base62 characters.
func ValidID(prefix, s string) bool {
	if len(s) != len(prefix)+16 || s[:len(prefix)] != prefix {
		return false
	}
	for _, c := range []byte(s[len(prefix):]) {
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z') {
			return false
		}
	}
	return true
}

// A secret is 256 random bits, written as 43 characters of base64url. It proves a
// session, an invitation or the set-up link; the store keeps only its hash.
const secretBytes = 32

// NewSecret returns a new secret.
func NewSecret() string {
	var b [secretBytes]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ErrSecret is returned for text that can't be a secret.
var ErrSecret = errors.New("not a secret")

// HashSecret returns what the store keeps of a secret: SHA-256 of its bits, in
// hex. A fast hash will do, for 256 random bits can't be guessed. Text that is
// not exactly what NewSecret writes gives ErrSecret.
func HashSecret(secret string) (string, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	// The decoder skips line breaks: only one spelling of a secret is taken.
	if err != nil || len(b) != secretBytes || len(secret) != 43 {
		return "", ErrSecret
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
