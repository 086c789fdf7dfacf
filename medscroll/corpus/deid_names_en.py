"""English names after cues: labels (`Patient Name:`), titles (`Dr.`), relations (`daughter`), signatures, credentials.

A name is one to four capitalised words, initials and particles, or `LAST, FIRST`. Words that are labels, roles or
medicine are no part of a name; a weak cue needs a common first name or a second word.
"""

# ruff: noqa: E501  (patterns are tables of words; a Chinese character counts as two columns)

from __future__ import annotations

import re
from collections.abc import Iterator

from medscroll.corpus.deid_spans import Span
from medscroll.corpus.deid_tables import EPONYMS, FIRST_NAMES, NOT_ENGLISH_NAMES
from medscroll.corpus.deid_words import Words, first_words

_WORD = r"(?:[A-Z](?:['’][A-Z])?[A-Za-zÀ-ÿ]*[a-zÀ-ÿA-Z](?:['’\-][A-Z]?[A-Za-zÀ-ÿ]+)*)"
_TOKEN = re.compile(
    rf"(?P<particle>(?:de la|de|van der|van den|van|von|der|del|della|di|da|dos|du|la|le|bin|ibn|al|el|St\.)(?=[ ]+[A-Z]))|"
    rf"(?P<word>{_WORD})|(?P<initial>[A-Z]\.?(?![A-Za-z]))|(?P<quoted>[(\"“'][A-Z][a-z]+[)\"”'])"
)
_SUFFIX = re.compile(r",?[ ]+(?:Jr|Sr|II|III|IV)\b\.?")
_GAP = re.compile(r"[ ]{1,2}|(?<=\.)")
_SEP = r"[ ]{0,3}[\"'\]*)]{0,3}[ ]{0,3}[:=#|>\t][ \t|*\"'\[(_:]{0,20}(?:\n[ \t]{0,8})?"
_STRONG_LABELS = (
    r"patient'?s?[ ]+(?:full[ ]+|legal[ ]+)?name|pt\.?[ ]+name|name[ ]+of[ ]+(?:the[ ]+)?patient|full[ ]+name|last[ ]+name|first[ ]+name|middle[ ]+name|"
    r"family[ ]+name|given[ ]+name|surname|forename|maiden[ ]+name|patient_name|first_name|last_name|client[ ]+name|resident[ ]+name|subject[ ]+name|member[ ]+name|"
    r"mother'?s?[ ]+name|father'?s?[ ]+name|guardian'?s?[ ]+name|contact[ ]+name|physician'?s?[ ]+name|provider[ ]+name|doctor'?s?[ ]+name|subscriber[ ]+name|"
    r"insured'?s?[ ]+name|guarantor[ ]+name|spouse'?s?[ ]+name|nurse[ ]+name|alias|aka|preferred[ ]+name|print(?:ed)?[ ]+name"
)
_LABELS = (
    r"name|patient|pt|client|attending(?:[ ]+(?:physician|md|surgeon|provider|doctor))?|admitting(?:[ ]+(?:physician|md|doctor))?|"
    r"referring(?:[ ]+(?:physician|md|doctor|provider))?|primary[ ]+care(?:[ ]+(?:physician|provider|doctor))?|pcp|consult(?:ing|ant)?(?:[ ]+(?:physician|md))?|"
    r"ordering(?:[ ]+(?:physician|provider))?|requesting[ ]+(?:physician|provider)|treating[ ]+physician|physician|provider|doctor|surgeon|assistant(?:[ ]+surgeon)?|"
    r"first[ ]+assistant|anesthesiologist|anaesthetist|anesthetist|nurse|rn|primary[ ]+nurse|scrub[ ]+nurse|circulating[ ]+nurse|radiologist|pathologist|technologist|technician|"
    r"resident(?:[ ]+physician)?|intern|fellow|cc|dictated[ ]+by|transcribed[ ]+by|signed[ ]+by|electronically[ ]+signed(?:[ ]+by)?|signature|signed|reviewed[ ]+by|verified[ ]+by|"
    r"approved[ ]+by|authenticated[ ]+by|attested[ ]+by|interpreted[ ]+by|reported[ ]+by|read[ ]+by|performed[ ]+by|prepared[ ]+by|entered[ ]+by|recorded[ ]+by|witnessed[ ]+by|"
    r"witness|seen[ ]+by|examined[ ]+by|ordered[ ]+by|collected[ ]+by|completed[ ]+by|written[ ]+by|author|next[ ]+of[ ]+kin|nok|emergency[ ]+contact|contact(?:[ ]+person)?|"
    r"health[ ]+care[ ]+proxy|hcp|power[ ]+of[ ]+attorney|poa|guardian|caregiver|spouse|wife|husband|mother|father|son|daughter|sister|brother|partner|"
    r"guarantor|subscriber|policy[ ]+holder|insured|employee|donor|recipient|mr|mrs|ms|therapist|case[ ]+manager|social[ ]+worker|interpreter|informant|historian|"
    r"responsible[ ]+party|to|from|dear|transcriptionist|transcriber|supervis(?:or|ing[ ]+(?:physician|provider))|discharging[ ]+(?:physician|provider)|operating[ ]+surgeon|"
    r"co-?signed[ ]+by|countersigned[ ]+by|cardiologist|oncologist|neurologist|nephrologist|urologist|dermatologist|psychiatrist|psychologist|pediatrician|obstetrician|gynecologist|"
    r"endocrinologist|gastroenterologist|pulmonologist|hospitalist|ophthalmologist|rheumatologist|hematologist|pharmacist|dietitian|midwife|paramedic|phlebotomist|sonographer|scribe|"
    r"coordinator|investigator|parent|child|aunt|uncle|grandmother|grandfather|friend|neighbou?r|legal[ ]+(?:guardian|representative)|representative|decedent|primary[ ]+surgeon|operator"
)
_STRONG = re.compile(rf"(?<![A-Za-z])(?i:{_STRONG_LABELS}){_SEP}")
_LABEL = re.compile(rf"(?<![A-Za-z\-])(?i:{_LABELS})(?:[ ]?\([^()\n]{{0,20}}\))?{_SEP}")
_NOT_BEFORE_NAME = re.compile(
    r"(?i:drug|brand|trade|generic|product|file|gene|device|test|scientific|common|display|column|variable|user|domain|host|study|trial|author's|species|hospital|facility|company|[a-z]{3,}[ ]by)[ ]$"
)
_TITLES = "Dr|Mr|Mrs|Ms|Prof|Professor|Doctor|Miss|Nurse|Rev|Sir|Madam|Mx|Fr|Sister|Judge|Capt|Drs"
_TITLE = re.compile(
    r"(?<![A-Za-z\-])(?:Dr|DR|Mr|MR|Mrs|MRS|Ms|Prof|PROF|Professor|Doctor|Miss|Nurse|Rev|Sir|Madam|Mx|Fr|Sister|Judge|Capt)(?:\.[ ]{0,2}|[ ]{1,2})(?=[A-Z])|(?<![A-Za-z\-])(?:MS|Drs|drs|dr|mr|mrs|ms)\.[ ]{0,2}(?=[A-Z])"
)
_VALVE = re.compile(
    r"(?i:mild|moderate|severe|trace|trivial|significant|no|with|and|or|of|grade|AR|TR|AS|acute|chronic|relapsing|progressive)[ ,/]{1,2}$"
)
_BY_VERBS = (
    r"electronically signed|e-signed|digitally signed|signed|dictated|transcribed|authenticated|attested|cosigned|co-signed|countersigned|seen and examined|interviewed|"
    r"admitted|referred|discussed|evaluated|examined|accompanied|reviewed"
)
_BY_WORDS = (
    r"under the care of|on behalf of|c/o|named|known as|goes by|is called|my name is|the patient is|patient is|pt is|I am|spoke with|spoke to|discussed with|call|"
    r"contacted|notified|informed|accompanied by|seen by|per|d/w|thanks to|introduced herself as|introduced himself as|daughter-in-law|son-in-law"
)
_BY = re.compile(rf"(?<![A-Za-z])(?:(?i:{_BY_VERBS})[ ]+(?i:by|with)|(?i:{_BY_WORDS}))[ ]+(?=[A-Z])")
_RELATIONS = (
    r"daughter|son|wife|husband|mother|father|sister|brother|spouse|partner|fiance|fiancé|girlfriend|boyfriend|friend|neighbor|neighbour|aunt|uncle|niece|nephew|grandson|granddaughter|"
    r"grandmother|grandfather|cousin|guardian|proxy|caregiver|patient|pt|HCP|NOK|roommate|baby|infant|client|nurse|physician|surgeon|cardiologist|oncologist|neurologist|mom|dad"
)
_KIN = frozenset(
    (
        "daughter",
        "son",
        "wife",
        "husband",
        "mother",
        "father",
        "sister",
        "brother",
        "spouse",
        "partner",
        "aunt",
        "uncle",
        "niece",
        "nephew",
        "grandson",
        "granddaughter",
        "grandmother",
        "grandfather",
        "cousin",
        "mom",
        "dad",
    )
)
_VERB = re.compile(
    r"[ ](?:was|is|has|had|were|will|who|denies|denied|reports|reported|states|stated|presented|presents|agrees|agreed|called|at[ ]bedside)\b|[ ]?[,.;)\n]|$"
)
_RELATION = re.compile(
    rf"(?<![A-Za-z])(?i:{_RELATIONS})(?:[ ]?[,(:][ ]?|[ ]+(?:is|was|named|called)[ ]+|[ ]+)(?=[A-Z])"
)
_CREDENTIAL = re.compile(
    r"(?<=[a-zA-Z.,][ ])(?:(?P<dotted>M\.D\.|D\.O\.|R\.N\.|Ph\.D\.|N\.P\.|P\.A\.(?:-C)?|D\.D\.S\.|Pharm\.D\.|M\.B\.B\.S\.)|"
    r"(?P<plain>MD|DO|RN|PhD|NP|PA-C|PA|MBBS|MBChB|FRCP|FRCS|FACS|FACP|FACC|LCSW|MSW|PharmD|DDS|DMD|CRNA|LPN|APRN|DNP|BSN|ARNP|CNM|RPh|DPM|OD|PsyD|RD|PT|OT|RT))(?![A-Za-z])"
)
_STATES = ("MD", "PA", "DO", "OD", "PT", "OT", "RT", "RD")  # also a state, a unit or an ordinary abbreviation
_CREDENTIALS = "MD|M|DO|D|RN|R|PhD|Ph|NP|N|PA|P|DDS|Pharm|PharmD|MBBS|MBChB|FRCP|FRCS|FACS|FACP|FACC|LCSW|MSW|DMD|CRNA|LPN|APRN|DNP|BSN|ARNP|CNM|RPh|DPM|OD|PsyD|RD|PT|OT|RT"
_STRONG_WORDS, _LABEL_WORDS, _TITLE_WORDS = first_words(_STRONG_LABELS), first_words(_LABELS), first_words(_TITLES)
_BY_KEYS, _RELATION_WORDS, _CREDENTIAL_WORDS = (
    first_words(f"{_BY_VERBS}|{_BY_WORDS}"),
    first_words(_RELATIONS),
    first_words(_CREDENTIALS),
)
ENGLISH_NAME_WORDS = _STRONG_WORDS | _LABEL_WORDS | _TITLE_WORDS | _BY_KEYS | _RELATION_WORDS | _CREDENTIAL_WORDS
_NAME_BEFORE = re.compile(rf"(?:{_WORD}|[A-Z]\.?)(?:[ ]+(?:{_WORD}|[A-Z]\.?|van|von|de|der|la|del|bin|al)){{1,3}}$")
_NEXT_LABEL = re.compile(r"(?:[ ]{1,2}[A-Za-z#]+){0,2}[ ]?[:=#]")
_EPONYM = re.compile(rf"(?:['’]s)?[ \-](?:{EPONYMS})\b", re.IGNORECASE)
_MIDDLE = re.compile(r"[ ]{1,2}[A-Z]\.?(?![A-Za-z:.])")
_LAST_FIRST = re.compile(
    rf"(?P<last>{_WORD}(?:[ ]{_WORD})?)[ ]?,[ ]{{0,2}}(?P<first>{_WORD})(?:[ ]{{1,2}}(?:[A-Z]\b\.?|{_WORD})(?![ ]?[:#=]))?(?:,?[ ](?:Jr|Sr|II|III)\b\.?)?"
)
_LOWER = re.compile(
    r"(?P<a>[a-z][a-z'\-]+)[ ,]{1,2}(?P<b>[a-z][a-z'\-]+)(?:[ ][a-z][a-z'\-]+)?(?=[ ]{0,3}(?:[\n|,;]|$|[ ]{2}))"
)


