r"""Units of answers: an allow-list of them with their dimensions, and the things that are counted.

A unit is a product of powers of names: `cm^2`, 'square feet', 'm/s', 'miles per hour', `kg\cdot m`.
Those of one dimension are converted by exact factors (60 minutes are 1 hour, 5 cm are 0.05 m,
0 C are 32 F, 180 degrees are pi radians); those of two are different (`cm^2` and `cm^3`, dollars
and euros, apples and pears). '5 feet 6 inches' is one amount. What is counted is a dimension of its
own for each noun of the list. What is no unit here is no unit at all: it stays in the answer, which
then is algebra or words.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

_TABLE = """
length m: 1 m meter metre; 1/100 cm centimeter centimetre; 1/1000 mm millimeter millimetre;
 1000 km kilometer kilometre; 1/10 dm decimeter; 127/5000 inch in; 381/1250 ft foot feet;
 1143/1250 yd yard; 201168/125 mi mile; 1852 knot_mile
mass g: 1 g gram gm; 1000 kg kilogram kilo; 1/1000 mg milligram; 1000000 tonne;
 45359237/100000 lb lbs pound; 45359237/1600000 oz ounce; 90718474/100 ton
time s: 1 s sec second; 60 min minute; 3600 h hr hour; 86400 day; 604800 week; 1/1000 ms millisecond
months: 1 month; 12 yr year; 120 decade; 1200 century centurie
volume: 1 L l liter litre; 1/1000 mL ml milliliter millilitre; 473176473/125000000 gallon gal;
 473176473/500000000 quart qt; 473176473/1000000000 pint; 473176473/2000000000 cup
