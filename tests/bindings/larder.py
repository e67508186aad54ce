"""larder from Python, by ctypes: nothing but the functions that liblarder exports.

Argument: liblarder.so. In the environment: LARDER_SOCKET.
"""
import ctypes
import json
import sys
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p, sizeof

OK, MISS, TOO_SMALL = 0, 1, 2
OP_GET, OP_SET = 0, 2


class Options(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("socket", c_char_p),
        ("open_timeout_ms", c_uint32),
        ("max_silence_ms", c_uint32),
        ("busy_timeout_ms", c_uint32),
        ("flags", c_uint32),
        ("time_each", c_uint32),
        ("reserved", c_uint32),
    ]


class SetOptions(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t),
        ("ttl_ms", c_int64),
        ("flags", c_uint32),
        ("how", c_uint32),
        ("soft_ttl_ms", c_int64),
        ("token", c_uint64),
        ("timeout_ms", c_uint32),
        ("reserved", c_uint32),
    ]


SET_WAIT = 1

lib = ctypes.CDLL(sys.argv[1])


def function(name, result, *arguments):
    it = getattr(lib, name)
    it.restype, it.argtypes = result, arguments
    return it


strerror = function("larder_strerror", c_char_p, c_int)
version = function("larder_version", c_char_p)
larder_open = function("larder_open", c_int, POINTER(c_void_p), POINTER(Options))
close = function("larder_close", None, c_void_p)
ns_create = function("larder_ns_create", c_int, c_void_p, c_char_p, c_void_p, POINTER(c_void_p))
ns_reset = function("larder_ns_reset", c_int, c_void_p)
larder_get = function("larder_get", c_int, c_void_p, c_char_p, c_size_t, c_void_p, c_size_t, POINTER(c_size_t))
larder_set = function(
    "larder_set", c_int, c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, POINTER(SetOptions), POINTER(c_uint64)
)
stats_json = function("larder_stats_json", c_int, c_void_p, c_void_p, c_size_t, POINTER(c_size_t))
latency = function("larder_latency", c_int, c_void_p, c_int, c_double, POINTER(c_uint64))


def wanted(what, result, expected=OK):
    if result != expected:
        sys.exit(f"{what}: {strerror(result).decode()} ({result}), not {expected}")


def get(ns, key):
    size = c_size_t()
    buffer = ctypes.create_string_buffer(64)
    result = larder_get(ns, key, len(key), buffer, len(buffer), byref(size))
    if result == TOO_SMALL:
        buffer = ctypes.create_string_buffer(size.value)
        result = larder_get(ns, key, len(key), buffer, len(buffer), byref(size))
    if result == MISS:
        return None
    wanted("get", result)
    return buffer.raw[: size.value]


def stats(handle):
    size = c_size_t()
    wanted("stats_json", stats_json(handle, None, 0, byref(size)), TOO_SMALL)
    buffer = ctypes.create_string_buffer(size.value + 256)  # it may grow meanwhile
    wanted("stats_json", stats_json(handle, buffer, len(buffer), byref(size)))
    assert len(buffer.value) == size.value, "the size is the text's without its zero byte"
    return json.loads(buffer.value)


handle, ns = c_void_p(), c_void_p()
options = Options(size=sizeof(Options), time_each=1)
wanted("open", larder_open(byref(handle), byref(options)))
wanted("ns_create", ns_create(handle, b"from-python", None, byref(ns)))

assert get(ns, b"missing") is None
for value in (b"", b"a value", bytes(range(256)) * 100):
    ticket = c_uint64()
    wanted("set", larder_set(ns, b"key", 3, value, len(value), None, byref(ticket)))
    assert ticket.value != 0
    assert get(ns, b"key") == value
for i in range(200):
    assert get(ns, b"key") is not None

before = stats(handle)
wanted("reset", ns_reset(ns))
assert get(ns, b"key") is None, "what was there before a reset is gone"
visible = SetOptions(size=sizeof(SetOptions), ttl_ms=60000, how=SET_WAIT)
wanted("set", larder_set(ns, b"key", 3, b"after", 5, byref(visible), None))
assert get(ns, b"key") == b"after"
after = stats(handle)
assert isinstance(before, dict) and before != after, "the figures stand still"
assert "from-python" in json.dumps(after), "no figures of the namespace"

for op in (OP_GET, OP_SET):
    quantiles = []
    for q in (0.5, 0.99, 1.0):
        nanoseconds = c_uint64()
        wanted("latency", latency(handle, op, q, byref(nanoseconds)))
        quantiles.append(nanoseconds.value)
    assert 0 < quantiles[0] <= quantiles[1] <= quantiles[2] < 10**10, quantiles
    print(f"operation {op}: p50, p99, longest {quantiles} ns")

wanted("set without a key", larder_set(ns, b"", 0, b"x", 1, None, None), -22)
wanted("reset of nothing", ns_reset(None), -22)
close(handle)
print(f"liblarder {version().decode()} from Python {sys.version.split()[0]}")
