"""The words of the `clauses` set: nouns, adjectives, verbs and names, each with one translation.

Every word has exactly one counterpart, so that a sentence determines its translation: no noun whose gender depends on the
person meant, no English noun alike in singular and plural, and of "is reading" and "reads" one for each verb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tense = Literal["present", "past", "future"]

SINGULAR, PLURAL = 0, 1
FIRST, THIRD, FIRST_PLURAL, THIRD_PLURAL = range(4)
"""Persons that verbs are conjugated for, in both languages."""


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A thing that can be counted, or a person."""

    en: tuple[str, str]
    """English singular and plural."""
    fr: tuple[str, str]
    """French singular and plural."""
    feminine: bool
    """Grammatical gender in French."""
    kinds: tuple[str, ...]
    """What it is, for the adjectives and verbs that go with it."""


@dataclass(frozen=True, kw_only=True)
class Adjective:
    """A word that agrees with its noun in French and not in English."""

    en: str
    """English form."""
    fr: tuple[tuple[str, str], tuple[str, str]]
    """French (singular, plural) of the masculine, then of the feminine."""
    before_vowel: str
    """French masculine singular before a vowel: un bel arbre."""
    before: bool
    """French puts it before the noun."""
    rank: int
    """English order: opinion 1, size 2, condition 3, age 4, colour 5, origin 6."""
    predicate: bool
    """It may stand alone after `to be` with the same translation."""
    kinds: tuple[str, ...]
    """Kinds of nouns that it goes with."""

    def fits(self, noun: Noun) -> bool:
        """Whether the two are used together."""
        return any(kind in self.kinds for kind in noun.kinds)


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb with what it can be said of."""

    base: str
    """English base form without its preposition."""
    third: str
    """English third person singular of the present."""
    progressive: str
    """English -ing form, in which actions stand in the present; empty for states, which take the simple present."""
    past: str
    """English simple past, empty if it has none here."""
    particle: str
    """English preposition before the object or the goal (look at), or empty."""
    infinitive: str
    """French infinitive."""
    present: tuple[str, str, str, str]
    """French present by person."""
    participle: str
    """French past participle, masculine singular."""
    auxiliary: str
    """avoir or être, which makes the participle agree with the subject."""
    tenses: tuple[Tense, ...]
    """Tenses in which both languages say the same: not those of a state in the past, nor `is losing`."""
    subjects: tuple[str, ...]
    """Kinds of subjects."""
    objects: tuple[str, ...]
    """Kinds of direct objects; none for an intransitive verb."""

    def takes(self, noun: Noun) -> bool:
        """Whether it can be done to the thing."""
        return any(kind in self.objects for kind in noun.kinds)


# English singular and plural, French singular and plural, gender, kinds.
_NOUNS = """
man        men         homme     hommes     m person
woman      women       femme     femmes     f person
boy        boys        garçon    garçons    m child,youth
girl       girls       fille     filles     f child,youth
child      children    enfant    enfants    m child
actor      actors      acteur    acteurs    m person
actress    actresses   actrice   actrices   f person
mother     mothers     mère      mères      f kin,one
father     fathers     père      pères      m kin,one
brother    brothers    frère     frères     m kin
sister     sisters     sœur      sœurs      f kin
uncle      uncles      oncle     oncles     m kin
aunt       aunts       tante     tantes     f kin
dog        dogs        chien     chiens     m animal,large
cat        cats        chat      chats      m animal
horse      horses      cheval    chevaux    m animal,large
bird       birds       oiseau    oiseaux    m animal,large
cow        cows        vache     vaches     f animal
mouse      mice        souris    souris     f animal
owl        owls        hibou     hiboux     m animal
apple      apples      pomme     pommes     f food,fruit,washable
egg        eggs        œuf       œufs       m food
cake       cakes       gâteau    gâteaux    m food
book       books       livre     livres     m text,readable
newspaper  newspapers  journal   journaux   m text,readable
letter     letters     lettre    lettres    f letter,readable
film       films       film      films      m text
dress      dresses     robe      robes      f clothing
coat       coats       manteau   manteaux   m clothing
hat        hats        chapeau   chapeaux   m clothing
scarf      scarves     écharpe   écharpes   f clothing
table      tables      table     tables     f object,surface
chair      chairs      chaise    chaises    f object,surface
key        keys        clé       clés       f object,light
flower     flowers     fleur     fleurs     f plant,light
clock      clocks      horloge   horloges   f object
door       doors       porte     portes     f opening
window     windows     fenêtre   fenêtres   f opening
car        cars        voiture   voitures   f vehicle,washable,inside
plane      planes      avion     avions     m vehicle,awaited
train      trains      train     trains     m vehicle,awaited
house      houses      maison    maisons    f building,inside
church     churches    église    églises    f building,inside,goal
school     schools     école     écoles     f building,inside,goal
hospital   hospitals   hôpital   hôpitaux   m building,inside,goal
hotel      hotels      hôtel     hôtels     m building,inside,goal
castle     castles     château   châteaux   m building,inside,goal
museum     museums     musée     musées     m building,inside,goal
garden     gardens     jardin    jardins    m outdoors,inside,open
tree       trees       arbre     arbres     m outdoors,shelter
"""

# English; French masculine and feminine, singular and plural, masculine before a vowel; place; rank; predicate; kinds.
_ADJECTIVES = """
small     petit    petits    petite   petites   petit    before 2 yes sized,animal,food,letter
big       grand    grands    grande   grandes   grand    before 2 yes sized,large
beautiful beau     beaux     belle    belles    bel      before 1 yes animal,plant,ware,letter,building,outdoors
good      bon      bons      bonne    bonnes    bon      before 1 yes text,food
new       nouveau  nouveaux  nouvelle nouvelles nouvel   before 4 no  ware,building,opening,text
old       vieux    vieux     vieille  vieilles  vieil    before 4 yes person,kin,animal,ware,building,text,letter,outdoors
young     jeune    jeunes    jeune    jeunes    jeune    before 4 yes person,youth,animal
famous    célèbre  célèbres  célèbre  célèbres  célèbre  after  1 yes person,text,building
sad       triste   tristes   triste   tristes   triste   after  1 yes human,text
happy     heureux  heureux   heureuse heureuses heureux  after  1 yes human
intelligent intelligent intelligents intelligente intelligentes intelligent after  1 yes living
expensive cher     chers     chère    chères    cher     after  1 yes ware
dirty     sale     sales     sale     sales     sale     after  3 yes animal,clothing,vehicle,opening
tired     fatigué  fatigués  fatiguée fatiguées fatigué  after  3 yes living
red       rouge    rouges    rouge    rouges    rouge    after  5 yes plant,ware,opening,fruit
black     noir     noirs     noire    noires    noir     after  5 yes animal,ware,opening
white     blanc    blancs    blanche  blanches  blanc    after  5 yes animal,plant,ware,opening
French    français français  française françaises français after  6 yes human,text,clothing,vehicle
"""

# English base, third person, -ing, past, particle; French infinitive, present of je, il, nous, ils, participle, auxiliary;
# tenses (n present, p past, f future); subjects; objects.
_VERBS = """
see    sees   -         saw      -    voir      vois    voit    voyons   voient   vu      avoir npf living any
love   loves  -         -        -    aimer     aime    aime    aimons   aiment   aimé    avoir n-- human  living,text
want   wants  -         -        -    vouloir   veux    veut    voulons  veulent  voulu   avoir n-- human  trade,vehicle
know   knows  -         -        -    connaître connais connaît connaissons connaissent connu   avoir n-- human  human
have   has    -         -        -    avoir     ai      a       avons    ont      eu      avoir n-- human  trade,vehicle
cost   costs  -         -        -    coûter    coûte   coûte   coûtons  coûtent  coûté   avoir n-f thing  -
look   looks  looking   looked   at   regarder  regarde regarde regardons regardent regardé avoir npf living any
look   looks  looking   looked   for  chercher  cherche cherche cherchons cherchent cherché avoir npf human  living,thing
wait   waits  waiting   waited   for  attendre  attends attend  attendons attendent attendu avoir npf human  human,awaited
help   helps  helping   helped   -    aider     aide    aide    aidons   aident   aidé    avoir npf human  living
call   calls  calling   called   -    appeler   appelle appelle appelons appellent appelé  avoir npf human  human
read   reads  reading   read     -    lire      lis     lit     lisons   lisent   lu      avoir npf human  readable
eat    eats   eating    ate      -    manger    mange   mange   mangeons mangent  mangé   avoir npf living food
buy    buys   buying    bought   -    acheter   achète  achète  achetons achètent acheté  avoir npf human  trade,vehicle
sell   sells  selling   sold     -    vendre    vends   vend    vendons  vendent  vendu   avoir npf human  trade,vehicle
find   finds  finding   found    -    trouver   trouve  trouve  trouvons trouvent trouvé  avoir -pf human  trade,letter
lose   loses  losing    lost     -    perdre    perds   perd    perdons  perdent  perdu   avoir -pf human  handy
wash   washes washing   washed   -    laver     lave    lave    lavons   lavent   lavé    avoir npf human  clothing,washable
open   opens  opening   opened   -    ouvrir    ouvre   ouvre   ouvrons  ouvrent  ouvert  avoir npf human  opening,letter
close  closes closing   closed   -    fermer    ferme   ferme   fermons  ferment  fermé   avoir npf human  opening
wear   wears  wearing   wore     -    porter    porte   porte   portons  portent  porté   avoir npf human  clothing
give   gives  giving    gave     -    donner    donne   donne   donnons  donnent  donné   avoir npf human  trade
send   sends  sending   sent     -    envoyer   envoie  envoie  envoyons envoient envoyé  avoir npf human  handy
talk   talks  talking   talked   to   parler    parle   parle   parlons  parlent  parlé   avoir npf human  -
sleep  sleeps sleeping  slept    -    dormir    dors    dort    dormons  dorment  dormi   avoir npf living -
work   works  working   worked   -    travailler travaille travaille travaillons travaillent travaillé avoir npf human  -
play   plays  playing   played   -    jouer     joue    joue    jouons   jouent   joué    avoir npf living -
sing   sings  singing   sang     -    chanter   chante  chante  chantons chantent chanté  avoir npf human  -
dance  dances dancing   danced   -    danser    danse   danse   dansons  dansent  dansé   avoir npf human  -
arrive arrives arriving  arrived  at   arriver   arrive  arrive  arrivons arrivent arrivé  être  npf human  -
leave  leaves leaving   left     -    partir    pars    part    partons  partent  parti   être  npf human  -
go     goes   going     went     to   aller     vais    va      allons   vont     allé    être  npf human  -
stay   stays  staying   stayed   at   rester    reste   reste   restons  restent  resté   être  npf human  -
fall   falls  falling   fell     -    tomber    tombe   tombe   tombons  tombent  tombé   être  -pf living -
come_back comes_back coming_back came_back from revenir   reviens revient revenons reviennent revenu  être  npf human  -
"""

# Names of several kinds at once, in the tables.
_GROUPS = {
    "human": "person child kin",
    "living": "person child kin animal",
    "ware": "object clothing vehicle",
    "thing": "object plant clothing vehicle food text",
    "trade": "object plant clothing food text animal",
    "handy": "light clothing readable",
    "sized": "plant object clothing vehicle building opening outdoors",
    "any": "person child kin animal food text letter clothing object plant vehicle building opening outdoors",
}
_TENSES: tuple[Tense, ...] = ("present", "past", "future")


def _rows(table: str, width: int) -> list[list[str]]:
    rows = [line.split() for line in table.strip().splitlines()]
    assert all(len(row) == width for row in rows), [row for row in rows if len(row) != width]
    return rows


def _word(cell: str) -> str:
    return "" if cell == "-" else cell.replace("_", " ")


def _kinds(cell: str) -> tuple[str, ...]:
    return tuple(kind for name in _word(cell).split(",") for kind in _GROUPS.get(name, name).split())


NOUNS = tuple(
    Noun(en=(row[0], row[1]), fr=(row[2], row[3]), feminine=row[4] == "f", kinds=_kinds(row[5]))
    for row in _rows(_NOUNS, 6)
)
ADJECTIVES = tuple(
    Adjective(
        en=row[0],
        fr=((row[1], row[2]), (row[3], row[4])),
        before_vowel=row[5],
        before=row[6] == "before",
        rank=int(row[7]),
        predicate=row[8] == "yes",
        kinds=_kinds(row[9]),
    )
    for row in _rows(_ADJECTIVES, 10)
)
VERBS = {
    row[5]: Verb(
        base=_word(row[0]),
        third=_word(row[1]),
        progressive=_word(row[2]),
        past=_word(row[3]),
        particle=_word(row[4]),
        infinitive=row[5],
        present=(row[6], row[7], row[8], row[9]),
        participle=row[10],
        auxiliary=row[11],
        tenses=tuple(tense for tense, code in zip(_TENSES, row[12], strict=True) if code != "-"),
        subjects=_kinds(row[13]),
        objects=_kinds(row[14]),
    )
    for row in _rows(_VERBS, 15)
}
"""Verbs by their French infinitive."""

# Name, and whether it is a woman's.
NAMES = (("Anne", True), ("Claire", True), ("Paul", False), ("Antoine", False))
