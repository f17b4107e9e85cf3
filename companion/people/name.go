package people

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// Lengths of a name, in characters (code points) of its canonical form.
const (
	MinName = 2
	MaxName = 32
)

// maxNameInput bounds, in bytes, what is looked at at all.
const maxNameInput = 512

// Name is a valid name in its canonical form: what is stored, shown after an @,
// and compared. The zero Name is no name.
type Name struct{ canonical string }

func (n Name) String() string { return n.canonical }

// Skeleton returns what the name looks like; see Skeleton.
func (n Name) Skeleton() string { return Skeleton(n.canonical) }

// ParseName reads a name as someone typed it, with or without a leading @. The
// canonical form is NFKC, case-folded, and then what the PRECIS profile
// UsernameCaseMapped (RFC 8265, section 3.3) makes of it. Of what that profile
// admits a name has only letters with their marks, digits, and . _ - between
// them, in one script (with the exceptions of UTS 39's "highly restrictive"
// level), and not only digits.
//
// Every error is a *Refusal: name_too_short, name_too_long, name_confusable (of
// mixed scripts) or name_invalid. Whether a name is reserved is asked with
// Reserved: reserved names can be looked up, but nobody gets one.
func ParseName(input string) (Name, error) {
	if len(input) > maxNameInput {
		return Name{}, errTooLong()
	}
	if !utf8.ValidString(input) {
		return Name{}, refuse("name_invalid", "This name has bytes that are not text. Please type it again.")
	}
	s := strings.TrimPrefix(strings.TrimSpace(input), "@")
	if utf8.RuneCountInString(s) < MinName {
		return Name{}, errTooShort()
	}
	canonical, err := canonicalName(s)
	if err != nil {
		if n := utf8.RuneCountInString(s); n > MaxName {
			return Name{}, errTooLong()
		}
		return Name{}, errCharacters()
	}
	switch n := utf8.RuneCountInString(canonical); {
	case n < MinName:
		return Name{}, errTooShort()
	case n > MaxName:
		return Name{}, errTooLong()
	}
	if err := checkCharacters(canonical); err != nil {
		return Name{}, err
	}
	if err := checkScripts(canonical); err != nil {
		return Name{}, err
	}
	return Name{canonical}, nil
}

func errTooShort() *Refusal {
	return refuse("name_too_short", "This name is too short: a name has at least %d characters.", MinName)
}

func errTooLong() *Refusal {
	return refuse("name_too_long", "This name is too long: a name has at most %d characters.", MaxName)
}

func errCharacters() *Refusal {
	return refuse("name_invalid", "A name can have letters and digits, and . _ - between them, but no spaces or other signs.")
}

// ErrTaken says that a name is someone else's.
func ErrTaken(n Name) *Refusal {
	return refuse("name_taken", "The name @%s is taken. Please choose another.", n)
}

// ErrConfusable says that a name looks like someone else's.
func ErrConfusable(n Name) *Refusal {
	return refuse("name_confusable", "The name @%s looks too much like one that is taken. Please choose another.", n)
}

// ErrReserved says that a name is nobody's to have.
func ErrReserved(n Name) *Refusal {
	return refuse("name_reserved", "The name @%s is reserved. Please choose another.", n)
}

// canonicalName applies the rules again until nothing changes, as RFC 8264,
// section 7, asks: a name must be its own canonical form, or it couldn't be typed
// back. What hasn't settled after maxRounds is refused.
func canonicalName(s string) (string, error) {
	for range maxRounds {
		folded := norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s)))
		// Folding makes of the Turkish capital İ an i with a dot above its own dot.
		mapped, err := precis.UsernameCaseMapped.String(strings.ReplaceAll(folded, "i\u0307", "i"))
		if err != nil {
			return "", err
		}
		if mapped == s {
			return s, nil
		}
		s = mapped
	}
	return "", errCharacters()
}

// maxRounds bounds the rounds of canonicalName. Written names settle in two; each
// of the marks that a letter may have can cost one more.
const maxRounds = 4 + maxMarks

// maxMarks is how many combining marks may follow one letter: what written
// languages need, and not a heap that covers the lines around it.
const maxMarks = 2

func checkCharacters(name string) error {
	letters, marks := 0, 0
	separated := true // at the start, and after . _ -
	for _, r := range name {
		switch {
		case isSeparator(r):
			if separated {
				return refuse("name_invalid", "In a name, each . _ - stands between two letters or digits.")
			}
			separated, marks = true, 0
			continue
		case unicode.IsMark(r):
			marks++
			if separated || marks > maxMarks || blank[r] {
				return refuse("name_invalid", "This name has accents or marks without a letter, or too many on one.")
			}
			continue
		case unicode.IsLetter(r):
			if blank[r] || odd(r) {
				return refuse("name_invalid", "This name has the sign %q, which is not a letter of a living alphabet.", r)
			}
			letters++
		case unicode.Is(unicode.Nd, r):
		default:
			return errCharacters()
		}
		separated, marks = false, 0
	}
	if separated {
		return refuse("name_invalid", "In a name, each . _ - stands between two letters or digits.")
	}
	if letters == 0 {
		return refuse("name_invalid", "A name needs at least one letter.")
	}
	return nil
}

