"""Closed lists of English verbs and nouns, by which tense and number are told without a tagger."""

from __future__ import annotations

# Base, present (third person) and past. Only verbs whose past is no present form of any verb, and rarely a noun or adjective.
_VERBS = """
be is was; have has had; do does did; go goes went; come comes came; see sees saw; take takes took; give gives gave;
make makes made; know knows knew; think thinks thought; get gets got; say says said; tell tells told; keep keeps kept;
feel feels felt;
find finds found; become becomes became; begin begins began; write writes wrote; run runs ran; fall falls fell; grow grows grew;
speak speaks spoke; break breaks broke; choose chooses chose; drive drives drove; wear wears wore; forget forgets forgot;
rise rises rose; draw draws drew; fly flies flew; throw throws threw; shake shakes shook; sing sings sang; sink sinks sank;
drink drinks drank; wake wakes woke; freeze freezes froze; eat eats ate; bring brings brought; buy buys bought;
catch catches caught; teach teaches taught; hold holds held; hear hears heard; lead leads led; stand stands stood; win wins won;
sit sits sat; spend spends spent; send sends sent; build builds built; mean means meant; pay pays paid; sell sells sold;
sleep sleeps slept; fight fights fought; hang hangs hung; stick sticks stuck; understand understands understood; lose loses lost;
leave leaves left; meet meets met; seem seems seemed; want wants wanted; need needs needed; try tries tried; ask asks asked;
work works worked; play plays played; turn turns turned; show shows showed; look looks looked; start starts started;
seek seeks sought; prove proves proved; happen happens happened; remain remains remained; appear appears appeared;
manage manages managed; decide decides decided; believe believes believed; live lives lived; die dies died; offer offers offered;
suffer suffers suffered; deserve deserves deserved; succeed succeeds succeeded; fail fails failed; lack lacks lacked;
belong belongs belonged; contain contains contained; consist consists consisted; exist exists existed; deliver delivers delivered;
enjoy enjoys enjoyed; love loves loved; hate hates hated; like likes liked; expect expects expected; hope hopes hoped;
help helps helped; stop stops stopped; end ends ended; open opens opened; follow follows followed; add adds added;
create creates created; provide provides provided; require requires required; reveal reveals revealed; explore explores explored;
capture captures captured; emerge emerges emerged; arrive arrives arrived; return returns returned; move moves moved;
talk talks talked; walk walks walked; call calls called; use uses used; learn learns learned; change changes changed
"""
# Other forms of the same tense.
_MORE = {"are": ("be", False), "am": ("be", False), "were": ("be", True), "have": ("have", False), "do": ("do", False)}

# Pasts that are hardly anything else, participle, adjective or noun; and what a verb right after it agrees with.
_FINITE_PASTS = """
was were had did went came saw took gave knew became began wrote ran fell grew spoke chose drove wore forgot drew flew threw shook
sang sank drank woke froze ate
"""
FINITE_PASTS = frozenset(_FINITE_PASTS.split())
PRONOUNS = ("i", "you", "he", "she", "it", "we", "they", "who", "what", "that", "which", "there", "here", "where")

# What tells where a subject ends: a finite verb right after it.
_NUMBERED = """
is are was were has have had does do did can could will would must should may might
seems seem seemed looks look looked makes make made takes take took gets get got comes come came goes go went
works work worked feels feel felt gives give gave plays play played needs need needed remains remain remained
deserves deserve deserved
"""
NUMBERED_VERBS = frozenset(_NUMBERED.split())

_NOUNS = """
film movie story plot character actor actress director scene performance script joke idea moment comedy drama thriller picture
scenario dialogue sequence image song sequel romance experience story result ending effect theme message book novel author
viewer critic fan kid boy girl friend lover parent hero villain star player voice face eye hand heart mind soul life
family man woman child person audience writer filmmaker screenwriter cast crew studio product phone camera battery
button screen player price feature problem issue quality game device computer card lens setting manual
company government president leader state country nation law policy court judge senator voter party war attack soldier officer
official group city school teacher student worker doctor patient program plan bill tax job bank market price cost rate change
reason question answer fact word thing place way day year time week hour minute event team player rule system
relationship situation adventure cliche twist tale documentary feature genre style tone premise subplot storyline
"""
_IRREGULAR = {"man": "men", "woman": "women", "child": "children", "person": "people", "life": "lives", "lens": "lenses"}
_SAME = {"cast", "crew", "audience", "quality"}  # rarely in the plural, or ambiguous there


def _plural(noun: str) -> str:
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def _verbs() -> dict[str, tuple[str, bool]]:
    forms = dict(_MORE)
    for base, present, past in (entry.split() for entry in _VERBS.split(";")):
        forms |= {present: (base, False), past: (base, True)}
    return forms


# Form -> (lemma, whether it is past), and form -> (lemma, whether it is plural).
VERBS: dict[str, tuple[str, bool]] = _verbs()
NOUNS: dict[str, tuple[str, bool]] = {
    form: (noun, is_plural)
    for noun in sorted(set(_NOUNS.split()) - _SAME)
    for form, is_plural in ((noun, False), (_plural(noun), True))
}
