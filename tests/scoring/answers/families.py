r"""Families of answers, each around one way to be wrong: what must be equal, and what must not.

Every pair is worked by hand and holds both ways round. `BEFORE` counts what an earlier state of the
verifier (commit 9d67326) made of them.
"""

# ruff: noqa: RUF001 - look-alikes are meant

from __future__ import annotations

Pairs = list[tuple[str, str]]


def pairs(text: str) -> Pairs:
    """One pair a line, its sides set apart by ' | '."""
    lines = (line.strip() for line in text.strip().splitlines())
    return [(one, other) for one, _, other in (line.partition(" | ") for line in lines)]


CASE_EQUAL = pairs(r"""
    \frac{R}{r} | R/r
    \frac{R}{r} | R r^{-1}
    \pi(R^2-r^2) | \pi R^2 - \pi r^2
    \pi(R-r)(R+r) | \pi(R^2-r^2)
    Aa | aA
    2Aa | 2aA
    A^2+a^2 | a^2+A^2
    m(V-v) | mV-mv
    \frac{N}{n} | \frac{2N}{2n}
    X+x | x+X
    \frac{GMm}{r^2} | GmMr^{-2}
    x_A + x_a | x_a + x_A
    \Delta - \delta | -\delta + \Delta
    \begin{pmatrix} R \\ r \end{pmatrix} | \begin{pmatrix}R\\r\end{pmatrix}
    (R, r) | (R,r)
    \{R, r\} | \{r, R\}
    y = R + r | R + r
    \sqrt{R^2 - r^2} | \sqrt{(R-r)(R+r)}
    P(1-p) | P - Pp
    E - e | -e + E
    \frac{1}{T} + \frac{1}{t} | \frac{T+t}{Tt}
    I R | R I
""")
CASE_DIFFERENT = pairs(r"""
    \frac{R}{r} | \frac{r}{R}
    \frac{R}{r} | 1
    \pi(R^2-r^2) | 0
    Aa | a^2
    A | a
    V-v | 0
    2X | 2x
    N+n | 2n
    x_A | x_a
    \Delta | \delta
    \sin A | \sin a
    (R, r) | (r, R)
    \{R\} | \{r\}
    R > r | r > R
    y = R | y = r
    \begin{pmatrix} R \\ r \end{pmatrix} | \begin{pmatrix} r \\ R \end{pmatrix}
    E | e
    I^2 | -1
    mV | mv
    \frac{M}{m+M} | \frac{1}{2}
    T - t | 0
    \sqrt{R r} | r
    f(X) | f(x)
    F(x) | f(x)
    \Omega | \omega
    \Gamma | \gamma
""")
WORDS_EQUAL = pairs(r"""
    2+3\mathrm{i} | 2+3i
    9\mathrm{e} | 9e
    \mathrm{e}^2 | e^2
    \mathrm{i}^2 | -1
    \mathrm{e}^{\mathrm{i}\pi} | -1
    9\text{ or more} | 9 or more
    x^2 + \mathrm{i} | \mathrm{i} + x^2
    \text{Evelyn} | Evelyn
    \text{even} | even
    \text{Yes} | yes
    \mathrm{sin}(x) | \sin x
    \operatorname{sin} x | \sin x
    \text{no solution} | no solution
    \mathrm{lcm}(4, 6) | 12
    \operatorname{lcm}(4, 6) | 12
    \mathrm{ln}\, 2 | \ln 2
    3^T | 3^{T}
    x \in [0,1) | [0,1)
    x \in \{1,2\} | \{1,2\}
    x \in (0, \infty) | (0,\infty)
    \textbf{12} | 12
    \mathrm{3} | 3
    \displaystyle 7 | 7
    \mathbf{v} | \vec{v}
""")
WORDS_DIFFERENT = pairs(r"""
    2+3\mathrm{i} | 5
    2+3\mathrm{i} | 2+3
    9\mathrm{e} | 9
    9\text{ or more} | 9
    9\text{k} | 9
    9\text{ K} | 9000
    3^T | 3
    A^T | A
    x \in A | A
    9\text{ at least} | 9
    \text{at most }9 | 9
    9\text{ squared} | 9
    \text{minus }9 | 9
    9\text{ not} | 9
    9\text{ less} | 9
    \text{about } 9 \text{ to } 12 | 9
    9\text{ modulo } 12 | 9
    5\mathrm{d} | 5
    9' | 9
    f'(x) | f(x)
    y'' | y'
    9\text{x} | 9
    9\text{ factorial} | 9
    1, 2, \ldots | 1, 2
    \overline{AB} | AB
    7\text{ gain} | 7
    x^* | x
    9\ \mathrm{th} | 9
    7\text{ rise over } 2 | 7
    5\text{ excess} | 5
    \neg 5 | 5
    \uparrow 5 | 5
""")
DERIVATIVES_EQUAL = pairs(r"""
    \frac{dy}{dx}=2x | \frac{dy}{dx} = x + x
    \frac{dy}{dx}=5 | 5
    \frac{dy}{dx} = 2x | 2x
    y' = 3 | 3
    f'(x) = 2x | 2x
    f'(x) = 2x | f'(x) = x+x
    \frac{d^2y}{dx^2} = 6 | 6
    \frac{d^2y}{dx^2} = 6x | 6x
    \frac{dx}{dt} = -4 | -4
    \frac{dy}{dx} | \frac{dy}{dx}
    \frac{dy}{dx} + y | y + \frac{dy}{dx}
    2\frac{dy}{dx} | \frac{dy}{dx} + \frac{dy}{dx}
    \frac{dy}{dx} - 1 | -1 + \frac{dy}{dx}
    \frac{dV}{dt} = \pi r^2 | \pi r^2
    \frac{\partial f}{\partial x} = 2x | \frac{\partial f}{\partial x} = x + x
    dy/dx = 2x | 2x
    y'' + y | y + y''
    f''(x) = 6x | 6x
    \frac{dy}{dx} = \frac{1}{2} | 0.5
    y^{\prime} = 3 | 3
    \frac{dr}{dt} = 3\sqrt{2} | \sqrt{18}
    \frac{\mathrm{d}y}{\mathrm{d}x}=5 | 5
    \frac{\mathrm{d}y}{\mathrm{d}x}=2x | \frac{dy}{dx}=2x
    \frac{\mathrm dy}{\mathrm dx}=2x | \frac{dy}{dx}=2x
    \frac{\partial z}{\partial x}=2xy | 2xy
    \frac{\partial^{2} f}{\partial x^{2}}=2 | 2
    \left.\frac{dy}{dx}\right|_{x=1} = 5 | 5
""")
DERIVATIVES_DIFFERENT = pairs(r"""
    \frac{dy}{dx}=2x | \frac{dy}{dx}=3x
    \frac{dy}{dx} | 0
    \frac{dy}{dx} | \frac{dx}{dy}
    \frac{dy}{dx} | \frac{dz}{dx}
    \frac{d^2y}{dx^2} | \frac{dy}{dx}
    \frac{d^2y}{dx^2} | 0
    \frac{dy}{dx} + 1 | 1
    \frac{dy}{dx}=5 | 6
    \frac{dy}{dx}=2x | \frac{dz}{dx}=2x
    \frac{dx}{dt}=1 | \frac{dx}{dt}=2
    y\frac{dy}{dx} | 0
    y' = 2x | y' = 3x
    y' | y
    f'(x) = 2x | f'(x) = 3x
    f'(x) = 2x | f''(x) = 2x
    \frac{\partial f}{\partial x} | \frac{\partial f}{\partial y}
    \frac{\partial f}{\partial x} | 0
    \frac{dy}{dx} = y | \frac{dy}{dx} = -y
    \frac{dV}{dr} | \frac{dv}{dr}
    y'' + y | y' + y
    x + \frac{dy}{dx} | x
    \frac{d}{dx} x^2 | 0
    \frac{dy}{dx}|_{x=1} = 5 | \frac{dy}{dx}|_{x=2} = 5
    \frac{dy}{dx}|_{x=1} | \frac{dy}{dx}|_{x=2}
    \frac{\mathrm{d}y}{\mathrm{d}x} | 0
    \frac{\partial z}{\partial x}=2xy | \frac{\partial z}{\partial y}=2xy
""")
ORDERS_EQUAL = pairs(r"""
    ABCD | \text{ABCD}
    HHT | \mathrm{HHT}
    (0,1) | (0, 1)
    \{0,1\} | \{1,0\}
    1, 2 | 2, 1
    1, 2 | \{1, 2\}
    1, 2 | (1, 2)
    1 and 2 | 1, 2
    1\text{ or }2 | \{2, 1\}
    (1, 2, 3) | \left(1,2,3\right)
    (\frac{1}{2}, 3) | (0.5, 3)
    HHT, THH | THH, HHT
    x = 1, y = 2 | y = 2, x = 1
    x = 1 or x = 2 | 1, 2
    1 \pm 2 | \{3, -1\}
    1 \pm \sqrt{2} | 1+\sqrt{2}, 1-\sqrt{2}
    \langle 1, 2 \rangle | (1, 2)
    \{(1,2), (3,4)\} | \{(3,4), (1,2)\}
    (1,2), (3,4) | (3,4), (1,2)
    xy | yx
    \{5\} | 5
    \{1, 1, 2\} | \{1, 2\}
    [0,1)\cup(2,3] | (2,3]\cup[0,1)
    (x, y) = (1, 2) | (1,2)
""")
ORDERS_DIFFERENT = pairs(r"""
    BDAC | ABCD
    HHT | THH
    (0,1) | \{0,1\}
    (1,2) | \{1,2\}
    \{2,1\} | (1,2)
    (1,2) | (2,1)
    [0,1] | \{0,1\}
    [0,1] | (0,1)
    [0,1) | \{0,1\}
    (1,2,3) | (1,3,2)
    (1,2,3) | \{1,2,3\}
    \text{cat} | \text{act}
    \text{BAC} | \text{CAB}
    AB | BA
    \overline{AB} | \overline{BA}
    RGB | GRB
    \text{stop} | \text{pots}
    \{(1,2)\} | \{(2,1)\}
    (HT, TH) | (TH, HT)
    \{1,2\} | \{1,2,3\}
    1, 2 | 1, 2, 3
    (1, (2, 3)) | (1, (3, 2))
    SILENT | LISTEN
    even | neve
    x = 1, y = 2 | x = 2, y = 1
    \langle 1,2 \rangle | \{1,2\}
""")
UNITS_EQUAL = pairs(r"""
    60 minutes | 1 hour
    1 hour | 3600 seconds
    29 cm | 0.29 m
    5\text{ cm} | 50\text{ mm}
    5\text{ cm}^2 | 500\text{ mm}^2
    1\text{ m}^3 | 1000\text{ liters}
    5\text{ cm} | 5
    18 dollars | 18
    \$5 | 5
    \$5 | 500\text{ cents}
    2 days | 48 hours
    1 ft | 12 inches
    3 feet | 1 yard
    36\text{ km/h} | 10\text{ m/s}
    10\text{ m/s} | 10 meters per second
    0\text{ C} | 32\text{ F}
    180^\circ | \pi\text{ radians}
    90^\circ | 90\text{ degrees}
    90^\circ | 90
    5 square feet | 5\text{ ft}^2
    864 \mbox{ inches}^2 | 6\text{ square feet}
    2 kg | 2000 grams
    2 years | 24 months
    29~\text{cm} | 29
    29 m/s | 29
    12 apples | 12
    3 pounds | 48 ounces
    1.5 \text{ hours} | 90\text{ min}
    5 cents | 5\text{ cents}
    18 million dollars | 18000000
    2 dozen eggs | 24 eggs
    3\sqrt{2}\text{ cm} | \sqrt{18}\text{ cm}
    \frac{1}{2}\text{ hour} | 30 minutes
    5\text{ cm}^2 | 5 square centimeters
    60 mph | 60 miles per hour
    25\text{ sq. ft} | 25\text{ square feet}
    9.8\ \mathrm{kg\,m/s} | 9.8
    5 feet 6 inches | 66 inches
    1 hour and 30 minutes | 1.5 hours
    1\text{ hour }30\text{ minutes} | 90\text{ minutes}
    2 dollars and 50 cents | \$2.50
    1 day 6 hours | 30 hours
    5 USD | 5 dollars
    USD 18 | 18
    US\$18 | 18 dollars
    5 EUR | 5 euros
    5€ | €5
    \pounds 5 | £5
    Rs. 50 | 50 rupees
    75¢ | 0.75 dollars
    1000 Hz | 1 kHz
    1 MHz | 1000 kHz
    3 kPa | 3000 Pa
    60 \frac{\text{km}}{\text{h}} | 60\text{ km/h}
    10\ \mathrm{m\,s^{-1}} | 10\text{ m/s}
""")
UNITS_DIFFERENT = pairs(r"""
    5 hours | 5 minutes
    29 cm | 29 m
    5\text{ cm}^2 | 5\text{ cm}^3
    5\text{ cm} | 5\text{ cm}^2
    30 C | 30 F
    30^\circ C | 30^\circ F
    \$5 | 5\text{ cents}
    5 dollars | 5 euros
    €5 | \$5
    5 kg | 5 g
    5 kg | 5 pounds
    5 feet | 5 inches
    5 apples | 5 oranges
    10\text{ m/s} | 10\text{ km/h}
    10 miles per hour | 10 hours
    5\text{ m} | 5\text{ s}
    90^\circ | 90\text{ radians}
    50\% | 50\text{ cm}
    2 days | 2 weeks
    2 days | 24 hours
    1 hour | 100 minutes
    3 liters | 3 gallons
    5\text{ m}^2 | 5\text{ ft}^2
    18 million dollars | 18 dollars
    2 dozen eggs | 2 eggs
    5 cents | 5 dollars
    3\sqrt{2}\text{ cm} | 3\sqrt{2}\text{ m}
    1\text{ m}^3 | 100\text{ cm}^3
    5 mph | 5 kph
    5 feet 6 inches | 5.6 feet
    5 feet 6 inches | 11
    1 hour 30 minutes | 1.3 hours
    1 hour 30 seconds | 90 minutes
    5 feet 6 pounds | 11
    5 apples 6 apples | 11 apples
    5 USD | 5 EUR
    USD 18 | 18 euros
    Rs. 50 | €50
    75¢ | 75 dollars
    1 Hz | 1 kHz
    60 \frac{\text{km}}{\text{h}} | 60\text{ m/s}
    60 \frac{\text{km}}{\text{h}} | 60\text{ km}
    10\ \mathrm{m\,s^{-1}} | 10\ \mathrm{m\,s^{-2}}
""")
UNICODE_EQUAL = pairs("""
    −3 | -3
    –3 | -3
    —3 | -3
    ‑3 | -3
    ﹣3 | -3
    －3 | -3
    １２ | 12
    ３．５ | 3.5
    １，０００ | 1000
    （１，２） | (1,2)
    2π | 2\\pi
    √2 | \\sqrt{2}
    3√2 | \\sqrt{18}
    √12 | 2\\sqrt{3}
    √(x+1) | \\sqrt{x+1}
    ∛8 | 2
    x² + 1 | x^2+1
    x⁻¹ | \\frac{1}{x}
    2¹⁰ | 1024
    x₁ + x₂ | x_1+x_2
    x ≤ 3 | x \\le 3
    x ≥ 3 | 3 \\le x
    x ≠ 3 | x \\ne 3
    30° | 30^\\circ
    ½ | \\frac{1}{2}
    3½ | 3.5
    2×3 | 6
    6÷2 | 3
    (−∞, 3] | (-\\infty, 3]
    [0,1)∪(2,3] | [0,1)\\cup(2,3]
    1±2 | 3, -1
    ≈ 29 | 29
    x ∈ [0,1) | [0,1)
    ∅ | \\emptyset
    ℝ | \\mathbb{R}
    θ + α | \\alpha+\\theta
    𝟓 | 5
    5\u00a0cm | 5 cm
    sin 30° | \\frac{1}{2}
    −½ | -0.5
    ｛1，2｝ | \\{1,2\\}
""")
UNICODE_DIFFERENT = pairs("""
    −3 | 3
    –3 | 3
    — 3 | 3
    －３ | 3
    １２ | 21
    2π | 2
    2π | 2p
    √2 | 2
    x² | x
    x² | 2x
    x⁻¹ | x
    2¹⁰ | 210
    10² | 102
    x₁ | x
    x ≤ 3 | x \\ge 3
    x ≤ 3 | x < 3
    x ≠ 3 | x = 3
    ½ | 1
    ½ | 12
    3½ | 3/2
    3½ | 31/2
    2×3 | 23
    ∞ | −∞
    1±2 | 3
    θ | φ
    30° | 30%
    [0,1)∪(2,3] | [0,1)
""")
THOUSANDS_EQUAL = pairs(r"""
    11,\! 111,\! 111 | 11111111
    11,\!111,\!111,\!100 | 11111111100
    1{,}000 | 1000
    1\,000 | 1,000
    10 000 | 10,000
    1,000,000 | 1000000
    \frac{1,000}{3} | \frac{1000}{3}
    \frac{1{,}000}{3} | 1000/3
    (1,000, 2,000) | (1000, 2000)
    (1{,}000, 2{,}000) | (1000,2000)
    \{1,000, 2,000\} | \{2000, 1000\}
    1,000, 2,000 | 1000, 2000
    (1\,000, 2) | (1000, 2)
    (1,000; 2,000) | (1000, 2000)
    1,000\pi | 1000\pi
    1,000x + 2,000 | 1000x+2000
    2,000\sqrt{3} | 2000\sqrt{3}
    5e-05 | 0.00005
    5e-05 | 5 \times 10^{-5}
    1e+16 | 10000000000000000
    1.5e-07 | 0.00000015
    5e-5 | 0.00005
    2.5E6 | 2500000
    1e6 | 1,000,000
    1.0 | 1
    6.02e23 | 6.02 \times 10^{23}
    \$1,000 | 1000
    1,234.50 | 1234.5
    1,000 dollars | 1000 dollars
    -1,000 | -1000
    x = 1,000 | 1000
    1e-05, 2e-05 | 0.00001, 0.00002
    2.5e-05 | 0.000025
    2.5e-05 | \frac{1}{40000}
    1.25e-4 | 0.000125
    -2.5e-05 | -0.000025
    6.25e-2 | 0.0625
    3.14e-12 | 0.00000000000314
    1.234567890123456789e-05 | 0.00001234567890123456789
    1~000 | 1000
    \pi\,r^2 | r^2\pi
""")
THOUSANDS_DIFFERENT = pairs(r"""
    11,\! 111 | 11, 111
    11,\!111 | 11
    (1,000, 2,000) | (1, 0)
    (100,200) | 100200
    (100,200) | 100,200
    1,000 | 1
    1,000 | 100
    1,00 | 1000
    \frac{1,000}{3} | \frac{1}{3}
    5e-05 | 5
    5e-05 | 0.0005
    5e-05 | 5 \times 10^{5}
    1e+16 | 1
    1e6 | 16
    1e6 | 1
    5e-5 | 5
    5e-5 | 0
    2.5E6 | 2.5
    2e | 2
    2e - 3 | 0.002
    1.5e-07 | 1.5
    1,000\pi | 1000
    10 000 | 10
    1 000, 2 000 | 1000
    12,345 | 12345.1
    2.5e-05 | 0.00025
    2.5e-05 | 2.5
    1.25e-4 | 0.00125
""")
REFUSED_EQUAL = pairs(r"""
    exp(2) | e^2
    3*pi | 3\pi
    sqrt(2) | \sqrt{2}
    2*sqrt(3) | \sqrt{12}
    sqrt(x**2+1) | \sqrt{x^2+1}
    x**2 | x^2
    x**(n+1) | x^{n+1}
    x^(n+1) | x^{n+1}
    x^10 | x^{10}
    i^2 | -1
    (1+i)^2 | 2i
    \frac{1}{i} | -i
    i^3 | -i
    |3+4i| | 5
    \sqrt{-4} | 2i
    0.\overline{3} | 1/3
    0.1\overline{6} | \frac{1}{6}
    0.\overline{142857} | \frac{1}{7}
    \sqrt{1/m} | 1/\sqrt{m}
    \sqrt{\frac{1}{m}} | \frac{1}{\sqrt{m}}
    \sin 30^\circ | \frac{1}{2}
    \cos 60^\circ | 0.5
    \tan(45^\circ) | 1
    \sin(30^\circ) + 1 | \frac{3}{2}
    5=x | 5
    5 = x | x = 5
    \frac{1}{2} = y | 0.5
    \approx 29 | 29
    x \approx 29 | 29
    29~\text{cm} | 29
    29 m/s | 29
    12\frac12\% | 12.5\%
    12\frac12\% | 0.125
    \textbf{(B)}\ 12 | B
    Option B | B
    (B) | B
    B. | B
    B) 12 | (B)
    \text{Option B} | \text{(B)}
    sin(x) | \sin x
    ln(2) | \ln 2
    cos(pi/3) | \frac{1}{2}
    3(4) | 12
    pi/2 | \frac{\pi}{2}
    log(100) | \log 100
    \frac12 x | x/2
    e^{i\pi} | -1
    2\cdot(3+4) | 14
    abs(-3) | 3
    abs(x) | |x|
    infinity | \infty
    -oo | -\infty
    \approx 3.14 | x \approx 3.14
    (101)_2 | 101_2
    (101)_{2} | (101)_2
""")
REFUSED_DIFFERENT = pairs(r"""
    exp(2) | e
    exp(2) | 2
    3*pi | 3
    sqrt(2) | 2
    x**2 | 2x
    i^2 | 1
    i^2 | i
    \sqrt{-4} | 2
    \sqrt{-4} | -2i
    0.\overline{3} | 0.3
    0.\overline{3} | 3
    0.1\overline{6} | 0.16
    \sqrt{1/m} | \sqrt{m}
    \sqrt{x^2} | x
    |x| | x
    \sin 30^\circ | \sin 30
    \sin 30^\circ | 30
    5=x | 6
    5 = 2x | 5
    \approx 29 | 30
    12\frac12\% | 12
    12\frac12\% | 6\%
    \textbf{(B)}\ 12 | C
    Option B | A
    (B) 12 | (B) 13
    B | b
    3(4) | 7
    \ln 2 | \log 2
    x^10 | 10x
    \sqrt[3]{-8} | 2
    \frac{1}{i} | i
    2 + 3i | 3 + 2i
    (12)_2 | 156
    (z)_2 | z(z+1)
    abs(x) | x
    \approx 3.14 | x \approx 3.15
""")
TIMES_EQUAL = pairs(r"""
    3:30 PM | 3:30 p.m.
    3:30 \text{ PM} | 3:30 pm
    8:00 AM | 8:00 a.m.
    8 AM | 8:00 AM
    3:30 PM | 15:30
    3:30 | 3:30 PM
    12:05 AM | 0:05
    10:27:03 | 10:27:03 AM
    3:4 | 3 to 4
    3:4 | 3\text{ to }4
    6:8 | 3:4
    3:4 | \frac{3}{4}
    3:10 | 3/10
    1:2:3 | 1 to 2 to 3
    101_2 | 101_{\text{two}}
    (101)_{\text{two}} | 101_2
    12_{\text{eight}} | 12_8
    12 base 8 | 12_8
    2a_{16} | 2A_{16}
    \text{12 base 8} | 12_{8}
    n = 12_{\text{eight}} | 12_8
""")
TIMES_DIFFERENT = pairs(r"""
    3:30 | 2:20
    10:30 PM | 9:27 PM
    3:30 PM | 3:30 AM
    3:30 PM | 3:31 PM
    12:30 AM | 12:30 PM
    15:30 | 3:30 AM
    3:30 | 330
    3:30 PM | 1/10
    8 AM | 8 PM
    1:30:05 | 1:30:06
    (3:30, 4:20) | (2:20, 4:20)
    3:4 | 4:3
    3 to 4 | 4 to 3
    3\text{ to }4 | 4\text{ to }3
    5 by 3 | 3 by 5
    2\text{ for }1 | 1\text{ for }2
    x\text{ is }y | y\text{ is }x
    3 to 4 | 34
    1011_{\text{two}} | 1011_{\text{three}}
    12_{\text{eight}} | 12_9
    12 base 8 | 12_9
    5_{\text{a}} | 5_{\text{b}}
    12_a | 12_b
    12_a | 12
    101_2 + x | 101_3 + x
""")
WRITTEN_EQUAL = pairs(r"""
    e_1 | e_{1}
    E_k + 1 | 1 + E_{k}
    \sum_{k=1}^{10} k | 55
    \sum_{k=1}^{n} k | \frac{n(n+1)}{2}
    \prod_{k=1}^{4} k | 24
    \mathbf{7} | 7
    \boldsymbol{-3.5} | -3.5
    \boxed{12} | 12
    \boxed{\frac{1}{2}} | 0.5
    $\boxed{x^{2}}$ | x^2
    ~12 | 12
    \frac{7}{9} \approx 0.78 | \frac79
    \frac{7}{9} \approx 0.78 | 0.78
    x = \sqrt{2} \approx 1.414 | \sqrt{2}
    \sqrt{2} \approx 1.414 | \sqrt{2} \approx 1.41
    \{x \mid x > 3\} | (3, \infty)
    \{x \in \mathbb{R} : x \le 3\} | (-\infty, 3]
    x \equiv 3 \pmod 7 | x\equiv 3 \pmod{7}
    f(2) = 10 | 10
    x = 5 | x = 5\text{ cm}
    f(x) = 10x | f(x) = x \cdot 10
    f(1/2) = 10 | f(0.5) = 10
    \frac{d}{dx}(x^2) = 2x | 2x
    \frac{d}{dx} f(x) = 2x | 2x
    ax + by + c | by + ax + c
    x_{\text{max}} + 1 | 1 + x_{\text{max}}
    1\ 000 | 1000
""")
WRITTEN_DIFFERENT = pairs(r"""
    e_1 | e_2
    E_k | e_k
    E_k | E
    e_1 | e
    \sum_{k=1}^{10} k | \sum_{k=1}^{9} k
    \sum_{k=1}^{10} k | 10
    \mathbf{7} | 8
    \boxed{12} | 21
    \frac{7}{9} \approx 0.78 | \frac{78}{100}
    \frac{7}{9} \approx 0.95 | \frac79
    3 \approx 5.5 | 3
    \sqrt{2} \approx 1.414 | \sqrt{3}
    \{x \mid x > 3\} | (-\infty, 3)
    \{x \mid x > 3\} | 3
    x \equiv 3 \pmod 7 | x \equiv 3 \pmod{8}
    x \equiv 3 \pmod 7 | 3
    f(2) = 10 | f(3) = 10
    f(2) = 10 | g(2) = 10
    f(2) = 10 | f(2) = 11
    g(f(2)) = 10 | g(f(3)) = 10
    f(x) = 2x | f(x) = 3x
    \frac{d}{dx}(x^2) = 2x | 3x
    ax + by | ax + yb^2
    x_{\text{max}} | x_{\text{min}}
    \sum_{k=1}^{n} k | \sum_{k=1}^{m} k
    \prod_{k=1}^{4} k | 10
""")

