package people

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseName(t *testing.T) {
	for _, c := range []struct{ in, want, code string }{
		{"anna", "anna", ""},
		{" @Anna ", "anna", ""},
		{"ANNA_Lee-2.b", "anna_lee-2.b", ""},
		{"Ａｎｎａ", "anna", ""}, // full width: NFKC
		{"𝓐𝓷𝓷𝓪", "anna", ""}, // mathematical letters: NFKC
		{"Straße", "strasse", ""},
		{"İlker", "ilker", ""}, // Turkish dotted capital: no dot above the i's own
		{"Zoe\u0308", "zoë", ""},
		{"Åse", "åse", ""},
		{"Ångström", "ångström", ""}, // the ångström sign
		{"Мария", "мария", ""},
		{"ΣΊΣΥΦΟΣ", "σίσυφοσ", ""},
		{"σίσυφος", "σίσυφοσ", ""}, // final sigma folds
		{"山田太郎", "山田太郎", ""},
		{"やまだ", "やまだ", ""},
		{"yamada山田", "yamada山田", ""},
		{"김철수", "김철수", ""},
		{"محمد", "محمد", ""},
		{"محمد٢", "محمد٢", ""},
		{"नीता", "नीता", ""},
		{"สมชาย", "สมชาย", ""},
		{strings.Repeat("a", MaxName), strings.Repeat("a", MaxName), ""},
		{strings.Repeat("木", MaxName), strings.Repeat("木", MaxName), ""},

		{"", "", "name_too_short"},
		{"@", "", "name_too_short"},
		{"a", "", "name_too_short"},
		{"\u200b\u200b", "", "name_invalid"}, // zero width spaces
		{strings.Repeat("a", MaxName+1), "", "name_too_long"},
		{strings.Repeat("\ufefb", 20), "", "name_too_long"}, // a ligature: 40 under NFKC
		{"\ufdfa\ufdfa", "", "name_invalid"},                // a ligature of four words
		{strings.Repeat("a", 1<<20), "", "name_too_long"},

		{"an na", "", "name_invalid"},
		{"an\u00a0na", "", "name_invalid"},
		{"anna!", "", "name_invalid"},
		{"anna@home", "", "name_invalid"},
		{"@@anna", "", "name_invalid"},
		{"anna/../bob", "", "name_invalid"},
		{"<b>anna</b>", "", "name_invalid"},
		{"anna\x00", "", "name_invalid"},
		{"anna\n", "anna", ""}, // white space around it
		{"an\nna", "", "name_invalid"},
		{"ann\xff", "", "name_invalid"},
		{"\u202eanna", "", "name_invalid"}, // right-to-left override
		{"an\u200dna", "", "name_invalid"}, // zero width joiner
		{"an\u00adna", "", "name_invalid"}, // soft hyphen
		{"an\u2060na", "", "name_invalid"}, // word joiner
		{"anna\ufe0f", "", "name_invalid"}, // variation selector
		{"anna😀", "", "name_invalid"},
		{"anna\U000e0041", "", "name_invalid"}, // tag
		{"\uffff\uffff", "", "name_invalid"},
		{"-anna", "", "name_invalid"},
		{"anna.", "", "name_invalid"},
		{"an..na", "", "name_invalid"},
		{"an._na", "", "name_invalid"},
		{"...", "", "name_invalid"},
		{"12345", "", "name_invalid"},
		{"\u0301anna", "", "name_invalid"},
		{"z\u0335\u0336\u0337\u0338algo", "", "name_invalid"},
		{"anna\u3164", "", "name_invalid"}, // Hangul filler
		{"ㅤㅤ", "", "name_invalid"},
		{"annaǃ", "", "name_invalid"}, // the click, not the exclamation mark
		{"ᴀɴɴᴀ", "", "name_invalid"},  // small capitals
		{"ᚠᚢᚦ", "", "name_invalid"},   // runes
		{"ⲁⲛⲛⲁ", "", "name_invalid"},  // Coptic

		{"аnna", "", "name_confusable"}, // Cyrillic а
		{"annа", "", "name_confusable"},
		{"αnna", "", "name_confusable"},
		{"gооgle", "", "name_confusable"},
		{"anna٢", "", "name_invalid"},     // RFC 5893: no Arabic number in a left-to-right name
		{"محمد٢۲", "", "name_invalid"},    // RFC 5892, A.8: not both kinds of Arabic digits
		{"anna۲", "", "name_confusable"},  // Persian digit
		{"नीता२2", "", "name_confusable"}, // digits of two systems
		{"anna२", "", "name_confusable"},
		{"мариаπ", "", "name_confusable"},
		{"やまだ김", "", "name_confusable"},
	} {
		name, err := ParseName(c.in)
		var r *Refusal
		switch {
		case c.code == "" && err != nil:
			t.Errorf("%q is refused: %v", c.in, err)
		case c.code == "" && name.String() != c.want:
			t.Errorf("%q becomes %q, want %q", c.in, name, c.want)
		case c.code != "" && !errors.As(err, &r):
			t.Errorf("%q becomes %q, want %s", c.in, name, c.code)
		case c.code != "" && r.Code != c.code:
			t.Errorf("%q is refused as %s, want %s", c.in, r.Code, c.code)
		case c.code != "" && !strings.HasSuffix(r.Sentence, "."):
			t.Errorf("%q is refused with %q, which is no sentence", c.in, r.Sentence)
		}
	}
}

