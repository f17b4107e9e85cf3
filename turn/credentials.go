package turn

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pion/stun/v4"
	pion "github.com/pion/turn/v5"
)

// maxIdentity is the longest identity that a username may carry, in bytes.
const maxIdentity = 256

// Credentials makes a username and password that open allocations for identity until now+ttl.
// An allocation made by then can be refreshed afterwards too, so that a call may outlast its
// credentials (up to [Limits].AllocationAge). identity is what quotas count by: at most 256 bytes
// without control characters; it may contain colons.
//
// Their form is that of draft-uberti-behave-turn-rest-00, which other TURN servers know too:
// the username is "expiry:identity" with the expiry in Unix seconds, the password the base64 of
// its HMAC-SHA1 under the shared secret.
func Credentials(secret, identity string, now time.Time, ttl time.Duration) (username, password string) {
	username = strconv.FormatInt(now.Add(ttl).Unix(), 10) + ":" + identity
	return username, passwordOf(secret, username)
}

func passwordOf(secret, username string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// parseUsername splits "expiry:identity". It refuses whatever [Credentials] wouldn't make.
func parseUsername(username string) (expiry time.Time, identity string, ok bool) {
	seconds, identity, found := strings.Cut(username, ":")
	if !found || identity == "" || len(identity) > maxIdentity || len(seconds) > 12 {
		return time.Time{}, "", false
	}
	if strings.ContainsFunc(identity, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return time.Time{}, "", false
	}
	unix, err := strconv.ParseUint(seconds, 10, 40)
	if err != nil || strconv.FormatUint(unix, 10) != seconds {
		return time.Time{}, "", false
	}
	return time.Unix(int64(unix), 0), identity, true
}

// authenticate is Pion's AuthHandler: it returns the key that the request must be signed with.
//
// The user id it returns reaches the quota check and the relay's making, and is compared at each
// later request on the allocation; it carries the client's address too, which those don't get
// otherwise.
func (s *Server) authenticate(r *pion.RequestAttributes) (userID string, key []byte, ok bool) {
	expiry, identity, ok := parseUsername(r.Username)
	if !ok || r.Realm != s.realm {
		s.stats.refusedCredentials.Add(1)
		return "", nil, false
	}
	// Only Allocate opens something. The other requests work on an allocation of the same user
	// and address, which may outlive the credentials, though not its own age.
	if r.Method != stun.MethodAllocate {
		expiry = expiry.Add(s.limits.AllocationAge)
	}
	if !s.now().Before(expiry) {
		s.stats.refusedCredentials.Add(1)
		return "", nil, false
	}
	key = pion.GenerateAuthKey(r.Username, r.Realm, passwordOf(s.secret, r.Username))
	return client{identity, addrPort(r.SrcAddr)}.userID(), key, true
}

// client is who an allocation belongs to.
type client struct {
	identity string
	from     netip.AddrPort
}

// userID is client as one text; an identity contains no control character.
func (c client) userID() string { return c.identity + "\x00" + c.from.String() }

func parseUserID(userID string) (client, bool) {
	identity, from, found := strings.Cut(userID, "\x00")
	if !found {
		return client{}, false
	}
	address, err := netip.ParseAddrPort(from)
	return client{identity, address}, err == nil
}
