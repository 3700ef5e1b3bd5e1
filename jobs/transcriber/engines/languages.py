"""Names of languages as the speech services write them: ISO codes, English names, locales."""

from __future__ import annotations

from typing import Final

_WHISPER: Final = """
af afrikaans; am amharic; ar arabic; as assamese; az azerbaijani; ba bashkir; be belarusian; bg bulgarian;
bn bengali; bo tibetan; br breton; bs bosnian; ca catalan; cs czech; cy welsh; da danish; de german; el greek;
en english; es spanish; et estonian; eu basque; fa persian; fi finnish; fo faroese; fr french; gl galician;
gu gujarati; ha hausa; haw hawaiian; he hebrew; hi hindi; hr croatian; ht haitian creole; hu hungarian;
hy armenian; id indonesian; is icelandic; it italian; ja japanese; jw javanese; ka georgian; kk kazakh;
km khmer; kn kannada; ko korean; la latin; lb luxembourgish; ln lingala; lo lao; lt lithuanian; lv latvian;
mg malagasy; mi maori; mk macedonian; ml malayalam; mn mongolian; mr marathi; ms malay; mt maltese;
my myanmar; ne nepali; nl dutch; nn nynorsk; no norwegian; oc occitan; pa punjabi; pl polish; ps pashto;
pt portuguese; ro romanian; ru russian; sa sanskrit; sd sindhi; si sinhala; sk slovak; sl slovenian;
sn shona; so somali; sq albanian; sr serbian; su sundanese; sv swedish; sw swahili; ta tamil; te telugu;
tg tajik; th thai; tk turkmen; tl tagalog; tr turkish; tt tatar; uk ukrainian; ur urdu; uz uzbek;
vi vietnamese; yi yiddish; yo yoruba; yue cantonese; zh chinese
"""
NAMES: Final = {
    code: name for code, _, name in (entry.strip().partition(" ") for entry in _WHISPER.split(";"))
}
"""What Whisper models know, by code."""
_CODES: Final = {name: code for code, name in NAMES.items()}
_TEXT: Final = """
am:am-ET ar:ar-SA bn:bn-IN bs:bs-BA ca:ca-ES cs:cs-CZ cy:cy-GB da:da-DK el:el-GR en:en-US
et:et-EE eu:eu-ES fa:fa-IR gl:gl-ES gu:gu-IN he:he-IL hi:hi-IN hy:hy-AM ja:ja-JP jw:jv-ID
ka:ka-GE kk:kk-KZ km:km-KH kn:kn-IN ko:ko-KR lo:lo-LA ml:ml-IN mr:mr-IN ms:ms-MY my:my-MM
ne:ne-NP nn:nb-NO no:nb-NO pa:pa-IN ps:ps-AF pt:pt-BR si:si-LK sl:sl-SI sq:sq-AL sr:sr-RS
sv:sv-SE sw:sw-KE ta:ta-IN te:te-IN tl:fil-PH uk:uk-UA ur:ur-IN vi:vi-VN yue:zh-HK zh:zh-CN
af:af-ZA
"""
_LOCALES: Final = dict(entry.split(":") for entry in _TEXT.split())
"""Where the locale is not the code twice, such as `de-DE`."""


def code_of(language: str) -> str:
    """`de` for `de`, `de-AT`, `German`; empty when nothing is known by that name."""
    text = language.strip().lower()
    if text in _CODES:
        return _CODES[text]
    code = text.replace("_", "-").partition("-")[0]
    return code if code in NAMES else ""


def locale_of(language: str) -> str:
    """The locale that services with locales want: `de-AT` stays, `de` becomes `de-DE`."""
    if "-" in language:
        return language
    return _LOCALES.get(language, f"{language}-{language.upper()}")