dollar: 100 dollar USD buck; 1 cent penny pennie
euro: 1 euro EUR
sterling: 1 sterling GBP
rupee: 1 rupee Rs rs INR
yen: 1 yen JPY
celsius: 1 C celsius Celsius
fahrenheit: 1 F fahrenheit Fahrenheit
kelvin: 1 K kelvin
angle: 1 degree deg; 1/60 arcminute; 1 circ
radian: 1 radian rad
force: 1 N newton Newton; 1000 kN
energy: 1 J joule Joule; 1000 kJ; 1 eV_unit
power: 1 W watt Watt; 1000 kW kilowatt
frequency: 1 Hz hertz; 1000 kHz; 1000000 MHz
potential: 1 V volt Volt
current: 1 A amp ampere
resistance: 1 ohm
pressure: 1 Pa pascal; 1000 kPa
amount: 1 mol mole; 1/1000 mmol
heat: 1 calorie cal; 1000 kcal
data: 1 bit; 8 byte; 8000 kilobyte KB; 8000000 megabyte MB; 8000000000 gigabyte GB
area: 1 acre
plane: 1 hectare ha
"""
_COUNTED = """
people person student piece time page book cookie apple point marble slice egg fish box bag card
can sticker fruit pencil orange bird pack flower animal banana chair ticket pair toy stamp child
children tree pen candy customer girl friend coin wheel balloon car game boy block kid rose way
question female male cake cat jellybean pet tomato leg loaf loave cupcake shirt crayon shell cow
glass lollipop guest letter shoe sandwich seat bead pizza lemon pill word dog sheep sheet step
employee plant passenger seashell movie song item chicken doll pie meal duck women woman man men
trip goal scoop button home email serving chocolate quarter dime nickel painting photo brownie ball
donut player match case lion room strawberry seed bracelet turtle frog berry jar notebook leaf
leave unit line hole vote log class potato carrot chip plate hotdog bone dish outfit kitten teacher
spoon bee peach barrel row bug insect gift firework puppy petal report individual meatball
jellyfish vegetable package rabbit sweet tire doughnut floor container brick daisy cracker tile
envelope episode nail necklace bill lap spot soda picture side bolt jewel copy sausage rat fry app
truck crate tray color tube batch newspaper window branch group flight plum portrait bale sunflower
cloud bandage magazine novel grape beaker gnome mango scarf scarve square night member key dress
ant nut baby round bar parent cricket goldfish gumball shark bouquet towel oyster house adult horse
problem token eye machine hit pancake bushel guppy value integer digit download instruction thorn
worker pineapple vine stitch medal gun pupil sock message stripe family rodent surfer recipe
signature dumpling check object star coat boat matchstick dice set grader runner mother father
brother sister ship bus bike bicycle van teaspoon tablespoon gem bottle solution root triangle
circle cube vertex vertice edge face diagonal number term factor divisor arrangement combination
permutation outcome path handshake team subject minor spaceship cell electron atom pig goat spider
shovel hat ring cloth lesson lawn job pound_cake roll head foot_long mile_stone drawer shelf shelve
bucket block battery batterie berry berrie candie babie familie penguin soldier monkey farmer voter
visitor resident
"""
_ADJECTIVES = re.compile(
    r"(?:(?:more|fewer|additional|extra|different|distinct|possible|total|whole|new|old|red|blue"
    r"|green|yellow|white|black|pink|gold|brown|small|large|good|unused|positive|negative|real"
    r"|math|tennis|golf|jelly|stuffed|toy|full|(?:first|second|third|fourth|fifth|sixth)(?= grade))"
    r" )+"
)
_TAIL = re.compile(r" (?:in total|in all|total|left|remaining|altogether|each|old|long|tall|away)$")
_PER_HOUR = re.compile(r"\b(m|k)ph\b")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+|/[0-9]+)?) ?([a-zA-Z]+)(?:,? and |, ?| |$)")
_PREFIXES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_SUFFIXES = {"squared": 2, "cubed": 3}
_TOKEN = re.compile(r"\s*([a-zA-Z]+\.?|/|\^\{?-?[0-9]\}?|\\cdot|\*|-)")
_KELVIN = {
    "celsius": (Fraction(27315, 100), Fraction(1)),
    "fahrenheit": (Fraction(45967, 100), Fraction(5, 9)),
    "kelvin": (Fraction(0), Fraction(1)),
}
_ALIASES = {  # a dimension as a power of another: (name, power, factor)
    "volume": ("length", 3, Fraction(1, 1000)),
    "area": ("length", 2, Fraction(316160658, 78125)),
    "plane": ("length", 2, Fraction(10_000)),
}
PI_TURNS = {"angle": r"\frac{\pi}{180}", "radian": "1"}


@dataclass(frozen=True)
class Unit:
    """A product of powers, and its value in the first unit of each dimension."""

    dimension: frozenset[tuple[str, int]]
    factor: Fraction


def _names() -> dict[str, tuple[str, Fraction]]:
    names: dict[str, tuple[str, Fraction]] = {}
    for line in _TABLE.replace("\n ", " ").strip().splitlines():
        dimension, _, units = line.partition(":")
        for unit in units.split(";"):
            factor, *spelled = unit.split()
            names |= {name: (dimension.split()[0], Fraction(factor)) for name in spelled}
    counted = {name: (f"of {name}", Fraction(1)) for name in _COUNTED.split()}
    return counted | names


_NAMES = _names()


def _named(word: str) -> tuple[str, Fraction] | None:
    word = word.rstrip(".")
    lower = word if len(word) <= 2 else word.lower()
    for name in (word, lower, lower[:-1], lower[:-2], lower[:-3] + "y"):
        short = name in (lower[:-1], lower[:-2]) and len(name) <= 2  # 'ms' is no plural
        ending = lower[len(name) :] if lower.lower().startswith(name.lower()) else "ies"
        if name in _NAMES and not short and (ending in ("", "s", "es", "ies")):
            if ending == "ies" and not lower.endswith("ies"):
                continue
            return _NAMES[name]
    return None


@lru_cache(maxsize=2048)
def read_unit(text: str) -> Unit | None:
    """What a unit says, None if it is none of ours."""
    text = _TAIL.sub("", " ".join(text.replace("~", " ").split()))
    text = _ADJECTIVES.sub("", text)
    text = _PER_HOUR.sub(lambda match: {"m": "mi/h", "k": "km/h"}[match[1]], text)
    tokens = _TOKEN.findall(text)
    if not tokens or _TOKEN.sub("", text).strip():
        return None
    powers: dict[str, int] = {}
    factor, sign, ahead, last = Fraction(1), 1, 1, None
    for token in tokens:
        if token in ("/", "per", "a", "an") and last:
            sign = -1
            last = None
        elif token in ("\\cdot", "*", "-"):
            continue
        elif token.rstrip(".") in _PREFIXES:
            ahead = _PREFIXES[token.rstrip(".")]
        elif (token[0] == "^" or token in _SUFFIXES) and last:
            power = _SUFFIXES.get(token) or int(token.strip("^{}"))
            factor *= last[1] ** (last[2] * (power - 1))
            powers[last[0]] += last[2] * (power - 1) * last[3]
            last = None
        else:
            named = _named(token)
            if named is None:
                return None
            dimension, scale = named
            exponent = 1
            if dimension in _ALIASES:
                dimension, exponent, of_alias = _ALIASES[dimension]
                scale *= of_alias
            count = sign * ahead
            factor *= scale**count
            powers[dimension] = powers.get(dimension, 0) + count * exponent
            last, ahead = (dimension, scale, count, exponent), 1
    if ahead != 1 or not powers:
        return None
    return Unit(frozenset((name, power) for name, power in powers.items() if power), factor)


def sum_of_units(text: str) -> tuple[str, Unit] | None:
    """(value, unit) of '5 feet 6 inches' or '1 hour and 30 minutes', in the smaller unit; None of
    what is no sum of ever smaller units of one dimension."""
    text = " ".join(text.split())
    parts = _PART.findall(text)
    units = [read_unit(name) for _, name in parts]
    if len(parts) < 2 or _PART.sub("", text) or not all(units):
        return None
    known = [unit for unit in units if unit]
    smaller = all(a.factor > b.factor for a, b in itertools.pairwise(known))
    if not smaller or len({unit.dimension for unit in known}) > 1:
        return None
    total = sum(Fraction(part[0]) * unit.factor for part, unit in zip(parts, known, strict=True))
    return str(total / known[-1].factor), known[-1]


def conversion(one: Unit, other: Unit) -> tuple[tuple[str, str], tuple[str, str]] | None:
    r"""LaTeX (summand, factor) for the value under each unit, after which equal amounts are equal;
    None where the two measure different things. A temperature has a summand."""
    names = [next(iter(unit.dimension), ("", 0)) for unit in (one, other)]
    if all(name in _KELVIN and power == 1 for name, power in names):
        if one.dimension == other.dimension:
            return ("0", "1"), ("0", "1")
        shifts = [_KELVIN[name] for name, _ in names]
        return tuple((_latex(shift), _latex(scale)) for shift, scale in shifts)  # type: ignore
    if all(name in PI_TURNS and power == 1 for name, power in names) and names[0] != names[1]:
        return ("0", PI_TURNS[names[0][0]]), ("0", PI_TURNS[names[1][0]])
    if one.dimension != other.dimension:
        return None
    return ("0", _latex(one.factor / other.factor)), ("0", "1")


def _latex(value: Fraction) -> str:
    return str(value)
