package people

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxDisplayName is the most characters (code points) of a display name or of a
// device's name.
const MaxDisplayName = 64

// ParseDisplayName reads a display name: any writing and emoji on one line. It is
// never unique and proves nothing, so @name always stands beside it, and it can't
// begin with an @ itself.
//
// Every error is a *Refusal with code display_name_invalid.
func ParseDisplayName(input string) (string, error) {
	const code = "display_name_invalid"
	s, err := oneLine(input)
	switch {
	case err != nil:
		return "", refuse(code, "This display name has signs that can't be shown. Please leave them out.")
	case s == "":
		return "", refuse(code, "A display name needs at least one character that can be seen.")
	case utf8.RuneCountInString(s) > MaxDisplayName:
		return "", refuse(code, "This display name is too long: it can have %d characters.", MaxDisplayName)
	case strings.HasPrefix(norm.NFKC.String(s), "@"):
		return "", refuse(code, "A display name can't begin with @, for that marks the name itself.")
	}
	return s, nil
}

// ParseDeviceName reads the name of a device; "" gives fallback. Every error is a
// *Refusal with code device_name_invalid.
func ParseDeviceName(input, fallback string) (string, error) {
	s, err := oneLine(input)
	if err != nil || utf8.RuneCountInString(s) > MaxDisplayName {
		return "", refuse("device_name_invalid", "This device name can't be used: it can have %d characters that can be seen.", MaxDisplayName)
	}
	if s == "" {
		return fallback, nil
	}
	return s, nil
}

// oneLine returns text in NFC with single spaces. It refuses control characters,
// text direction overrides, unassigned code points and heaps of marks. What shows
// nothing at all comes back as "".
func oneLine(input string) (string, error) {
	if len(input) > 8*MaxDisplayName || !utf8.ValidString(input) {
		return "", errNotShown
	}
	s := strings.Join(strings.Fields(norm.NFC.String(input)), " ")
	marks, visible := 0, false
	for _, r := range s {
		switch {
		case unicode.IsMark(r):
			if marks++; marks > 4 {
				return "", errNotShown
			}
			continue
		case r == ' ', r == '\u200c', r == '\u200d': // joiners: Persian, Indic scripts, emoji
		case r >= 0xE0020 && r <= 0xE007F: // tags: the flags of Scotland, Texas, …
		case blank[r], r == '\u2800', !unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S):
			return "", errNotShown
		default:
			visible = true
		}
		marks = 0
	}
	if !visible {
		return "", nil
	}
	return s, nil
}

var errNotShown = refuse("invalid", "This text has signs that can't be shown.")

// ParseKind reads a device's kind: browser, app, watch or another short word; ""
// is browser. Every error is a *Refusal with code device_kind_invalid.
func ParseKind(s string) (string, error) {
	if s == "" {
		return "browser", nil
	}
	ok := len(s) <= 20
	for _, c := range []byte(s) {
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-')
	}
	if !ok {
		return "", refuse("device_kind_invalid", "A device's kind is one word such as browser, app or watch.")
	}
	return s, nil
}
