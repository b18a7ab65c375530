"""philox.py: Detent's random numbers in numpy: Philox 4x32-10 keyed by (seed, stream, substream, index), and the first
values of params that are made from them. What base/rng.c and runtime/init.c do, written a second time, so that a network
in PyTorch starts from the same weights without a file of weights.
"""
import ctypes
import ctypes.util

import numpy as np

_MASK = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(ctr, key):
    """ctr: four u64 arrays of 32-bit words, key: two ints. The four words that come out."""
    c0, c1, c2, c3 = ctr
    k0, k1 = key
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ np.uint64(k0), p1 & _MASK, (p0 >> _32) ^ c3 ^ np.uint64(k1), p0 & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def words(seed, stream, substream, n):
    """The four words of draws 0..n-1 of a stream."""
    index = np.arange(n, dtype=np.uint64)
    full = [np.full(n, v, np.uint64) for v in (substream, stream)]
    return philox((index & _MASK, index >> _32, *full), (seed & 0xFFFFFFFF, seed >> 32))


def u32(seed, stream, substream, n):
    return words(seed, stream, substream, n)[0].astype(np.uint32)


def uniform(seed, stream, substream, n):
    """[0, 1), 24 bits"""
    return ((words(seed, stream, substream, n)[0] >> np.uint64(8)).astype(np.float64) * 2.0**-24).astype(np.float32)


def normal(seed, stream, substream, n):
    """Box-Muller in double; the sine is not used."""
    w = words(seed, stream, substream, n)
    radius = np.sqrt(-2 * np.log((w[0].astype(np.float64) + 1) * 2.0**-32))
    return (radius * np.cos(2 * np.pi * 2.0**-32 * w[1].astype(np.float64))).astype(np.float32)


class _Hash128(ctypes.Structure):
    _fields_ = [("lo", ctypes.c_uint64), ("hi", ctypes.c_uint64)]


def hash_u32(text):
    """The low 32 bits of XXH3-128, from the library that Detent links."""
    lib = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
    lib.XXH3_128bits.restype = _Hash128
    lib.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    data = text.encode()
    return lib.XXH3_128bits(data, len(data)).lo & 0xFFFFFFFF


def first_values(seed, name, shape, kind, fan):
    """tensor_init() of the tensor `name`: kaiming N(0, 2 / fan), torch uniform in +-1 / sqrt(fan), zeros, ones."""
    n = int(np.prod(shape))
    at = (seed, hash_u32("init"), hash_u32(name), n)
    if kind == "kaiming":
        x = np.sqrt(2.0 / fan) * normal(*at).astype(np.float64)
    elif kind == "torch":
        x = (2.0 * uniform(*at).astype(np.float64) - 1.0) / np.sqrt(float(fan))
    else:
        x = np.full(n, {"zeros": 0.0, "ones": 1.0}[kind])
    return x.astype(np.float32).reshape(shape)


def check():
    """The authors' known answers (Random123, kat_vectors)."""
    def one(ctr, key):
        return [int(w[0]) for w in philox([np.array([c], np.uint64) for c in ctr], key)]
    assert one([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert one([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


check()