def _name_end(text: str, start: int) -> tuple[int, list[str]]:
    """(end, words) of the run of name tokens at `start`; words that are no name, and labels, end it."""
    position = start
    stop = start
    words: list[str] = []
    while len(words) < 5:
        match = _TOKEN.match(text, position)
        if not match:
            break
        token = match[0]
        if match["word"]:
            bare = token[:-2] if token.endswith(("'s", "’s")) else token
            if bare.lower() in NOT_ENGLISH_NAMES or (bare.isupper() and len(bare) < 3 and not words and len(bare) < 2):
                break
            if words and text[match.end() : match.end() + 1] in (":", "=", "#"):
                break
            if bare != token:
                words.append(bare)
                stop = match.end() - 2
                break
            if not words and re.match(r"[ ]{0,2}:", text[match.end() : match.end() + 3]):
                break
        words.append(token)
        if not match["particle"]:
            stop = match.end()
        gap = _GAP.match(text, match.end())
        if not gap:
            break
        position = gap.end()
    suffix = _SUFFIX.match(text, stop)
    if suffix and words:
        stop = suffix.end()
    return stop, words


def _real(words: list[str]) -> list[str]:
    """The words of a name that are no initials or particles."""
    return [word for word in words if len(word.strip(".")) > 1 and word[0].isupper()]