func isSeparator(r rune) bool { return r == '.' || r == '_' || r == '-' }

// blank are letters and marks that show nothing: Hangul fillers, the combining
// grapheme joiner, Khmer inherent vowels, variation selectors of Mongolian.
var blank = map[rune]bool{
	0x034F: true, 0x115F: true, 0x1160: true, 0x17B4: true, 0x17B5: true,
	0x180B: true, 0x180C: true, 0x180D: true, 0x180F: true, 0x3164: true, 0xFFA0: true,
}

// odd reports whether r is a Latin letter made for phonetics, old manuscripts or
// the like: hardly anyone's name, and full of look-alikes.
func odd(r rune) bool {
	if !unicode.Is(unicode.Latin, r) {
		return false
	}
	switch {
	case r >= 0x01C0 && r <= 0x01C3: // clicks: | and !
		return true
	case r < 0x0250, r >= 0x1E00 && r <= 0x1EFF:
		return false
	}
	// Phonetic letters that living African orthographies took up.
	return !strings.ContainsRune("ɓɖɗɛəɔɣɠɨɩɲʊʋʌʔ", r)
}

// scripts are those in common modern use: UAX 31, table 5, "recommended scripts".
var scripts = []struct {
	name  string
	table *unicode.RangeTable
}{
	{"Latin", unicode.Latin}, {"Cyrillic", unicode.Cyrillic}, {"Greek", unicode.Greek},
	{"Han", unicode.Han}, {"Hiragana", unicode.Hiragana}, {"Katakana", unicode.Katakana},
	{"Hangul", unicode.Hangul}, {"Bopomofo", unicode.Bopomofo},
	{"Arabic", unicode.Arabic}, {"Hebrew", unicode.Hebrew}, {"Armenian", unicode.Armenian},
	{"Georgian", unicode.Georgian}, {"Devanagari", unicode.Devanagari}, {"Bengali", unicode.Bengali},
	{"Gujarati", unicode.Gujarati}, {"Gurmukhi", unicode.Gurmukhi}, {"Kannada", unicode.Kannada},
	{"Malayalam", unicode.Malayalam}, {"Oriya", unicode.Oriya}, {"Sinhala", unicode.Sinhala},
	{"Tamil", unicode.Tamil}, {"Telugu", unicode.Telugu}, {"Thai", unicode.Thai}, {"Lao", unicode.Lao},
	{"Khmer", unicode.Khmer}, {"Myanmar", unicode.Myanmar}, {"Tibetan", unicode.Tibetan},
	{"Ethiopic", unicode.Ethiopic}, {"Thaana", unicode.Thaana},
}

// together are the sets of scripts that one name may mix: UTS 39, section 5.2,
// level "highly restrictive".
var together = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
}

// checkScripts refuses scripts that don't belong together and digits of two
// systems, as UTS 39 (sections 5.1 and 5.3) asks.
func checkScripts(name string) error {
	var used []string
	zero := rune(-1) // the zero of the digits used
	for _, r := range name {
		if unicode.Is(unicode.Nd, r) {
			z := zeroOf(r)
			if zero >= 0 && zero != z {
				return refuse("name_confusable", "This name mixes digits of two writing systems. Please use one.")
			}
			zero = z
		}
		if unicode.Is(unicode.Common, r) || unicode.Is(unicode.Inherited, r) {
			continue
		}
		script := scriptOf(r)
		if script == "" {
			return refuse("name_invalid", "This name has the letter %q of a script that names here don't use.", r)
		}
		if !slices.Contains(used, script) {
			used = append(used, script)
		}
	}
	// The Arabic digits belong to no script of their own; the others do.
	if (zero == '٠' || zero == '۰') && (len(used) != 1 || used[0] != "Arabic") {
		return refuse("name_confusable", "This name mixes digits of two writing systems. Please use one.")
	}
	if len(used) < 2 {
		return nil
	}
	for _, set := range together {
		if within(used, set) {
			return nil
		}
	}
	return refuse("name_confusable",
		"This name mixes %s and %s letters, which can look alike. Please use one alphabet.", used[0], used[1])
}

func scriptOf(r rune) string {
	for _, s := range scripts {
		if unicode.Is(s.table, r) {
			return s.name
		}
	}
	return ""
}

// zeroOf returns the zero of a decimal digit's system. Unicode encodes the ten
// digits of a system in a row, so each range of Nd is one or more whole systems.
func zeroOf(digit rune) rune {
	for _, in := range unicode.Nd.R16 {
		if lo := rune(in.Lo); digit >= lo && digit <= rune(in.Hi) {
			return lo + (digit-lo)/10*10
		}
	}
	for _, in := range unicode.Nd.R32 {
		if lo := rune(in.Lo); digit >= lo && digit <= rune(in.Hi) {
			return lo + (digit-lo)/10*10
		}
	}
	return digit
}

// within reports whether list has nothing that set has not.
func within(list, set []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !slices.Contains(set, s) })
}
