// larder from Node, by an FFI: nothing but the functions that liblarder exports.
// Arguments: the folder with node_modules, liblarder.so. In the environment: LARDER_SOCKET.
"use strict";
const assert = require("node:assert");
const path = require("node:path");

const [folder, so] = process.argv.slice(2);
const koffi = require(path.join(folder, "node_modules", "koffi"));

const OK = 0, MISS = 1, TOO_SMALL = 2;
const OP_GET = 0, OP_SET = 2;
const SET_WAIT = 1;

koffi.opaque("larder");
koffi.opaque("larder_ns");
koffi.struct("larder_options", {
    size: "size_t", socket: "str", open_timeout_ms: "uint32", max_silence_ms: "uint32", busy_timeout_ms: "uint32", flags: "uint32", time_each: "uint32", reserved: "uint32",
});
koffi.struct("larder_set_options", {
    size: "size_t", ttl_ms: "int64", flags: "uint32", how: "uint32", soft_ttl_ms: "int64", token: "uint64", timeout_ms: "uint32", reserved: "uint32",
});

const lib = koffi.load(so);
const strerror = lib.func("const char *larder_strerror(int result)");
const version = lib.func("const char *larder_version()");
const open = lib.func("int larder_open(_Out_ larder **out, const larder_options *options)");
const close = lib.func("void larder_close(larder *handle)");
const nsCreate = lib.func("int larder_ns_create(larder *handle, const char *name, const void *options, _Out_ larder_ns **out)");
const nsReset = lib.func("int larder_ns_reset(larder_ns *ns)");
const larderGet = lib.func("int larder_get(larder_ns *ns, const void *key, size_t key_size, void *buffer, size_t capacity, _Out_ size_t *size)");
const larderSet = lib.func("int larder_set(larder_ns *ns, const void *key, size_t key_size, const void *value, size_t value_size, " +
    "const larder_set_options *options, _Out_ uint64_t *ticket)");
const statsJson = lib.func("int larder_stats_json(larder *handle, void *buffer, size_t capacity, _Out_ size_t *size)");
const larderLatency = lib.func("int larder_latency(larder *handle, int op, double quantile, _Out_ uint64_t *ns)");

function wanted(what, result, expected = OK) {
    assert.strictEqual(result, expected, `${what}: ${strerror(result)} (${result}), not ${expected}`);
}

function get(ns, key) {
    const size = [0];
    let buffer = Buffer.alloc(64);
    let result = larderGet(ns, key, key.length, buffer, buffer.length, size);
    if (result === TOO_SMALL) {
        buffer = Buffer.alloc(size[0]);
        result = larderGet(ns, key, key.length, buffer, buffer.length, size);
    }
    if (result === MISS)
        return null;
    wanted("get", result);
    return buffer.subarray(0, size[0]);
}

function set(ns, key, value, options = null) {
    const ticket = [0];
    wanted("set", larderSet(ns, key, key.length, value, value.length, options, ticket));
    return ticket[0];
}

function stats(handle) {
    const size = [0];
    wanted("stats_json", statsJson(handle, null, 0, size), TOO_SMALL);
    const buffer = Buffer.alloc(Number(size[0]) + 256); // it may grow meanwhile
    wanted("stats_json", statsJson(handle, buffer, buffer.length, size));
    return JSON.parse(buffer.toString("latin1", 0, Number(size[0])));
}

const options = {size: koffi.sizeof("larder_options"), socket: null, open_timeout_ms: 0, max_silence_ms: 0, busy_timeout_ms: 0, flags: 0, time_each: 1, reserved: 0};
const out = [null];
wanted("open", open(out, options));
const handle = out[0];
wanted("ns_create", nsCreate(handle, "from-node", null, out));
const ns = out[0];

const key = Buffer.from("key");
assert.strictEqual(get(ns, Buffer.from("missing")), null);
for (const value of [Buffer.alloc(0), Buffer.from("a value"), Buffer.alloc(25600, "0123456789")]) {
    assert.ok(set(ns, key, value) > 0);
    assert.ok(get(ns, key).equals(value));
}
for (let i = 0; i < 200; i++)
    assert.ok(get(ns, key) !== null);

const before = stats(handle);
wanted("reset", nsReset(ns));
assert.strictEqual(get(ns, key), null, "what was there before a reset is gone");
set(ns, key, Buffer.from("after"), {
    size: koffi.sizeof("larder_set_options"), ttl_ms: 60000, flags: 0, how: SET_WAIT, soft_ttl_ms: 0, token: 0, timeout_ms: 0, reserved: 0,
});
assert.strictEqual(get(ns, key).toString(), "after");
const after = stats(handle);
assert.notDeepStrictEqual(before, after, "the figures stand still");
assert.ok(JSON.stringify(after).includes("from-node"), "no figures of the namespace");

for (const op of [OP_GET, OP_SET]) {
    const quantiles = [0.5, 0.99, 1].map((q) => {
        const ns = [0];
        wanted("latency", larderLatency(handle, op, q, ns));
        return Number(ns[0]);
    });
    assert.ok(0 < quantiles[0] && quantiles[0] <= quantiles[1] && quantiles[1] <= quantiles[2] && quantiles[2] < 1e10, String(quantiles));
    console.log(`operation ${op}: p50, p99, longest ${quantiles} ns`);
}

wanted("set without a key", larderSet(ns, key, 0, key, 1, null, [0]), -22);
wanted("reset of nothing", nsReset(null), -22);
close(handle);
console.log(`liblarder ${version()} from Node ${process.version}`);