def _one_case(words: list[str]) -> bool:
    """Whether a name is written in one way: `WEI Jet` is none."""
    return all(map(str.isupper, words)) or not any(word.isupper() and len(word) > 2 for word in words)


def _last_first(text: str, start: int) -> int:
    match = _LAST_FIRST.match(text, start)
    if not match:
        return 0
    last, first = match["last"].split(), match["first"]
    if first.lower() in NOT_ENGLISH_NAMES or any(word.lower() in NOT_ENGLISH_NAMES for word in last):
        return 0
    if text[match.end() : match.end() + 1] == ":":
        return match.end("first")
    dot = re.match(r"(?<=[ ][A-Z])\.", text[match.end() : match.end() + 1])
    stop = match.end() + (len(dot[0]) if dot else 0)
    tail = text[match.end("first") : stop].strip(" ,.").lower()
    return match.end("first") if tail in NOT_ENGLISH_NAMES or tail in ("md", "rn", "do", "np", "pa") else stop


def english_names(text: str, words: Words) -> Iterator[Span]:
    """Spans of names, cues from sure to unsure."""
    for keys, pattern, least in ((_STRONG_WORDS, _STRONG, 1), (_LABEL_WORDS, _LABEL, 2)):
        for match in words.matches(keys, pattern):
            yield from _after_label(text, match, least)
    for match in words.matches(_TITLE_WORDS, _TITLE):
        stop, parts = _name_end(text, match.end())
        valve = match[0][:2] in ("MR", "MS") and _VALVE.search(text, max(0, match.start() - 24), match.start())
        if valve and not (parts and parts[0].lower() in FIRST_NAMES):
            continue
        if _real(parts) and not _EPONYM.match(text, stop):
            yield Span(match.end(), stop, "NAME", "title")
            second = (
                re.match(r",?[ ](?:and|&)[ ](?=[A-Z])", text[stop : stop + 8])
                if match[0][:3] in ("Drs", "drs")
                else None
            )
            end, others = _name_end(text, stop + len(second[0])) if second else (0, [])
            if second and _real(others):
                yield Span(stop + len(second[0]), end, "NAME", "title")
    yield from _after_words(text, words)
    yield from _before_credentials(text, words)
    yield from _at_line_start(text, words)


