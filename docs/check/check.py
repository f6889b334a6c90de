#!/usr/bin/env python3
"""An independent checker of quipu chains, written from docs/spec.md with Python's standard library alone.

    check.py FILE            verify an export file (spec §12) from genesis to tip; prints height, tip id, state root
    check.py -v FILE         the same, one line a block
    check.py vectors DIR     verify every vector file of docs/vectors (spec §15)

Exit code 0: all holds. 1: something does not; the line on stderr names the rule. 2: wrong usage or unreadable file.
It is written to be read next to the spec, not to be fast: a signature takes about two milliseconds.
"""
import bisect
import json
import os
import sys
from hashlib import sha256


class Broken(Exception):
    """A rule of the spec is broken."""

    def __init__(self, rule, why):
        super().__init__(f"{rule}: {why}")
        self.rule = rule


def need(ok, rule, why):
    if not ok:
        raise Broken(rule, why)


# --- §1 Notation and hashes ---


def H(b):
    return sha256(b).digest()


def tagged(tag, b):
    t = H(tag.encode("ascii"))
    return H(t + t + b)


def le(b):
    return int.from_bytes(b, "little")


def be(b):
    return int.from_bytes(b, "big")


def u(n, size):
    return n.to_bytes(size, "little")


def node(left, right):
    return H(b"\x01" + left + right)


def mth(items):
    """RFC 6962 section 2.1."""
    if not items:
        return H(b"")
    if len(items) == 1:
        return H(b"\x00" + items[0])
    k = split_point(len(items))
    return node(mth(items[:k]), mth(items[k:]))


def split_point(n):
    return 1 << ((n - 1).bit_length() - 1)


class Growing:
    """MTH of a list that grows: roots of its perfect subtrees with their sizes, largest first."""

    def __init__(self):
        self.peaks = []

    def append(self, item):
        size, h = 1, H(b"\x00" + item)
        while self.peaks and self.peaks[-1][0] == size:
            h = node(self.peaks.pop()[1], h)
            size *= 2
        self.peaks.append((size, h))

    def root(self):
        if not self.peaks:
            return H(b"")
        h = self.peaks[-1][1]
        for _, left in reversed(self.peaks[:-1]):
            h = node(left, h)
        return h


def inclusion_path(i, items):
    """RFC 6962 section 2.1.1."""
    if len(items) <= 1:
        return []
    k = split_point(len(items))
    if i < k:
        return inclusion_path(i, items[:k]) + [mth(items[k:])]
    return inclusion_path(i - k, items[k:]) + [mth(items[:k])]


def consistency_proof(m, items, whole=True):
    """RFC 6962 section 2.1.2, for 0 < m <= len(items)."""
    if m == len(items):
        return [] if whole else [mth(items)]
    k = split_point(len(items))
    if m <= k:
        return consistency_proof(m, items[:k], whole) + [mth(items[k:])]
    return consistency_proof(m - k, items[k:], False) + [mth(items[:k])]


# --- §1 BIP-340 on secp256k1. Points are Jacobian (X, Y, Z); Z = 0 is infinity. ---

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GX = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
GY = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8
INFINITY = (0, 1, 0)


def double(a):
    x, y, z = a
    if z == 0 or y == 0:
        return INFINITY
    yy = y * y % P
    s = 4 * x * yy % P
    m = 3 * x * x % P
    x3 = (m * m - 2 * s) % P
    return x3, (m * (s - x3) - 8 * yy * yy) % P, 2 * y * z % P


def add(a, b):
    x1, y1, z1 = a
    x2, y2, z2 = b
    if z1 == 0:
        return b
    if z2 == 0:
        return a
    zz1, zz2 = z1 * z1 % P, z2 * z2 % P
    u1, u2 = x1 * zz2 % P, x2 * zz1 % P
    s1, s2 = y1 * zz2 * z2 % P, y2 * zz1 * z1 % P
    if u1 == u2:
        return double(a) if s1 == s2 else INFINITY
    h, r = u2 - u1, s2 - s1
    hh = h * h % P
    hhh, v = h * hh % P, u1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - s1 * hhh) % P, h * z1 * z2 % P


def negate(a):
    return a[0], -a[1] % P, a[2]


def multiply(k, a):
    """k·a, four bits at a time."""
    table = [INFINITY, a]
    for _ in range(14):
        table.append(add(table[-1], a))
    out = INFINITY
    for digit in f"{k:x}":
        out = double(double(double(double(out))))
        if digit != "0":
            out = add(out, table[int(digit, 16)])
    return out


def _base_table():
    rows, step = [], (GX, GY, 1)
    for _ in range(64):
        row = [INFINITY]
        for _ in range(15):
            row.append(add(row[-1], step))
        rows.append(row)
        step = add(row[15], step)
    return rows


BASE = _base_table()


def multiply_base(k):
    out = INFINITY
    for row in BASE:
        if k & 15:
            out = add(out, row[k & 15])
        k >>= 4
    return out


def affine(a):
    inv = pow(a[2], -1, P)
    return a[0] * inv * inv % P, a[1] * inv * inv * inv % P


