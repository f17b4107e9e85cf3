package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// keys are the secrets a server makes for itself at its first start. They stay in the data
// folder, readable by its owner alone.
type keys struct {
	// APIKey names the key that room tokens are signed with; APISecret signs them.
	APIKey    string `json:"apiKey"`
	APISecret string `json:"apiSecret"`
	// TURNSecret makes TURN credentials.
	TURNSecret string `json:"turnSecret"`
}

// loadKeys reads the file, or makes it with fresh keys when there is none.
func loadKeys(file string) (keys, error) {
	var k keys
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeKeys(file)
	case err != nil:
		return k, fmt.Errorf("reading the keys: %w", err)
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return k, fmt.Errorf("reading the keys: %s: %w", file, err)
	}
	if k.APIKey == "" || len(k.APISecret) < 32 || len(k.TURNSecret) < 32 {
		return k, fmt.Errorf("%s lacks a key, or has one shorter than 32 characters: restore it from a backup, or move it away to have new ones made (which signs every room token anew)", file)
	}
	return k, nil
}

func makeKeys(file string) (keys, error) {
	k := keys{APIKey: "API" + rand.Text()[:13], APISecret: secret(), TURNSecret: secret()}
	text, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return k, err
	}
	// Exclusive, so that two servers started at once on one folder don't each keep their own.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return k, fmt.Errorf("keeping the keys: %w", err)
	}
	if _, err = f.Write(append(text, '\n')); err == nil {
		err = f.Sync()
	}
	return k, errors.Join(err, f.Close())
}

// secret is 256 random bits.
func secret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