def _after_words(text: str, words: Words) -> Iterator[Span]:
    for match in words.matches(_BY_KEYS, _BY):
        stop, parts = _name_end(text, match.end())
        real = _real(parts)
        cue = match[0].rstrip().lower()
        known = bool(real) and real[0].lower() in FIRST_NAMES and _one_case(real)
        signed = any(verb in cue for verb in ("signed", "dictated", "transcribed", "authenticated", "attested"))
        single = cue.endswith(
            ("named", "called", "by", "known as", "spoke with", "spoke to", "name is", "patient is", "per")
        )
        if real and ((len(parts) >= 2 and (known or signed)) or (known and single)):
            yield Span(match.end(), stop, "NAME", "signature")
    for match in words.matches(_RELATION_WORDS, _RELATION):
        stop, parts = _name_end(text, match.end())
        real = _real(parts)
        known = bool(real) and real[0].lower() in FIRST_NAMES
        kin = match[0].rstrip(" ,(:").lower() in _KIN
        whole = len(parts) >= 2 and (kin or len(parts) > len(real)) and _VERB.match(text, stop) is not None
        if real and (known or whole) and _one_case(real) and not _EPONYM.match(text, stop):
            yield Span(match.end(), stop, "NAME", "relation")


def _after_label(text: str, match: re.Match[str], least: int) -> Iterator[Span]:
    start = match.end()
    if least == 2 and _NOT_BEFORE_NAME.search(text, max(0, match.start() - 12), match.start()):
        return
    title = _TITLE.match(text, start)
    if title:
        start = title.end()
        least = 1
    stop = _last_first(text, start)
    if stop:
        yield Span(start, stop, "NAME", "label")
        return
    stop, words = _name_end(text, start)
    real = _real(words)
    if real:
        single_is_enough = least == 1 or (
            (len(real) == 1 and (real[0].lower() in FIRST_NAMES or len(words) > 1))
            or re.match(r"[ ]{0,2}(?:\n|$|,?[ ](?:MD|M\.D\.|RN|DO|NP|PA))", text[stop : stop + 8]) is not None
        )
        at_end = re.match(
            r"[ ]{0,4}(?:[\n|,;(\t\"<*\])./]|[ ]{2}|$|[A-Z][A-Za-z#/ ]{0,24}[:=#]|\d|(?i:MD|RN|DOB|MRN|age|sex|male|female|date))",
            text[stop : stop + 40],
        )
        if (len(real) >= 2 or single_is_enough) and (at_end or least == 1):
            yield Span(start, stop, "NAME", "label")
        return
    lower = _LOWER.match(text, start) if least == 1 else None
    if lower and lower["a"] not in NOT_ENGLISH_NAMES and lower["b"] not in NOT_ENGLISH_NAMES:
        yield Span(*lower.span(), "NAME", "label")


