/* larder.h in C++: included first, and one handle used by several threads. */
#include "larder.h"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int threads = 4;
constexpr int rounds = 2000;

void wanted(const char *what, int result, int expected = LARDER_OK)
{
    if (result == expected)
        return;
    std::fprintf(stderr, "%s: %s (%d)\n", what, larder_strerror(result), result);
    std::exit(1);
}

/* Structs that begin with their own size. */
template <typename T> T sized()
{
    T it{};
    it.size = sizeof it;
    return it;
}

void one_thread(struct larder *handle, struct larder_ns *ns, int number)
{
    const std::string own = "own:" + std::to_string(number);
    larder_ticket ticket = 0;
    for (int i = 0; i < rounds; i++) {
        const std::string value = own + "=" + std::to_string(i);
        wanted("set", larder_set(ns, own.data(), own.size(), value.data(), value.size(), nullptr, &ticket));
        char found[64];
        std::size_t size = 0;
        wanted("get", larder_get(ns, own.data(), own.size(), found, sizeof found, &size));
        if (std::string(found, size) != value) {
            std::fprintf(stderr, "%s was read as %.*s\n", value.c_str(), static_cast<int>(size), found);
            std::exit(1);
        }
        if (i % 10 == 0) {
            auto options = sized<struct larder_incr_options>();
            options.how = LARDER_INCR_CREATE;
            wanted("incr", larder_incr(ns, "all", 3, 1, &options, nullptr, nullptr));
        }
    }
    wanted("wait", larder_wait(handle, ticket, 10000));
}

int load(void *context, const void *, std::size_t, struct larder_loaded *loaded)
{
    static const char value[] = "loaded";
    ++*static_cast<int *>(context);
    loaded->value = value;
    loaded->value_size = 6;
    return LARDER_OK;
}

} // namespace

int main()
{
    struct larder *handle = nullptr;
    auto options = sized<struct larder_options>();
    options.busy_timeout_ms = 1000;
    options.time_each = 1;
    wanted("open", larder_open(&handle, &options));
    struct larder_ns *ns = larder_default(handle);

    std::vector<std::thread> all;
    for (int i = 0; i < threads; i++)
        all.emplace_back(one_thread, handle, ns, i);
    for (auto &thread : all)
        thread.join();

    char text[32];
    auto item = sized<struct larder_item>();
    item.buffer = text;
    item.capacity = sizeof text;
    wanted("get_item", larder_get_item(ns, "all", 3, &item));
    if (std::string(text, item.value_size) != std::to_string(threads * rounds / 10)) {
        std::fprintf(stderr, "counted to %.*s\n", static_cast<int>(item.value_size), text);
        return 1;
    }
    int loads = 0;
    item = sized<struct larder_item>();
    item.buffer = text;
    item.capacity = sizeof text;
    wanted("fetch", larder_fetch(ns, "fetched", 7, load, &loads, &item, nullptr));
    auto view = sized<struct larder_view>();
    wanted("view", larder_view(ns, "fetched", 7, &view));
    const std::string viewed(static_cast<const char *>(view.data), view.value_size);
    wanted("view_end", larder_view_end(&view));
    std::uint64_t ns_of_99 = 0;
    wanted("latency", larder_latency(handle, LARDER_OP_GET, 0.99, &ns_of_99));
    wanted("miss", larder_get(ns, "none", 4, nullptr, 0, nullptr), LARDER_MISS);
    larder_close(handle);
    return loads == 1 && viewed == "loaded" && ns_of_99 > 0 ? 0 : 1;
}
