package people

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"
)

// Lengths of a password in bytes, in the form that is hashed.
const (
	MinPassword = 8
	MaxPassword = 256
)

// ParsePassword reads a new password for the name. The form that is hashed is what
// the PRECIS profile OpaqueString (RFC 8265, section 4.2) makes of it, so that a
// password typed on another keyboard is the same one.
//
// Every error is a *Refusal: password_too_short, password_too_long,
// password_common or password_invalid.
func ParsePassword(input string, name Name) (string, error) {
	if len(input) > 4*MaxPassword {
		return "", errLongPassword()
	}
	if input == "" {
		return "", errShortPassword()
	}
	p, err := precis.OpaqueString.String(input)
	if err != nil || !utf8.ValidString(input) {
		return "", refuse("password_invalid", "This password has signs that can't be typed everywhere, such as line breaks. Please leave them out.")
	}
	switch {
	case len(p) < MinPassword:
		return "", errShortPassword()
	case len(p) > MaxPassword:
		return "", errLongPassword()
	case guessable(p, name):
		return "", refuse("password_common", "This password is one of the first that anyone would try. Please choose another, such as four unrelated words.")
	}
	return p, nil
}

func errShortPassword() *Refusal {
	return refuse("password_too_short", "This password is too short: it needs at least %d characters.", MinPassword)
}

func errLongPassword() *Refusal {
	return refuse("password_too_long", "This password is too long: it can have %d bytes.", MaxPassword)
}

// TypedPassword returns a password as it is hashed, to be compared. What could
// never have been a password is returned as it is: it will match none.
func TypedPassword(input string) string {
	if len(input) > 4*MaxPassword {
		return ""
	}
	if p, err := precis.OpaqueString.String(input); err == nil {
		return p
	}
	return input
}

func guessable(password string, name Name) bool {
	p := strings.ToLower(password)
	word := strings.TrimRight(p, "0123456789!.?*$#")
	if n := name.String(); n != "" && (p == n || word == n || p == n+n) {
		return true
	}
	if common[p] || common[word] && len(p)-len(word) <= 4 {
		return true
	}
	// One sign or a pair over and over, and runs such as 12345678 or abcdefgh.
	period, run := true, true
	for i := 1; i < len(p); i++ {
		period = period && (i < 2 || p[i] == p[i-2])
		run = run && (int(p[i])-int(p[i-1]) == int(p[1])-int(p[0])) && abs(int(p[1])-int(p[0])) <= 1
	}
	return period || run
}

func abs(i int) int { return max(i, -i) }

var common = func() map[string]bool {
	m := make(map[string]bool)
	for word := range strings.FieldsSeq(`
		password passw0rd p@ssw0rd p@ssword passwort password123 pass1234 iloveyou iloveu princess sunshine
		football baseball basketball superman batman trustno1 letmein welcome welcome1 monkey dragon
		master shadow qwerty qwertyui qwertyuiop qwerty123 qwertz qwertzuiop azerty azertyuiop asdfghjk asdfghjkl
		asdfasdf zxcvbnm zxcvbnm1 1q2w3e4r 1q2w3e4r5t 1qaz2wsx q1w2e3r4 q1w2e3r4t5 zaq12wsx qazwsxedc
		1234qwer abcd1234 abc12345 a1b2c3d4 aa123456 11223344 12341234 123123123 123321123 1234567890
		0987654321 87654321 00000000 changeme default administrator admin123 adminadmin anytime
		computer internet samsung whatever starwars pokemon michael jennifer jordan23 michelle
		charlie1 liverpool chelsea arsenal barcelona manchester hello123 hellohello secret123
		mypassword nothing1 testtest test1234 freedom1 corvette mercedes ferrari harley`) {
		m[word] = true
	}
	return m
}()

// Argon2 are the costs of one password hash (RFC 9106).
type Argon2 struct {
	Time    uint32 // passes over the memory
	Memory  uint32 // KiB
	Threads uint8
}

// DefaultArgon2 costs about 60 ms of one core and 48 MiB: OWASP's first choice
// (46 MiB, one pass), rounded up, with a second pass.
var DefaultArgon2 = Argon2{Time: 2, Memory: 48 << 10, Threads: 1}