FAMILIES: dict[str, tuple[Pairs, Pairs]] = {
    "letters of either case": (CASE_EQUAL, CASE_DIFFERENT),
    "words, upright letters and marks": (WORDS_EQUAL, WORDS_DIFFERENT),
    "derivatives": (DERIVATIVES_EQUAL, DERIVATIVES_DIFFERENT),
    "sequences, pairs and sets": (ORDERS_EQUAL, ORDERS_DIFFERENT),
    "units": (UNITS_EQUAL, UNITS_DIFFERENT),
    "Unicode": (UNICODE_EQUAL, UNICODE_DIFFERENT),
    "thousands and notation": (THOUSANDS_EQUAL, THOUSANDS_DIFFERENT),
    "right values": (REFUSED_EQUAL, REFUSED_DIFFERENT),
    "times, ratios and bases": (TIMES_EQUAL, TIMES_DIFFERENT),
    "ways of writing": (WRITTEN_EQUAL, WRITTEN_DIFFERENT),
}
"""By name: pairs that are equal, pairs that are not."""

BEFORE: dict[str, tuple[int, int]] = {
    "letters of either case": (22, 0),
    "words, upright letters and marks": (17, 8),
    "derivatives": (16, 20),
    "sequences, pairs and sets": (10, 1),
    "units": (16, 43),
    "Unicode": (0, 39),
    "thousands and notation": (1, 28),
    "right values": (3, 44),
    "times, ratios and bases": (13, 17),
    "ways of writing": (6, 17),
}
"""(wrong accepted, right refused) of each by commit 9d67326, either way round."""


def counts(equal, family: tuple[Pairs, Pairs]) -> tuple[int, int]:
    """(wrong accepted, right refused), either way round, by a function of two answers."""
    same, different = family
    accepted = sum(equal(a, b) or equal(b, a) for a, b in different)
    return accepted, sum(not (equal(a, b) and equal(b, a)) for a, b in same)
