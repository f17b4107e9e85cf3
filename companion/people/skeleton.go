package people

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Skeleton returns what a canonical name looks like: two names with one skeleton
// can be mistaken for each other, as UTS 39, section 4, uses the word. The table is
// our own and small: of the letters that names can have, those that look like
// another in common fonts.
//
// Beyond UTS 39, the three separators are one, and so are rn and m, vv and w.
func Skeleton(name string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(name) {
		if unicode.Is(unicode.Nd, r) {
			r = '0' + r - zeroOf(r)
		}
		if like, ok := lookAlikes[r]; ok {
			b.WriteString(like)
		} else {
			b.WriteRune(r)
		}
	}
	return norm.NFD.String(pairs.Replace(b.String()))
}

var pairs = strings.NewReplacer("rn", "m", "vv", "w")

// lookAlikes maps a letter of a canonical, decomposed name to what it looks like.
var lookAlikes = alike(map[string]string{
	// Digits and separators.
	"o": "0", "l": "1", "-": "._",

	// Latin letters that look like plain ones.
	"i": "ıɩɨ", "j": "ȷ", "a": "ɑ", "g": "ɡɠ", "ae": "æ", "oe": "œ", "b": "ƅɓ", "s": "ƨꜱ", "d": "ɖɗđ",
	"e": "ǝəɛ", "n": "ɲƞ", "v": "ʋ", "y": "ƴ", "h": "ħ", "t": "ŧ", "k": "ƙ", "p": "ƿ",
}, map[string]string{
	// Cyrillic.
	"a": "а", "b": "ьв", "c": "с", "d": "ԁ", "e": "еҽє", "g": "ԍ", "h": "һн", "i": "і", "j": "ј", "k": "кқҝ",
	"l": "ӏ", "m": "м", "n": "пҥ", "o": "о", "p": "р", "q": "ԛ", "r": "г", "s": "ѕ", "t": "т", "u": "ц",
	"v": "ѵ", "w": "ԝѡ", "x": "хҳ", "y": "уү", "ae": "ӕ", "3": "зӡ", "6": "б", "4": "ч",
}, map[string]string{
	// Greek.
	"a": "α", "b": "β", "e": "ε", "i": "ι", "j": "ϳ", "k": "κ", "n": "η", "o": "οσ", "p": "ρ", "t": "τ",
	"u": "υμ", "v": "ν", "w": "ω", "x": "χ", "y": "γ",
}, map[string]string{
	// Armenian and Hebrew.
	"o": "օס", "n": "ոռ", "u": "ս", "h": "հի", "g": "ց", "q": "զգ", "j": "յ", "l": "ւון", "p": "ք", "f": "ֆ",
}, map[string]string{
	// Arabic letters that differ by language, not to the eye.
	"ي": "ىیے", "ك": "ک", "ه": "ہەھة", "ا": "ٱ",
}, map[string]string{
	// Kana and Han.
	"一": "ー", "二": "ニ", "三": "ミ", "八": "ハ", "力": "カ", "口": "ロ囗", "工": "エ", "夕": "タ", "卜": "ト",
	"才": "オ", "千": "チ", "へ": "ヘ", "り": "リ", "丿": "ノ", "乂": "メ", "又": "ヌ",
})

func alike(tables ...map[string]string) map[rune]string {
	m := make(map[rune]string)
	for _, table := range tables {
		for like, letters := range table {
			for _, r := range letters {
				if string(r) != like {
					m[r] = like
				}
			}
		}
	}
	return m
}

// Reserved reports whether a name must stay nobody's, because it, or what it looks
// like, speaks for the server: admin, supp0rt, anytime-team.
func Reserved(n Name) bool {
	for _, one := range []string{"i", "l"} {
		key := reservedKey(n.canonical, one)
		if reserved[key] || strings.HasPrefix(key, "anytime") {
			return true
		}
	}
	return false
}

// reservedKey strips a name of separators and accents and reads its digits as the
// letters they stand for; a 1 can stand for two.
func reservedKey(name, one string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(name) {
		if isSeparator(r) || unicode.IsMark(r) {
			continue
		}
		if unicode.Is(unicode.Nd, r) {
			switch digit := r - zeroOf(r); digit {
			case 1:
				b.WriteString(one)
			default:
				b.WriteByte("o1zeasgtbg"[digit])
			}
			continue
		}
		if like, ok := lookAlikes[r]; ok {
			b.WriteString(like)
		} else {
			b.WriteRune(r)
		}
	}
	return pairs.Replace(b.String())
}

var reserved = func() map[string]bool {
	m := make(map[string]bool)
	for word := range strings.FieldsSeq(`
		abuse account accounts admin administrator administration all alert anonymous api app assistant
		billing bot calls channel chat contact contacts deleted emergency everybody everyone
		false guest guests help helpdesk here home hostmaster http https info invite join
		localhost login logout mail mailerdaemon me member moderator mod myself news nil nobody noreply
		notifications null official operator owner password payment payments phone police
		postmaster privacy public register registration root safety security self server service
		settings setup shop signin signout signup sos staff status superuser support sysadmin sysop
		system team true undefined unknown user username verified verify webmaster welcome www you`) {
		m[pairs.Replace(word)] = true
	}
	return m
}()