def _before_credentials(text: str, words: Words) -> Iterator[Span]:
    for match in words.matches(_CREDENTIAL_WORDS, _CREDENTIAL):
        gap = re.search(r",?[ ]{1,2}$", text[max(0, match.start() - 3) : match.start()])
        end = match.start() - (len(gap[0]) if gap else 0)
        found = _NAME_BEFORE.search(text[max(0, end - 60) : end])
        if not found:
            continue
        parts = found[0].split()
        start = max(0, end - 60) + found.start()
        while parts and parts[0].strip(".").lower() in NOT_ENGLISH_NAMES:
            start += len(parts[0])
            start += len(text[start:end]) - len(text[start:end].lstrip(" "))
            parts = parts[1:]
        if len(parts) < 2 or any(len(part) > 2 and part.strip(".").lower() in NOT_ENGLISH_NAMES for part in parts):
            continue
        sure = match["dotted"] or (gap and "," in gap[0] and match["plain"] not in _STATES)
        known = sure or parts[0].lower() in FIRST_NAMES or any(len(part.strip(".")) == 1 for part in parts)
        if known and not re.match(r"[ ]?\d{5}", text[match.end() : match.end() + 7]):
            yield Span(start, end, "NAME", "credential")


_LINE = re.compile(
    rf"(?:^|(?<=\n))[ ]{{0,4}}(?P<name>{_WORD}(?:[ ](?:[A-Z]\.?|{_WORD})){{1,2}}|{_WORD},[ ]{_WORD}(?:[ ][A-Z]\.?)?)(?=[ ]{{0,2}}[,|(][ ]{{0,2}}(?:(?i:a[ ])?\d{{1,3}}[ \-]?(?i:y|year|M\b|F\b|yo)|(?i:DOB|MRN|male|female|M\b|F\b)))"
)


def _at_line_start(text: str, words: Words) -> Iterator[Span]:
    """`John Smith, 56-year-old …` at the start of a line."""
    for start, _ in words.named:
        line = text.rfind("\n", max(0, start - 40), start) + 1 or (0 if start < 40 else -1)
        match = _LINE.match(text, line) if line >= 0 else None
        if match:
            parts = re.findall(r"[A-Za-z'\-]+", match["name"])
            if not any(part.lower() in NOT_ENGLISH_NAMES for part in parts):
                yield Span(*match.span("name"), "NAME", "details")


def repeated_english_names(text: str, spans: list[Span]) -> Iterator[Span]:
    """Every other place of a whole name of two words or more, in the order found, turned round, and in capitals."""
    names: set[str] = set()
    for span in spans:
        if span.kind != "NAME":
            continue
        words = re.findall(r"[A-Za-zÀ-ÿ][A-Za-zÀ-ÿ'’\-]+", text[span.start : span.stop])
        if len(words) >= 2 and text[span.start].isascii():
            names |= {
                " ".join(words),
                f"{words[-1]}, {words[0]}",
                f"{words[1]} {words[0]}" if "," in text[span.start : span.stop] else f"{words[0]} {words[-1]}",
            }
    names |= {name.upper() for name in names}
    if names:
        pattern = rf"(?<![A-Za-z])(?:{'|'.join(re.escape(name) for name in sorted(names, key=len, reverse=True))})(?![A-Za-z])"
        for match in re.finditer(pattern, text):
            if not _EPONYM.match(text, match.end()):
                yield Span(*match.span(), "NAME", "repeated")
