"""Elementary f32 functions as straight-line code for any number of lanes.

Range reductions and coefficients follow the Cephes library (S. L. Moshier, `expf`, `logf`, `tanhf`), but for the
polynomials of `exp` and `erf`; the code is ours. No step converts an out-of-range float to an integer, so NaN and
infinities pass through arithmetic.
Errors: exp, expm1, log, log1p, sin, cos within 2 ulp; tanh, erf within 1.2 ulp, sigmoid within 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.target_info import TargetInfo
from .builder import I1, Builder, Ty, V, number

# exp(r) = 1 + r + r*r * P(r) for |r| <= ln 2 / 2, within 3.1e-9 of exp(r) (a weighted least-squares fit, iterated).
_EXP = (1.3814539415761828e-3, 8.36874544620514e-3, 4.166838899254799e-2, 1.666652113199234e-1, 4.999999403953552e-1)
# One term less, within 1.05e-7: for functions that do not need every bit of it.
_EXP_SHORT = (8.312501944601536e-3, 4.189033433794975e-2, 1.6667115688323975e-1, 4.99992311000824e-1)
_EXP_LOW, _EXP_HIGH = -104.0, 89.0  # zero and infinity beyond
_SATURATED = 40.0  # above, the sigmoid and tanh of x are 1
_LOG = (
    *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
# erf(x) = x + x * P(x*x) below _ERF_NEAR_END; above, 1 - exp(Q(x)), Q(x) = -x + x * P(x) (N. Juffa, both within 1 ulp).
_ERF_NEAR = (*(-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1),)
_ERF_FAR = (
    *(-1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1, -1.28717512e-1),
)
_ERF_NEAR_END, _ERF_ONE = 0.927734375, 4.0


# Kernels of sine and cosine on [-pi/4, pi/4] in f64 (FreeBSD's k_sinf and k_cosf), and pi/2 in two parts.
_SIN = (0.0000027183114939898219064, -0.000198393348360966317347, 0.0083333293858894631756, -0.166666666416265235595)
_COS = (0.0000243904487962774090654, -0.00138867637746099294692, 0.0416666233237390631894, -0.499999997251031003120)
_HALF_PI = (1.57079632673412561417, 6.07710050650619224932e-11)
_TRIG_LIMIT = 1.0e6  # beyond, the quarter's number times the first part of pi/2 would be rounded


class VectorMath:
    """Emits the functions; `fma` names the multiply-add intrinsic of the target."""

    def __init__(self, b: Builder, fma: str, target: TargetInfo) -> None:
        self.b = b
        self._fma = fma
        self._target = target

    def fma(self, x: V, y: V, z: V) -> V:
        """`x * y + z`."""
        return self.b.intrinsic(self._fma, x, y, z)

    def polynomial(self, x: V, coefficients: Sequence[float]) -> V:
        """Horner's scheme, highest coefficient first."""
        total = number(coefficients[0], x.ty)
        for c in coefficients[1:]:
            total = self.fma(total, x, number(c, x.ty))
        return total

    def _power_of_two(self, n: V) -> V:
        b = self.b
        biased = b.op("add", n, number(127, n.ty))
        return b.bitcast(b.op("shl", biased, number(23, n.ty)), n.ty.of("float"))

    def _avx512(self, name: str, ty: Ty, *args: V) -> V | None:
        """An AVX-512 intrinsic on whole vectors of `ty`; None where the target or the width has none."""
        if ty.lanes not in (4, 8, 16) or not (self._target.has("avx512f") and self._target.has("avx512vl")):
            return None
        mask = V(Ty("i16" if ty.lanes == 16 else "i8"), "-1")
        rounding = [V(Ty("i32"), "4")] if name.startswith("mask.") and ty.lanes == 16 else []  # as the thread rounds
        return self.b.call(f"llvm.x86.avx512.{name}.ps.{32 * ty.lanes}", ty, [*args, number(0.0, ty), mask, *rounding])

    def _rounded(self, x: V) -> tuple[V, V]:
        """`x / ln 2` rounded to an integer: as a float, and as the bits of that float plus 1.5 * 2**23."""
        b = self.b
        magic = number(12582912.0, x.ty)  # adding it rounds to an integer in the low bits
        shifted = self.fma(x, number(1.44269504088896341, x.ty), magic)
        return b.op("fsub", shifted, magic), shifted

    def _reduced(self, x: V, n: V) -> V:
        """`x - n ln 2`, in two steps."""
        r = self.fma(n, number(-0.693359375, x.ty), x)
        return self.fma(n, number(2.12194440e-4, x.ty), r)

    def _whole(self, shifted: V) -> V:
        """The integer in the low bits of what `_rounded` gives."""
        i32 = shifted.ty.of("i32")
        return self.b.op("sub", self.b.bitcast(shifted, i32), number(0x4B400000, i32))

    def _scaled(self, p: V, n: V, shifted: V) -> V:
        """`p` times two to the `n`; results may be denormal or infinite."""
        b = self.b
        scaled = self._avx512("mask.scalef", p.ty, p, n)
        if scaled is not None:
            return scaled
        whole = self._whole(shifted)
        half = b.op("ashr", whole, number(1, whole.ty))
        p = b.op("fmul", p, self._power_of_two(half))
        return b.op("fmul", p, self._power_of_two(b.op("sub", whole, half)))

    def _clip(self, x: V, low: float, high: float) -> V:
        # Written so that NaN stays NaN: the comparison is false and x is kept.
        b = self.b
        lo, hi = number(low, x.ty), number(high, x.ty)
        x = b.select(b.compare("olt", x, lo), lo, x)
        return b.select(b.compare("ogt", x, hi), hi, x)

    def exp(self, x: V) -> V:
        """e to the x: x = n ln 2 + r, |r| <= ln 2 / 2."""
        return self._exp_within(self._clip(x, _EXP_LOW, _EXP_HIGH))

    def _exp_within(self, x: V) -> V:
        """The same of what needs no clipping."""
        n, shifted = self._rounded(x)
        return self._powers(self._reduced(x, n), _EXP, n, shifted)

    def _powers(self, r: V, coefficients: Sequence[float], n: V, shifted: V) -> V:
        """exp(r) times two to the `n`."""
        one = number(1.0, r.ty)
        p = self.fma(self.fma(self.polynomial(r, coefficients), r, one), r, one)
        return self._scaled(p, n, shifted)

    def _quick_exp(self, x: V) -> V:
        """exp(x) up to `_SATURATED`, within 3 ulp."""
        x = self._clip(x, _EXP_LOW, _SATURATED)
        n, shifted = self._rounded(x)
        return self._powers(self._reduced(x, n), _EXP_SHORT, n, shifted)

    def expm1(self, x: V) -> V:
        """exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), with the polynomial of `exp` for the bracket; large x as `exp`."""
        b = self.b
        small = self._clip(x, -40.0, 40.0)
        n, shifted = self._rounded(small)
        r = self._reduced(small, n)
        q = self.fma(self.polynomial(r, _EXP), b.op("fmul", r, r), r)
        power = self._power_of_two(self._whole(shifted))
        result = self.fma(power, q, b.op("fsub", power, number(1.0, x.ty)))
        return b.select(b.compare("ogt", x, number(40.0, x.ty)), self.exp(x), result)

    def log1p(self, x: V) -> V:
        """log(u) + (x - (u - 1)) / u with u = 1 + x: the second term is what rounding u has lost."""
        b = self.b
        one = number(1.0, x.ty)
        u = b.op("fadd", one, x)
        lost = b.op("fdiv", b.op("fsub", x, b.op("fsub", u, one)), u)
        result = b.op("fadd", self.log(u), lost)
        special = b.op("or", b.compare("ueq", x, number(float("inf"), x.ty)), b.compare("ule", x, number(-1.0, x.ty)))
        return b.select(special, self.log(u), result)

    def log(self, x: V) -> V:
        """Natural logarithm: x = 2^e m with m in [sqrt(1/2), sqrt(2)), polynomial in m - 1."""
        b, i32 = self.b, x.ty.of("i32")

        def f(value: float) -> V:
            return number(value, x.ty)

        tiny = b.compare("olt", x, f(1.17549435e-38))
        scaled = b.select(tiny, b.op("fmul", x, f(8388608.0)), x)
        bits = b.bitcast(scaled, i32)
        exponent = b.op("sub", b.op("lshr", bits, number(23, i32)), b.select(tiny, number(149, i32), number(126, i32)))
        mantissa = b.op("or", b.op("and", bits, number(0x7FFFFF, i32)), number(0x3F000000, i32))
        m, e = b.bitcast(mantissa, x.ty), b.convert("sitofp", exponent, "float")
        low = b.compare("olt", m, f(0.707106781186547524))
        e = b.op("fsub", e, b.select(low, f(1.0), f(0.0)))
        m = b.op("fadd", b.op("fsub", m, f(1.0)), b.select(low, m, f(0.0)))
        z = b.op("fmul", m, m)
        y = b.op("fmul", b.op("fmul", m, z), self.polynomial(m, _LOG))
        y = self.fma(e, f(-2.12194440e-4), y)
        y = self.fma(z, f(-0.5), y)
        result = self.fma(e, f(0.693359375), b.op("fadd", m, y))
        inf = f(float("inf"))
        result = b.select(b.compare("oeq", x, inf), inf, result)
        result = b.select(b.compare("oeq", x, f(0.0)), f(float("-inf")), result)
        return b.select(b.compare("uge", x, f(0.0)), b.select(b.compare("uno", x, x), x, result), f(float("nan")))

    def sigmoid(self, x: V) -> V:
        """e / (1 + e) with e = exp(x)."""
        e = self._exp_within(self._clip(x, _EXP_LOW, _SATURATED))
        return self.b.op("fdiv", e, self.b.op("fadd", number(1.0, x.ty), e))

    def tanh(self, x: V) -> V:
        """Odd polynomial below 0.625, else 1 - 2 / (exp(2x) + 1)."""
        b = self.b
        z, size = b.op("fmul", x, x), b.intrinsic("fabs", x)
        near = self.fma(b.op("fmul", self.polynomial(z, _TANH), z), x, x)
        e = self._quick_exp(b.op("fadd", size, size))
        far = b.op("fdiv", number(2.0, x.ty), b.op("fadd", e, number(1.0, x.ty)))
        far = b.op("fsub", number(1.0, x.ty), far)
        return b.intrinsic("copysign", b.select(b.compare("olt", size, number(0.625, x.ty)), near, far), x)

    def erf(self, x: V) -> V:
        """Odd polynomial near zero, else 1 minus e to a polynomial."""
        b = self.b
        size = b.intrinsic("fabs", x)
        s = b.op("fmul", x, x)
        near = self.fma(self.polynomial(s, _ERF_NEAR), x, x)
        limit = number(_ERF_ONE, x.ty)
        t = b.select(b.compare("ogt", size, limit), limit, size)
        q = self.fma(self.polynomial(t, _ERF_FAR), t, b.negate(t))
        far = b.intrinsic("copysign", b.op("fsub", number(1.0, x.ty), self._exp_within(q)), x)
        return b.select(b.compare("olt", size, number(_ERF_NEAR_END, x.ty)), near, far)

    def sin(self, x: V) -> V:
        """Sine; lanes beyond 1e6 go to libm."""
        return self._trigonometric(x, "sinf", 0)

    def cos(self, x: V) -> V:
        """Cosine; lanes beyond 1e6 go to libm."""
        return self._trigonometric(x, "cosf", 1)

    def _trigonometric(self, x: V, slow: str, shift: int) -> V:
        b = self.b

        def call(lane: V) -> V:
            return b.call(slow, lane.ty, [lane])

        far = b.compare("ugt", b.intrinsic("fabs", x), number(_TRIG_LIMIT, x.ty))
        lanes = x.ty.lanes
        some = b.call(f"llvm.vector.reduce.or.v{lanes}i1", I1, [far]) if lanes else far
        rare, after = b.new_block("far"), b.new_block("trig")
        near = self._quarters(b.select(far, number(0.0, x.ty), x), shift)
        before = b.block
        b.branch_if(some, rare, after, cold=True)
        b.start(rare)
        called = b.per_lane(call, x)
        b.branch(after)
        b.start(after)
        return b.emit(x.ty, f"phi {x.ty} [ {near.text}, %{before} ], [ {called.text}, %{rare} ]")

    def _quarters(self, x: V, shift: int) -> V:
        """sin(x + shift * pi/2): x = n pi/2 + r in f64, then the kernel that quarter n + shift asks for."""
        b = self.b
        wide = b.convert("fpext", x, "double")
        f64, i32 = wide.ty, wide.ty.of("i32")
        n = b.intrinsic("rint", b.op("fmul", wide, number(0.636619772367581343, f64)))
        r = self.fma(n, number(-_HALF_PI[0], f64), wide)
        r = self.fma(n, number(-_HALF_PI[1], f64), r)
        z = b.op("fmul", r, r)
        sine = self.fma(b.op("fmul", self.polynomial(z, _SIN), z), r, r)
        cosine = self.fma(self.polynomial(z, _COS), z, number(1.0, f64))
        quarter = b.op("add", b.convert("fptosi", n, "i32"), number(shift, i32))
        odd = b.compare("ne", b.op("and", quarter, number(1, i32)), number(0, i32))
        value = b.convert("fptrunc", b.select(odd, cosine, sine), "float")
        turned = b.compare("ne", b.op("and", quarter, number(2, i32)), number(0, i32))
        return b.select(turned, b.negate(value), value)