def lift_x(b):
    """The point with this x and an even y, or None."""
    x = be(b)
    if x >= P:
        return None
    c = (pow(x, 3, P) + 7) % P
    y = pow(c, (P + 1) // 4, P)
    if y * y % P != c:
        return None
    return x, (y if y % 2 == 0 else P - y), 1


def verify(pk, msg, sig):
    point, r, s = lift_x(pk), be(sig[:32]), be(sig[32:])
    if point is None or r >= P or s >= N or len(sig) != 64:
        return False
    e = be(tagged("BIP0340/challenge", sig[:32] + pk + msg)) % N
    big_r = add(multiply_base(s), negate(multiply(e, point)))
    if big_r[2] == 0:
        return False
    x, y = affine(big_r)
    return y % 2 == 0 and x == r


def public_key(secret):
    return u_be(affine(multiply_base(be(secret)))[0])


def u_be(n):
    return n.to_bytes(32, "big")


def sign(secret, msg, aux):
    """BIP-340 default signing: only to check the signature vectors."""
    d = be(secret)
    x, y = affine(multiply_base(d))
    d = d if y % 2 == 0 else N - d
    t = u_be(d ^ be(tagged("BIP0340/aux", aux)))
    k = be(tagged("BIP0340/nonce", t + u_be(x) + msg)) % N
    rx, ry = affine(multiply_base(k))
    k = k if ry % 2 == 0 else N - k
    e = be(tagged("BIP0340/challenge", u_be(rx) + u_be(x) + msg)) % N
    return u_be(rx) + u_be((k + e * d) % N)


# --- §2 Addresses (BIP-350) ---

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32M = 0x2BC830A3


def polymod(values):
    chk = 1
    for v in values:
        top = chk >> 25
        chk = (chk & 0x1FFFFFF) << 5 ^ v
        for i, g in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> i & 1:
                chk ^= g
    return chk


def expand(prefix):
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def regroup(values, source, target):
    """Bits of values in groups of target, and the number left over with their value."""
    acc = bits = 0
    out = []
    for v in values:
        acc = acc << source | v
        bits += source
        while bits >= target:
            bits -= target
            out.append(acc >> bits & (1 << target) - 1)
        acc &= (1 << bits) - 1
    return out, bits, acc


def encode_address(prefix, account):
    data, bits, acc = regroup(account, 8, 5)
    data = [1] + data + ([acc << 5 - bits] if bits else [])
    check = polymod(expand(prefix) + data + [0] * 6) ^ BECH32M
    return prefix + "1" + "".join(CHARSET[v] for v in data + [check >> 5 * (5 - i) & 31 for i in range(6)])


def decode_address(prefix, text):
    rule = "address"
    need(len(text) <= 90, rule, "longer than 90")
    need(all(33 <= ord(c) <= 126 for c in text), rule, "character out of range")
    need(text in (text.lower(), text.upper()), rule, "mixed case")
    text = text.lower()
    hrp, sep, tail = text.rpartition("1")
    need(sep and hrp and len(tail) >= 6 and all(c in CHARSET for c in tail), rule, "not bech32")
    data = [CHARSET.index(c) for c in tail]
    need(polymod(expand(hrp) + data) == BECH32M, rule, "bech32m checksum")
    need(hrp == prefix, rule, "another network's prefix")
    need(len(data) > 6 and data[0] == 1, rule, "made for a newer program")
    account, bits, acc = regroup(data[1:-6], 5, 8)
    need(bits < 5 and acc == 0, rule, "padding")
    need(len(account) == 32, rule, "length")
    need(lift_x(bytes(account)), rule, "no point of the curve")
    return bytes(account)


# --- §3 Transaction ---


class Tx:
    def __init__(self, b, at=0):
        """Decodes one transaction from b at offset at; self.end is where it ends."""

        def take(n):
            nonlocal at
            need(at + n <= len(b), "D4", "too few bytes")
            at += n
            return b[at - n : at]

        start = at
        need(take(1)[0] == 1, "D1", "version")
        self.sender = take(32)
        self.nonce, self.fee, self.valid_until = le(take(8)), le(take(8)), le(take(4))
        n = take(1)[0]
        need(n > 0, "D2", "no outputs")
        self.outputs = [(take(32), le(take(8))) for _ in range(n)]
        memo_len = take(1)[0]
        need(memo_len <= 80, "D3", "memo")
        self.memo, self.signature = take(memo_len), take(64)
        self.end, self.raw = at, b[start:at]

    @classmethod
    def alone(cls, b):
        t = cls(b)
        need(t.end == len(b), "D5", "bytes after the transaction")
        return t

    def txid(self, network_id):
        return tagged("quipu/tx", network_id + self.raw[:-64])

    def leaf(self):
        return H(b"\x00" + self.raw)

    def spent(self):
        return self.fee + sum(amount for _, amount in self.outputs)

    def check(self, network_id, min_fee_rate, max_supply):
        need(all(amount >= 1 for _, amount in self.outputs), "T1", "an amount of 0")
        need(self.fee >= min_fee_rate * len(self.raw), "T2", "fee too low")
        need(self.spent() <= max_supply, "T3", "spends more than there will ever be")
        need(verify(self.sender, self.txid(network_id), self.signature), "T4", "signature")


# --- §4 Header ---

HEADER = (  # field, size; integers unless 32 bytes
    ("version", 4), ("height", 8), ("parent", 32), ("history_root", 32), ("time", 8), ("tx_root", 32),
    ("state_root", 32), ("miner", 32), ("tx_count", 4), ("body_size", 4), ("bits", 4), ("nonce", 8),
)


class Header:
    def __init__(self, b):
        need(len(b) >= 200, "D4", "header too short")
        need(len(b) <= 200, "D5", "bytes after the header")
        at = 0
        for name, size in HEADER:
            v = b[at : at + size]
            setattr(self, name, v if size == 32 else le(v))
            at += size
        self.raw, self.id = b, H(H(b))


def encode_header(values):
    return b"".join(values[name] if size == 32 else u(values[name], size) for name, size in HEADER)


# --- §6 Genesis ---

INTEGERS = {"time": 8, "spacing": 4, "half_life": 8, "body_limit": 4, "halving": 4, "min_fee_rate": 4}
DECIMALS = ("subsidy", "tail", "account_price")
CANONICAL = (
    ("time", 8), ("spacing", 4), ("half_life", 8), ("bits", 4), ("limit_bits", 4), ("body_limit", 4),
    ("subsidy", 8), ("halving", 4), ("tail", 8), ("min_fee_rate", 4), ("account_price", 8),
)
KEYS = {"name", "prefix", "bits", "limit_bits", "balances", *INTEGERS, *DECIMALS}


class Number(str):
    """A JSON number as it was written."""


def plain(text, size):
    need(text.isascii() and text.isdigit() and (text == "0" or text[0] != "0"), "G1", f"{text!r} is not plain digits")
    need(len(text) <= 20 and int(text) < 1 << 8 * size, "G1", f"{text} doesn't fit")
    return int(text)


def decimal(v):
    need(isinstance(v, str) and not isinstance(v, Number), "G1", "want a decimal string")
    return plain(v, 8)


def once(pairs):
    out = dict(pairs)
    need(len(out) == len(pairs), "G1", "a key stands twice")
    return out


def refuse(text):
    raise Broken("G1", f"{text} is not plain digits")


class Genesis:
    @classmethod
    def from_json(cls, text):
        try:
            v = json.loads(text, object_pairs_hook=once, parse_int=Number, parse_float=refuse, parse_constant=refuse)
        except (ValueError, RecursionError) as e:
            raise Broken("G1", str(e)) from None
        need(isinstance(v, dict) and set(v) == KEYS, "G1", "keys")
        g = cls()
        for key, size in INTEGERS.items():
            need(isinstance(v[key], Number), "G1", f"{key}: want an integer")
            setattr(g, key, plain(v[key], size))
        for key in DECIMALS:
            setattr(g, key, decimal(v[key]))
        for key in ("bits", "limit_bits"):
            s = v[key]
            need(isinstance(s, str) and len(s) == 8 and all(c in "0123456789abcdef" for c in s), "G1", key)
            need(not isinstance(s, Number), "G1", key)
            setattr(g, key, int(s, 16))
        for key in ("name", "prefix"):
            need(isinstance(v[key], str) and not isinstance(v[key], Number), "G1", key)
            setattr(g, key, v[key].encode("utf-8", "surrogatepass"))
        need(isinstance(v["balances"], dict), "G1", "balances")
        g.balances = {}
        for text, amount in v["balances"].items():
            try:
                account = decode_address(v["prefix"], text)
            except Broken as e:
                raise Broken("G1", str(e)) from None
            need(account not in g.balances, "G1", "an account stands twice")
            g.balances[account] = decimal(amount)
        return g.sealed()

    @classmethod
    def from_canonical(cls, b):
        at = 0

        def take(n):
            nonlocal at
            need(at + n <= len(b), "G2", "too few bytes")
            at += n
            return b[at - n : at]

        g = cls()
        need(take(1) == b"\x01", "G2", "version")
        g.name = take(take(1)[0])
        g.prefix = take(take(1)[0])
        for key, size in CANONICAL:
            setattr(g, key, le(take(size)))
        count = le(take(4))
        need(at + 40 * count == len(b), "G2", "length of the balances")
        g.balances, last = {}, b""
        for _ in range(count):
            account, amount = take(32), le(take(8))
            need(account > last, "G2", "accounts not ascending")
            g.balances[account], last = amount, account
        return g.sealed()

    def sealed(self):
        need(1 <= len(self.name) <= 32 and all(0x20 <= c <= 0x7E for c in self.name), "G3", "name")
        need(1 <= len(self.prefix) <= 10 and all(0x61 <= c <= 0x7A for c in self.prefix), "G3", "prefix")
        need(self.time < 2**53, "G3", "time")
        need(self.spacing >= 100, "G3", "spacing")
        need(32 * self.spacing <= self.half_life <= 1024 * self.spacing, "G3", "half_life")
        need(canonical_bits(self.limit_bits), "G3", "limit_bits")
        need(canonical_bits(self.bits) and to_target(self.bits) <= to_target(self.limit_bits), "G3", "bits")
        need(10399 <= self.body_limit <= 2**22, "G3", "body_limit")
        need(self.halving >= 1, "G3", "halving")
        need(all(v >= 1 for v in self.balances.values()), "G4", "a balance of 0")
        self.supply = sum(self.balances.values())
        self.max_supply = self.supply + self.all_subsidies()
        need(self.max_supply <= 2**63 - 1, "G4", "MAX_SUPPLY")
        self.network_id = tagged("quipu/genesis", self.canonical())
        return self

    def canonical(self):
        out = b"\x01" + u(len(self.name), 1) + self.name + u(len(self.prefix), 1) + self.prefix
        out += b"".join(u(getattr(self, key), size) for key, size in CANONICAL)
        out += u(len(self.balances), 4)
        return out + b"".join(a + u(self.balances[a], 8) for a in sorted(self.balances))

    def subsidy_at(self, h):
        return max(self.subsidy >> (h - 1) // self.halving, self.tail)

    def all_subsidies(self):
        """Sum over heights 1 to 2^32-1, one step an epoch of `halving` blocks until the subsidy has become constant."""
        total, h, last = 0, 1, 2**32 - 1
        while h <= last:
            n = min(self.halving, last - h + 1)
            if self.subsidy >> (h - 1) // self.halving <= self.tail:
                n = last - h + 1
            total += n * self.subsidy_at(h)
            h += n
        return total

    def block0(self):
        tree = Tree()
        for a, v in self.balances.items():
            tree.set(a, (v, 0))
        return Header(encode_header({
            "version": 1, "height": 0, "parent": self.network_id, "history_root": H(b""), "time": self.time,
            "tx_root": H(b""), "state_root": tree.root(), "miner": bytes(32), "tx_count": 0, "body_size": 0,
            "bits": self.bits, "nonce": 0,
        }))


# --- §7 Work and difficulty ---


def to_target(b):
    e, m = b >> 24, b & 0x7FFFFF
    return m << 8 * (e - 3) if e >= 3 else m >> 8 * (3 - e)


def to_bits(t):
    e = (t.bit_length() + 7) // 8
    m = t >> 8 * (e - 3) if e >= 3 else t << 8 * (3 - e)
    if m >= 1 << 23:
        m, e = m >> 8, e + 1
    return (e << 24) + m


def canonical_bits(b):
    if b & 1 << 23 or b >> 24 > 64:  # e > 64 is far above 2^256 for any m but 0
        return False
    t = to_target(b)
    return 1 <= t < 2**256 and to_bits(t) == b


def work(bits):
    return 2**256 // (to_target(bits) + 1)


def asert(anchor_bits, limit_bits, time_diff, height_diff, spacing, half_life):
    over = (time_diff - spacing * (height_diff + 1)) * 65536
    exponent = over // half_life if over >= 0 else -(-over // half_life)
    shifts, frac = exponent >> 16, exponent & 0xFFFF
    factor = 65536 + (195766423245049 * frac + 971821376 * frac**2 + 5127 * frac**3 + 2**47 >> 48)
    limit = to_target(limit_bits)
    if shifts > 600:  # above any limit, without a number of that many digits
        return to_bits(limit)
    scaled = to_target(anchor_bits) * factor
    target = scaled << shifts >> 16 if shifts >= 0 else scaled >> 16 - shifts
    return to_bits(max(1, min(target, limit)))


def next_bits(g, height, parent, grandparent_time):
    if height <= 2:
        return g.bits
    delta = min(parent.time - grandparent_time, g.spacing + 2 * g.half_life)
    return asert(parent.bits, g.limit_bits, delta, 0, g.spacing, g.half_life)


# --- §9 State tree ---


def leaf_bytes(account, state):
    return account + u(state[0], 8) + u(state[1], 8)


class Tree:
    """state_root by its definition. Hashes of subtrees with two accounts or more are remembered by (depth, path bits)
    and forgotten where an account below changes."""

    def __init__(self):
        self.paths = []  # ascending, as integers
        self.leaves = {}  # path -> leaf hash
        self.memo = {}
        self.depth = 0  # of the deepest subtree remembered

    def copy(self):
        t = Tree()
        t.paths, t.leaves, t.memo, t.depth = self.paths[:], dict(self.leaves), dict(self.memo), self.depth
        return t

    def set(self, account, state):
        path = be(H(account))
        if path not in self.leaves:
            bisect.insort(self.paths, path)
        self.leaves[path] = H(b"\x00" + leaf_bytes(account, state))
        for depth in range(self.depth + 1):
            self.memo.pop((depth, path >> 256 - depth), None)

    def root(self):
        return self.hash(0, 0, 0, len(self.paths))

    def hash(self, depth, prefix, lo, hi):
        if lo == hi:
            return bytes(32)
        if hi - lo == 1:
            return self.leaves[self.paths[lo]]
        key = depth, prefix
        if key not in self.memo:
            mid = bisect.bisect_left(self.paths, (2 * prefix + 1) << 255 - depth, lo, hi)
            left = self.hash(depth + 1, 2 * prefix, lo, mid)
            right = self.hash(depth + 1, 2 * prefix + 1, mid, hi)
            self.memo[key] = node(left, right)
            self.depth = max(self.depth, depth)
        return self.memo[key]


def check_proof(root, account, state, b):
    """state is (balance, nonce), or None for absence."""
    rule = "proof"
    need(len(b) >= 3, rule, "length")
    d, kind = le(b[:2]), b[2]
    need(d <= 256 and kind <= 1 and len(b) == 3 + 32 * d + 48 * kind, rule, "length")
    siblings = [b[3 + 32 * i : 35 + 32 * i] for i in range(d)]
    need(d == 0 or siblings[-1] != bytes(32), rule, "lowest sibling is empty")
    path = be(H(account))
    if state is not None:
        need(kind == 0, rule, "membership with another's leaf")
        need(state != (0, 0), rule, "leaf (0, 0)")
        end = H(b"\x00" + leaf_bytes(account, state))
    else:
        need(d <= 255, rule, "too deep for absence")
        end = bytes(32)
        if kind == 1:
            other = b[-48:]
            need(other[32:] != bytes(16), rule, "leaf (0, 0)")
            need(other[:32] != account, rule, "the account's own leaf")
            need(be(H(other[:32])) >> 256 - d == path >> 256 - d, rule, "leaves the path")
            end = H(b"\x00" + other)
    for i in range(d - 1, -1, -1):
        end = node(siblings[i], end) if path >> 255 - i & 1 else node(end, siblings[i])
    need(end == root, rule, "doesn't lead to the root")


def check_range(root, first, last, b):
    """Checks an answer about the paths first … last; gives its leaves and the last path that it covers."""
    rule = "range"
    first, last = be(first), be(last)
    need(len(b) >= 5 and b[0] <= 1 and le(b[1:5]) <= 65536 and len(b) >= 5 + 48 * le(b[1:5]), rule, "length")
    more, at = b[0], 5 + 48 * le(b[1:5])
    leaves = {}  # path -> leaf, ascending
    for i in range(5, at, 48):
        leaf = b[i : i + 48]
        path = be(H(leaf[:32]))
        need(leaf[32:] != bytes(16), rule, "leaf (0, 0)")
        need(first <= path <= last and path > max(leaves, default=-1), rule, "order")
        leaves[path] = leaf
    if more:
        need(leaves and max(leaves) != last, rule, "cut short without a leaf or at the end")
        last = max(leaves)

    def take(n):
        nonlocal at
        at += n
        need(at <= len(b), rule, "too few bytes")
        return b[at - n : at]

    def subtree(depth, prefix, inside):
        """The hash of the subtree written next, and how many accounts it has: 0, 1, 2 for more, or None if unknown."""
        low = prefix << 256 - depth
        high = low + (1 << 256 - depth) - 1
        where = "none" if high < first or low > last else "all" if first <= low and high <= last else "some"
        kind = take(1)[0]
        if kind == 0:
            need(where != "some" or len(inside) <= 1, rule, "a subtree not opened")
            tree = Tree()
            for path in inside:
                tree.set(leaves[path][:32], (le(leaves[path][32:40]), le(leaves[path][40:])))
            return tree.hash(depth, prefix, 0, len(inside)), min(len(inside), 2)
        if kind == 3 and where == "none":
            h = take(32)
            need(h != bytes(32), rule, "empty subtree as a hash")
            return h, None
        need(where == "some" and kind <= 2, rule, "node in the wrong place")
        if kind == 1:
            leaf = take(48)
            path = be(H(leaf[:32]))
            need(not inside and leaf[32:] != bytes(16), rule, "other leaf")
            need(low <= path <= high and not first <= path <= last, rule, "other leaf's path")
            return H(b"\x00" + leaf), 1
        middle = (2 * prefix + 1) << 255 - depth
        left, n = subtree(depth + 1, 2 * prefix, [p for p in inside if p < middle])
        right, m = subtree(depth + 1, 2 * prefix + 1, [p for p in inside if p >= middle])
        need((n, m) not in ((0, 0), (0, 1), (1, 0)), rule, "branch above fewer than two")
        return node(left, right), 2

    got, _ = subtree(0, 0, list(leaves))
    need(at == len(b), rule, "bytes after the last node")
    need(got == root, rule, "doesn't lead to the root")
    return list(leaves.values()), last


# --- The ledger: §4 header rules, §5 body rules, §8 apply ---


class Ledger:
    def __init__(self, g):
        self.g, self.tip = g, g.block0()
        self.parent_time = None
        self.work, self.issued, self.burned = 0, 0, 0
        self.accounts = {a: (v, 0) for a, v in g.balances.items()}
        self.tree, self.history = Tree(), Growing()
        for a, s in self.accounts.items():
            self.tree.set(a, s)
        self.history.append(self.tip.id + u(0, 32))

    def copy(self):
        new = Ledger.__new__(Ledger)
        new.__dict__ = dict(self.__dict__)
        new.accounts, new.tree = dict(self.accounts), self.tree.copy()
        new.history = Growing()
        new.history.peaks = self.history.peaks[:]
        return new

    def supply(self):
        return sum(balance for balance, _ in self.accounts.values())

    def add(self, h, body):
        self.check_header(h)
        txs = self.check_body(h, body)
        self.apply(h, txs)

    def check_header(self, h):
        g, parent = self.g, self.tip
        need(h.parent == parent.id, "H1", "unknown parent")
        need(h.height == parent.height + 1 and h.height < 2**32, "H2", "height")
        need(h.version == 1, "H3", "version")
        need(parent.time < h.time < 2**53, "H4", "time")
        need(h.bits == next_bits(g, h.height, parent, self.parent_time), "H5", "bits")
        need(be(h.id) <= to_target(h.bits), "H6", "work")
        need(h.history_root == self.history.root(), "H7", "history_root")
        need(h.body_size <= g.body_limit, "H8", "body_size")
        need(159 * h.tx_count <= h.body_size <= 10399 * h.tx_count, "H9", "tx_count")

    def check_body(self, h, body):
        txs, at = [], 0
        while at < len(body):
            try:
                txs.append(Tx(body, at))
            except Broken as e:
                raise Broken("B1", str(e)) from None
            at = txs[-1].end
        need(mth([t.raw for t in txs]) == h.tx_root, "B2", "tx_root")
        need(len(txs) == h.tx_count, "B3", "tx_count")
        need(len(body) == h.body_size, "B4", "body_size")
        for t in txs:
            need(t.valid_until == 0 or h.height <= t.valid_until, "B5", "expired")
        for t in txs:
            t.check(self.g.network_id, self.g.min_fee_rate, self.g.max_supply)
        return txs

    def apply(self, h, txs):
        g, accounts, touched = self.g, self.accounts, set()
        fees = burned = 0
        for t in txs:
            balance, nonce = accounts.get(t.sender, (0, 0))
            need(t.nonce == nonce, "A1", "nonce")
            need(balance >= t.spent(), "A2", "balance")
            accounts[t.sender] = balance - t.spent(), nonce + 1
            created = 0
            for to, amount in t.outputs:
                created += to not in accounts
                balance, nonce = accounts.get(to, (0, 0))
                accounts[to] = balance + amount, nonce
                touched.add(to)
            touched.add(t.sender)
            need(t.fee >= g.min_fee_rate * len(t.raw) + g.account_price * created, "A3", "accounts not paid for")
            fees, burned = fees + t.fee, burned + g.account_price * created
        reward = g.subsidy_at(h.height) + fees - burned
        if reward:
            balance, nonce = accounts.get(h.miner, (0, 0))
            accounts[h.miner] = balance + reward, nonce
            touched.add(h.miner)
        for a in touched:
            self.tree.set(a, accounts[a])
        need(self.tree.root() == h.state_root, "A4", "state_root")
        self.issued, self.burned = self.issued + g.subsidy_at(h.height), self.burned + burned
        need(self.supply() == g.supply + self.issued - self.burned, "sum", "of balances")
        self.work += work(h.bits)
        self.parent_time, self.tip = self.tip.time, h
        self.history.append(h.id + u(self.work, 32))


# --- §12 Export file ---

MAGIC = b"quipu-chain/1\n"


def read_export(b):
    """Gives a fresh ledger and an iterator over (header, body)."""
    need(b[:14] == MAGIC, "export", "first line")
    need(len(b) >= 18 and len(b) >= 18 + le(b[14:18]), "export", "genesis cut off")
    start = 18 + le(b[14:18])
    ledger = Ledger(Genesis.from_canonical(b[18:start]))

    def blocks(at):
        while at < len(b):
            need(at + 200 <= len(b), "export", "header cut off")
            h = Header(b[at : at + 200])
            need(h.body_size <= ledger.g.body_limit, "H8", "body_size")
            at += 200 + h.body_size
            need(at <= len(b), "export", "body cut off")
            yield h, b[at - h.body_size : at]

    return ledger, blocks(start)


def check_export(b, each=None):
    ledger, blocks = read_export(b)
    for h, body in blocks:
        try:
            ledger.add(h, body)
        except Broken as e:
            raise Broken(e.rule, f"block {ledger.tip.height + 1} {h.id.hex()}: {e}") from None
        if each:
            each(ledger)
    return ledger


def line(ledger):
    t = ledger.tip
    return f"height {t.height} tip {t.id.hex()} state_root {t.state_root.hex()}"


# --- §15 Vectors ---

unhex = bytes.fromhex


def same(got, want, what):
    if isinstance(got, bytes):
        got = got.hex()
    if got != want:
        raise Broken("vector", f"{what}: got {got}, want {want}")


def broken_rule(f, *args):
    try:
        f(*args)
    except Broken as e:
        return e.rule
    return "none"


def vectors_transaction(v):
    network, rate, most = unhex(v["network_id"]), v["min_fee_rate"], int(v["max_supply"])
    for c in v["transactions"]:
        raw = unhex(c["encoding"])
        t = Tx.alone(raw)
        same(t.sender, c["from"], "from")
        same([str(t.nonce), str(t.fee), t.valid_until], [c["nonce"], c["fee"], c["valid_until"]], "nonce, fee, valid_until")
        same([[to.hex(), str(n)] for to, n in t.outputs], [[o["to"], o["amount"]] for o in c["outputs"]], "outputs")
        same(t.memo, c["memo"], "memo")
        same(t.signature, c["signature"], "signature")
        built = b"\x01" + unhex(c["from"]) + u(int(c["nonce"]), 8) + u(int(c["fee"]), 8) + u(c["valid_until"], 4)
        built += u(len(c["outputs"]), 1) + b"".join(unhex(o["to"]) + u(int(o["amount"]), 8) for o in c["outputs"])
        built += u(len(c["memo"]) // 2, 1) + unhex(c["memo"]) + unhex(c["signature"])
        same(built, c["encoding"], "encoding")
        same(len(raw), c["size"], "size")
        same(t.txid(network), c["txid"], "txid")
        same(t.leaf(), c["leaf"], "leaf")
        same(broken_rule(t.check, network, rate, most), c["rule"], c["name"])
    for c in v["undecodable"]:
        same(broken_rule(Tx.alone, unhex(c["encoding"])), c["rule"], c["name"])
    return len(v["transactions"]) + len(v["undecodable"])


def vectors_signature(v):
    for c in v["signatures"]:
        msg, sig = unhex(c["message"]), unhex(c["signature"])
        same(verify(unhex(c["public_key"]), msg, sig), c["valid"], c["name"])
        if "secret" in c:
            same(public_key(unhex(c["secret"])), c["public_key"], c["name"])
            same(sign(unhex(c["secret"]), msg, unhex(c["aux"])), c["signature"], c["name"])
    return len(v["signatures"])


def vectors_header(v):
    for c in v["headers"]:
        values = {}
        for name, size in HEADER:
            x = c["header"][name]
            values[name] = unhex(x) if size == 32 else int(x, 16) if name == "bits" else int(x)
        same(encode_header(values), c["encoding"], c["name"])
        h = Header(unhex(c["encoding"]))
        for name, _ in HEADER:
            same(getattr(h, name), c["header"][name] if isinstance(getattr(h, name), bytes) else values[name], name)
        same(h.id, c["id"], "id")
        same(be(h.id) <= to_target(h.bits), c["meets_target"], c["name"])
    for c in v["undecodable"]:
        same(broken_rule(Header, unhex(c["encoding"])), c["rule"], c["name"])
    return len(v["headers"]) + len(v["undecodable"])


def vectors_merkle(v):
    for c in v["tx_roots"]:
        same(mth([unhex(x) for x in c["encodings"]]), c["root"], c["name"])
    entries, grow = [], Growing()
    for i, root in enumerate(v["history"]["roots"]):
        same(mth(entries), root, f"history_root of {i}")
        same(grow.root(), root, f"history_root of {i}")
        if i < len(v["history"]["entries"]):
            e = v["history"]["entries"][i]
            entries.append(unhex(e["id"]) + u(int(e["work"]), 32))
            same(entries[-1], e["entry"], "entry")
            grow.append(entries[-1])
    for c in v["history"]["inclusion"]:
        same([x.hex() for x in inclusion_path(c["index"], entries[: c["size"]])], c["path"], "inclusion")
    for c in v["history"]["consistency"]:
        same([x.hex() for x in consistency_proof(c["old"], entries[: c["new"]])], c["path"], "consistency")
    return sum(map(len, (v["tx_roots"], v["history"]["roots"], v["history"]["inclusion"], v["history"]["consistency"])))


def vectors_state(v):
    n = 0
    for c in v["trees"]:
        tree, states = Tree(), {}
        for x in c["leaves"]:
            states[x["account"]] = int(x["balance"]), int(x["nonce"])
            tree.set(unhex(x["account"]), states[x["account"]])
        same(tree.root(), c["root"], c["name"])
        for p in c["proofs"]:
            state = states.get(p["account"])
            same(state is not None, p["member"], "member")
            check_proof(unhex(c["root"]), unhex(p["account"]), state, unhex(p["proof"]))
        n += 1 + len(c["proofs"])
    for c in v["refused"]:
        state = (int(c["balance"]), int(c["nonce"])) if "balance" in c else None
        same(broken_rule(check_proof, unhex(c["root"]), unhex(c["account"]), state, unhex(c["proof"])), "proof", c["name"])
    return n + len(v["refused"])


def vectors_ranges(v):
    n = 0
    for c in v["trees"]:
        tree = Tree()
        by_path = {}
        for x in c["leaves"]:
            account, state = unhex(x["account"]), (int(x["balance"]), int(x["nonce"]))
            tree.set(account, state)
            by_path[be(H(account))] = leaf_bytes(account, state)
        same(tree.root(), c["root"], c["name"])
        for r in c["ranges"]:
            leaves, covered = check_range(tree.root(), unhex(r["from"]), unhex(r["to"]), unhex(r["answer"]))
            same(u_be(covered), r["covered"], "covered")
            want = [by_path[p] for p in sorted(by_path) if be(unhex(r["from"])) <= p <= covered]
            same([x.hex() for x in leaves], [x.hex() for x in want], "leaves of a range")
        n += 1 + len(c["ranges"])
    for c in v["refused"]:
        args = (unhex(c[k]) for k in ("root", "from", "to", "answer"))
        same(broken_rule(check_range, *args), "range", c["name"])
    return n + len(v["refused"])


def vectors_address(v):
    for c in v["valid"]:
        same(encode_address(c["prefix"], unhex(c["account"])), c["address"], "encode")
        for text in (c["address"], c["address"].upper()):
            same(decode_address(c["prefix"], text), c["account"], "decode")
    for c in v["refused"]:
        same(broken_rule(decode_address, c["prefix"], c["text"]), "address", c["reason"])
    return len(v["valid"]) + len(v["refused"])


def vectors_genesis(v):
    for c in v["valid"]:
        for g in (Genesis.from_json(c["json"]), Genesis.from_canonical(unhex(c["canonical"]))):
            same(g.canonical(), c["canonical"], "canonical")
            same(g.network_id, c["network_id"], "network_id")
            same(g.block0().raw, c["block0"], "block 0")
            same(g.block0().id, c["block0_id"], "id of block 0")
            same([str(g.supply), str(g.max_supply)], [c["supply"], c["max_supply"]], "supply")
    for c in v["refused_json"]:
        same(broken_rule(Genesis.from_json, c["json"]), c["rule"], c["name"])
    for c in v["refused_canonical"]:
        same(broken_rule(Genesis.from_canonical, unhex(c["canonical"])), c["rule"], c["name"])
    return len(v["valid"]) + len(v["refused_json"]) + len(v["refused_canonical"])


def vectors_bits(v):
    for c in v["canonical"]:
        b = int(c["bits"], 16)
        same(canonical_bits(b), True, c["bits"])
        same(u_be(to_target(b)), c["target"], c["bits"])
        same(str(work(b)), c["work"], c["bits"])
    for c in v["not_canonical"]:
        same(canonical_bits(int(c["bits"], 16)), False, c["bits"])
    for c in v["to_bits"]:
        same(f"{to_bits(be(unhex(c['target']))):08x}", c["bits"], c["target"])
    return len(v["canonical"]) + len(v["not_canonical"]) + len(v["to_bits"])


def vectors_asert(v):
    for c in v["cases"]:
        args = [int(c[k], 16) for k in ("anchor_bits", "limit_bits")]
        args += [int(c[k]) for k in ("time_diff", "height_diff", "spacing", "half_life")]
        same(f"{asert(*args):08x}", c["bits"], c["name"])
    n = len(v["cases"])
    for c in v["chains"]:
        g = Genesis()
        g.bits, g.limit_bits = int(c["genesis_bits"], 16), int(c["limit_bits"], 16)
        g.spacing, g.half_life = c["spacing"], c["half_life"]
        blocks = c["blocks"]  # of heights 0, 1, 2, …
        for h in range(1, len(blocks)):
            parent = Genesis()
            parent.time, parent.bits = blocks[h - 1]["time"], int(blocks[h - 1]["bits"], 16)
            grand = blocks[h - 2]["time"] if h > 1 else None
            same(f"{next_bits(g, h, parent, grand):08x}", blocks[h]["bits"], f"{c['name']}, height {h}")
        n += len(blocks) - 1
    return n


def vectors_subsidy(v):
    for c in v["schedules"]:
        g = Genesis()
        g.subsidy, g.halving, g.tail = int(c["subsidy"]), c["halving"], int(c["tail"])
        for s in c["subsidies"]:
            same(str(g.subsidy_at(s["height"])), s["knots"], f"{c['name']}, height {s['height']}")
        total = int(c["balances"]) + g.all_subsidies()
        same(str(total) if total < 2**63 else None, c["max_supply"], c["name"])
    return sum(1 + len(c["subsidies"]) for c in v["schedules"])


def vectors_chain(v):
    states = []

    def each(ledger):
        states.append(ledger.copy())

    raw = unhex(v["export"])
    first, _ = read_export(raw)
    each(first)
    last = check_export(raw, each)
    same(len(states), len(v["blocks"]), "number of blocks")
    for ledger, c in zip(states, v["blocks"]):
        t = ledger.tip
        same([t.height, t.time, f"{t.bits:08x}"], [c["height"], c["time"], c["bits"]], "height, time, bits")
        for key in ("id", "history_root", "tx_root", "state_root"):
            same(getattr(t, key), c[key], f"{key} of {t.height}")
        got = [str(x) for x in (ledger.work, ledger.issued, ledger.burned, ledger.supply())]
        same(got, [c[k] for k in ("work", "issued", "burned", "supply")], f"work, issued, burned, supply of {t.height}")
    same({a.hex(): [str(b), str(n)] for a, (b, n) in last.accounts.items()},
         {x["account"]: [x["balance"], x["nonce"]] for x in v["accounts"]}, "accounts at the tip")
    for c in v["invalid"]:
        b = unhex(c["block"])
        ledger = states[c["parent"]].copy()
        same(broken_rule(ledger.add, Header(b[:200]), b[200:]), c["rule"], c["name"])
    return len(states) + len(v["invalid"])


FILES = ("transaction", "signature", "header", "merkle", "state", "ranges", "address", "genesis", "bits", "asert", "subsidy", "chain")


def check_vectors(folder):
    for name in FILES:
        with open(os.path.join(folder, name + ".json"), encoding="utf-8") as f:
            v = json.load(f)
        try:
            n = globals()["vectors_" + name](v)
        except Broken as e:
            raise Broken(e.rule, f"{name}.json: {e}") from None
        print(f"{name}.json: {n} vectors hold")


def main(args):
    try:
        if len(args) == 2 and args[0] == "vectors":
            check_vectors(args[1])
        elif args and (len(args) == 1 or len(args) == 2 and args[0] == "-v"):
            with open(args[-1], "rb") as f:
                b = f.read()
            print(line(check_export(b, (lambda ledger: print(line(ledger))) if len(args) == 2 else None)))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except Broken as e:
        print(f"check: {e}", file=sys.stderr)
        return 1
    except OSError as e:
        print(f"check: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