func TestSkeleton(t *testing.T) {
	alike := [][]string{
		{"paypal", "раураӏ", "paypa1"}, // Latin; all Cyrillic; a digit
		{"scope", "ѕсоре", "sc0pe"},
		{"ann.lee", "ann_lee", "ann-lee"},
		{"modern", "modem"},
		{"vvilliam", "william"},
		{"kavo", "κανο"},
		{"ono", "օոօ", "0n0"},
		{"ilker", "ılker"},
		{"一郎", "ー郎"},
		{"カ丸", "力丸"},
		{"علي", "علی", "على"},
		{"محمد2", "محمد٢", "محمد۲"},
	}
	for _, group := range alike {
		for _, name := range group[1:] {
			if Skeleton(name) != Skeleton(group[0]) {
				t.Errorf("%q looks like %q, but their skeletons are %q and %q", name, group[0], Skeleton(name), Skeleton(group[0]))
			}
		}
	}
	different := []string{"anna", "hanna", "änna", "ana", "annalee", "ann-lee", "bob", "b0bby", "мария", "марина", "lee", "le", "eve", "3ve"}
	seen := map[string]string{}
	for _, name := range different {
		s := Skeleton(name)
		if other, ok := seen[s]; ok {
			t.Errorf("%q and %q have one skeleton, %q", name, other, s)
		}
		seen[s] = name
	}
}

func TestReserved(t *testing.T) {
	for _, c := range []struct {
		name string
		want bool
	}{
		{"admin", true}, {"ADMIN", true}, {"adm1n", true}, {"4dm1n", true}, {"a-d-m-i-n", true}, {"ádmin", true},
		{"root", true}, {"r00t", true}, {"support", true}, {"supp0rt", true}, {"he1p", true}, {"helpdesk", true},
		{"anytime", true}, {"anyt1me", true}, {"anytime-team", true}, {"anytimesupport", true}, {"any.time", true},
		{"operator", true}, {"system", true}, {"everyone", true}, {"адмін", false}, {"webmaster", true},
		{"anna", false}, {"adminka", false}, {"timo", false}, {"rooty", false}, {"any", false},
	} {
		n, err := ParseName(c.name)
		if err != nil {
			t.Errorf("%q: %v", c.name, err)
			continue
		}
		if Reserved(n) != c.want {
			t.Errorf("Reserved(%q) = %v, want %v", c.name, !c.want, c.want)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"anna", "@Ａnna", "İi̇", "σίσυφος", "山田ー", "محمد٢", "a\u0301\u0301", "\ufdfa", "ﬃ", "Ⅷx", "ßß", "a.b_c-d", "नीता", "ᾼ", "ŉa", "ʼn", "ĳĳi̇̇"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		n, err := ParseName(in)
		if err != nil {
			var r *Refusal
			if !errors.As(err, &r) || r.Code == "" || r.Sentence == "" {
				t.Fatalf("%q is refused with %v", in, err)
			}
			return
		}
		s := n.String()
		if c := utf8.RuneCountInString(s); c < MinName || c > MaxName || !utf8.ValidString(s) {
			t.Fatalf("%q becomes %q", in, s)
		}
		// A canonical name is its own canonical form: it can be typed back.
		again, err := ParseName(s)
		if err != nil || again != n {
			t.Fatalf("%q becomes %q, and that %q (%v)", in, s, again, err)
		}
		if up, err := ParseName(strings.ToUpper(s)); err == nil && up.Skeleton() != n.Skeleton() && len(strings.ToUpper(s)) == len(s) && isASCII(s) {
			t.Fatalf("%q and its capitals differ: %q", s, up)
		}
		if k := n.Skeleton(); k == "" || Skeleton(k) != k {
			t.Fatalf("skeleton of %q is %q, and that of it %q", s, k, Skeleton(k))
		}
		Reserved(n)
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

func TestParseDisplayName(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"  Anna   Lee ", "Anna Lee"},
		{"Zoë 🌻", "Zoë 🌻"},
		{"👩‍👩‍👧", "👩‍👩‍👧"},
		{"🏴󠁧󠁢󠁳󠁣󠁴󠁿 Ian", "🏴󠁧󠁢󠁳󠁣󠁴󠁿 Ian"},
		{"می\u200cخواهم", "می\u200cخواهم"}, // zero width non-joiner
		{"O'Neil, Jr.", "O'Neil, Jr."},
		{"", ""}, {"   ", ""}, {"\u200d\u200d", ""}, {"\u3164", ""}, {"\u2800", ""},
		{"an\u202ena", ""}, {"a\u2066b", ""}, {"a\x07b", ""}, {"a\xff", ""}, {"\uffff", ""},
		{"@admin", ""}, {"＠admin", ""},
		{"z\u0335\u0336\u0337\u0338\u0335", ""},
		{strings.Repeat("x", MaxDisplayName+1), ""},
		{strings.Repeat("x", MaxDisplayName), strings.Repeat("x", MaxDisplayName)},
		{"line\nbreak", "line break"},
	} {
		got, err := ParseDisplayName(c.in)
		if (err == nil) != (c.want != "") || got != c.want {
			t.Errorf("%q becomes %q (%v), want %q", c.in, got, err, c.want)
		}
	}
}

func FuzzParseDisplayName(f *testing.F) {
	f.Add("Zoë 🌻")
	f.Add("a\u202eb")
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseDisplayName(in)
		if err != nil {
			return
		}
		if again, err := ParseDisplayName(s); err != nil || again != s {
			t.Fatalf("%q becomes %q, and that %q (%v)", in, s, again, err)
		}
	})
}