const (
	saltBytes = 16
	hashBytes = 32
)

// ErrBusy is returned when too many passwords are being hashed already.
var ErrBusy = errors.New("too many passwords are being checked at once")

// Passwords hashes passwords, few at a time: a flood of sign-ins waits its turn or
// is sent away, and memory stays within slots × Memory.
type Passwords struct {
	cost    Argon2
	slots   chan struct{} // full = no more at once
	waiting chan struct{} // full = no more in line
	dummy   func() string // a hash that no password matches, at the present cost
}

// NewPasswords returns a hasher that works on slots passwords at once and lets
// waiting more stand in line.
func NewPasswords(cost Argon2, slots, waiting int) *Passwords {
	return &Passwords{
		cost: cost, slots: make(chan struct{}, slots), waiting: make(chan struct{}, slots+waiting),
		dummy: sync.OnceValue(func() string {
			var salt [saltBytes]byte
			var sum [hashBytes]byte
			rand.Read(salt[:])
			rand.Read(sum[:])
			return phc(cost, salt[:], sum[:])
		}),
	}
}

// enter waits for a slot; the caller calls leave when done.
func (p *Passwords) enter(ctx context.Context) (leave func(), err error) {
	select {
	case p.waiting <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots; <-p.waiting }, nil
	case <-ctx.Done():
		<-p.waiting
		return nil, ctx.Err()
	}
}

// Hash returns the PHC string of a password, with a salt of its own. It fails with
// ErrBusy or the context's error.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	leave, err := p.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	var salt [saltBytes]byte
	rand.Read(salt[:])
	return phc(p.cost, salt[:], p.cost.key(password, salt[:], hashBytes)), nil
}

// Verify reports whether the password is that of the PHC string, and whether the
// string was made at another cost and should be made anew. An empty string stands
// for an account that isn't there: it takes as long, and matches nothing.
func (p *Passwords) Verify(ctx context.Context, stored, password string) (ok, outdated bool, err error) {
	real := stored != ""
	if !real {
		stored = p.dummy()
	}
	cost, salt, sum, err := parsePHC(stored)
	if err != nil {
		return false, false, err
	}
	leave, err := p.enter(ctx)
	if err != nil {
		return false, false, err
	}
	defer leave()
	same := subtle.ConstantTimeCompare(cost.key(password, salt, uint32(len(sum))), sum) == 1
	return same && real, cost != p.cost, nil
}

func (a Argon2) key(password string, salt []byte, n uint32) []byte {
	return argon2.IDKey([]byte(password), salt, a.Time, a.Memory, a.Threads, n)
}

// phc writes $argon2id$v=19$m=…,t=…,p=…$salt$hash, the string format of the
// password hashing competition.
func phc(a Argon2, salt, sum []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		a.Memory, a.Time, a.Threads, b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// Bounds of a stored hash's costs: what a damaged row may make us spend.
const (
	maxMemory = 1 << 20 // KiB
	maxTime   = 32
)

var errPHC = errors.New("the stored password hash can't be read")

func parsePHC(s string) (a Argon2, salt, sum []byte, err error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return a, nil, nil, errPHC
	}
	costs := strings.Split(f[3], ",")
	if len(costs) != 3 {
		return a, nil, nil, errPHC
	}
	var v [3]uint64
	for i, key := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(costs[i], key)
		if v[i], err = strconv.ParseUint(digits, 10, 32); !ok || err != nil {
			return a, nil, nil, errPHC
		}
	}
	a = Argon2{Memory: uint32(v[0]), Time: uint32(v[1]), Threads: uint8(v[2])}
	if v[0] > maxMemory || v[1] < 1 || v[1] > maxTime || v[2] < 1 || v[2] > 255 || v[0] < 8*v[2] {
		return a, nil, nil, errPHC
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, err1 := b64.DecodeString(f[4])
	sum, err2 := b64.DecodeString(f[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 64 {
		return a, nil, nil, errPHC
	}
	return a, salt, sum, nil
}
