/* Limits, from made-up machines, and pages, from this one. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/pages.h"
#include "shm/layout.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static char root[64];
static struct lrd_limits limits;
static char why[LRD_WHY_BYTES];

static void setup(void)
{
    strcpy(root, "/tmp/check_pages.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    ck_assert_int_eq(system(command), 0);
}

/* A file of the made-up machine, with the folders it lies in. */
__attribute__((format(printf, 2, 3))) static void put(const char *path, const char *format, ...)
{
    char name[512];
    va_list args;
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *slash = strchr(name + strlen(root) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(name, 0755);
        *slash = '/';
    }
    FILE *f = fopen(name, "w");
    ck_assert_ptr_nonnull(f);
    va_start(args, format);
    vfprintf(f, format, args);
    va_end(args);
    fclose(f);
}

static void machine(uint64_t available)
{
    put("/proc/meminfo", "MemTotal:       99999999 kB\nMemFree:        5 kB\nMemAvailable:   %llu kB\nHugePages_Free: 0\n", (unsigned long long)available / 1024);
}

static void v2_machine(const char *own_path, const char *mounted)
{
    machine(64 * GIB);
    put("/proc/self/cgroup", "1:name=systemd:/x\n0::%s\n", own_path);
    put("/proc/self/mountinfo", "25 1 0:22 / /sys rw - sysfs sysfs rw\n30 25 0:26 %s /cg rw,nosuid shared:9 - cgroup2 cgroup2 rw\n", mounted);
}

START_TEST(no_limits)
{
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.cgroup_room, UINT64_MAX);
    ck_assert_uint_eq(limits.available, UINT64_MAX);
    ck_assert_uint_eq(limits.huge_free, 0);
    ck_assert(lrd_limits_allow(&limits, 4 * GIB, GIB, false, why));
}
END_TEST

START_TEST(memory_of_the_machine)
{
    machine(4 * GIB);
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.available, 4 * GIB);
    ck_assert(lrd_limits_allow(&limits, 3 * GIB, 512 * MIB, false, why));
    ck_assert(!lrd_limits_allow(&limits, 3 * GIB, GIB, false, why));
    ck_assert_ptr_nonnull(strstr(why, "3G for the segment and 1G for the lanes"));
    ck_assert_ptr_nonnull(strstr(why, "4G available"));
    ck_assert(!lrd_limits_allow(&limits, UINT64_MAX - 5, 100, false, why));
    ck_assert(!lrd_limits_allow(&limits, UINT64_MAX / 2, UINT64_MAX / 2, false, why));
}
END_TEST

START_TEST(huge_pages_of_the_pool)
{
    machine(GIB);
    put("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "600\n");
    put("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "88\n");
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.huge_free, GIB);
    ck_assert(lrd_limits_allow(&limits, GIB, 100 * MIB, true, why)); /* only the lanes take other memory */
    ck_assert(!lrd_limits_allow(&limits, GIB + 2 * MIB, 100 * MIB, true, why));
    ck_assert_ptr_nonnull(strstr(why, "513 huge pages"));
    ck_assert(!lrd_limits_allow(&limits, GIB, GIB, true, why));
}
END_TEST

START_TEST(the_tightest_level_of_v2_counts)
{
    v2_machine("/a/b", "/");
    put("/cg/memory.stat", "inactive_file 0\n"); /* the root has no memory.max */
    put("/cg/a/memory.max", "%llu\n", (unsigned long long)(2 * GIB));
    put("/cg/a/memory.current", "%llu\n", (unsigned long long)(GIB + 512 * MIB));
    put("/cg/a/memory.stat", "anon 5\nfile 99\ninactive_file %llu\nactive_file %llu\n", (unsigned long long)(200 * MIB), (unsigned long long)(56 * MIB));
    put("/cg/a/b/memory.max", "max\n");
    put("/cg/a/b/memory.current", "7\n");
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.cgroup_limit, 2 * GIB);
    ck_assert_uint_eq(limits.cgroup_room, 768 * MIB);
    ck_assert_ptr_nonnull(strstr(limits.cgroup_file, "/cg/a/memory.max"));
    ck_assert(lrd_limits_allow(&limits, 512 * MIB, 128 * MIB, false, why));
    ck_assert(!lrd_limits_allow(&limits, 512 * MIB, 256 * MIB, false, why));
    ck_assert_ptr_nonnull(strstr(why, "768M of 2G are left by"));

    put("/cg/a/b/memory.max", "%llu\n", (unsigned long long)(100 * MIB));
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.cgroup_room, 100 * MIB - 7);
}
END_TEST

START_TEST(v2_in_a_container)
{
    v2_machine("/docker/1234/inner", "/docker/1234");
    put("/cg/memory.max", "%llu\n", (unsigned long long)(300 * MIB));
    put("/cg/memory.current", "0\n");
    put("/cg/inner/memory.max", "%llu\n", (unsigned long long)(200 * MIB));
    put("/cg/inner/memory.current", "0\n");
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.cgroup_room, 200 * MIB);
    /* A mount that does not show our own folder: its top is what there is. */
    v2_machine("/elsewhere", "/docker/1234");
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.cgroup_room, 300 * MIB);
}
END_TEST

START_TEST(v1)
{
    machine(64 * GIB);
    put("/proc/self/cgroup", "9:cpu,cpuacct:/other\n4:memory:/m/n\n0::/\n");
    put("/proc/self/mountinfo", "31 25 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n32 25 0:28 / /cg/memory rw - cgroup cgroup rw,memory\n");
    put("/cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/cg/memory/m/memory.limit_in_bytes", "%llu\n", (unsigned long long)(128 * MIB));
    put("/cg/memory/m/memory.usage_in_bytes", "%llu\n", (unsigned long long)(64 * MIB));
    put("/cg/memory/m/memory.stat", "cache 1\ntotal_inactive_file %llu\ntotal_active_file 0\n", (unsigned long long)(32 * MIB));
    put("/cg/memory/m/n/memory.limit_in_bytes", "9223372036854771712\n");
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.cgroup_limit, 128 * MIB);
    ck_assert_uint_eq(limits.cgroup_room, 96 * MIB);
}
END_TEST

START_TEST(nonsense_is_no_limit)
{
    v2_machine("/a", "/");
    put("/cg/a/memory.max", "plenty\n");
    put("/proc/meminfo", "nothing\n");
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.cgroup_room, UINT64_MAX);
    ck_assert_uint_eq(limits.available, UINT64_MAX);
    put("/proc/self/cgroup", "\n:::\n0\n");
    put("/proc/self/mountinfo", "\n - \n1 2 3 - cgroup2\n");
    lrd_limits_read(root, &limits);
    ck_assert_uint_eq(limits.cgroup_room, UINT64_MAX);
}
END_TEST

START_TEST(counting_pages)
{
    uint64_t tier[4];
    char name[128];
    put("/smaps", "7f0000000000-7f0000200000 rw-s 0 00:01 5 /memfd:other\nRss: 2048 kB\nShmemPmdMapped: 2048 kB\n"
                  "7f0000400000-7f0000800000 rw-s 0 00:01 6 /memfd:larder\nSize: 4096 kB\nRss: 4096 kB\nShmemPmdMapped: 2048 kB\nShared_Hugetlb: 0 kB\n"
                  "7f0000800000-7f0000a00000 rw-s 0 00:01 6 /memfd:larder\nRss: 0 kB\nPrivate_Hugetlb: 2048 kB\n");
    snprintf(name, sizeof name, "%s/smaps", root);
    lrd_pages_count(name, (const void *)UINT64_C(0x7f0000400000), 6 * MIB, tier);
    ck_assert_uint_eq(tier[LRD_PAGES_SMALL], 2 * MIB);
    ck_assert_uint_eq(tier[LRD_PAGES_THP], 2 * MIB);
    ck_assert_uint_eq(tier[LRD_PAGES_HUGETLB], 2 * MIB);
}
END_TEST

static void make(struct lrd_pages *p, enum lrd_pages_wish wish)
{
    ck_assert_msg(lrd_pages_make(p, 16 * MIB, MIB, wish, (struct lrd_numa_wish){.policy = LRD_NUMA_NONE}, why) == 0, "%s", why);
    ck_assert_uint_eq((uintptr_t)p->base % LRD_HUGE, 0);
    ck_assert_uint_eq(p->bytes, 16 * MIB);
    /* All of it is there, whatever it is made of. */
    ck_assert_uint_eq(p->tier_bytes[LRD_PAGES_SMALL] + p->tier_bytes[LRD_PAGES_THP] + p->tier_bytes[LRD_PAGES_HUGETLB], 16 * MIB);
}

START_TEST(whatever_pages_there_are)
{
    struct lrd_pages p;
    make(&p, LRD_PAGES_WISH_AUTO);
    lrd_pages_drop(&p);
    ck_assert_int_eq(p.fd, -1);
    ck_assert_ptr_null(p.base);
}
END_TEST

START_TEST(small_pages)
{
    struct lrd_pages p;
    make(&p, LRD_PAGES_WISH_SMALL);
    ck_assert_uint_eq(p.tier_bytes[LRD_PAGES_SMALL], 16 * MIB);
    lrd_pages_drop(&p);
}
END_TEST

START_TEST(sealed_pages_are_written_by_us_only)
{
    struct lrd_pages p;
    char byte = 1;
    make(&p, LRD_PAGES_WISH_AUTO);
    ck_assert_int_eq(lrd_pages_seal(&p), 0);
    memset(p.base, 1, p.bytes); /* our mapping goes on */
    ck_assert_ptr_eq(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, p.fd, 0), MAP_FAILED);
    ck_assert_int_eq(pwrite(p.fd, &byte, 1, 0), -1);
    ck_assert_int_eq(ftruncate(p.fd, 0), -1);
    ck_assert_int_eq(fallocate(p.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)MIB), -1);
    ck_assert_int_eq(fcntl(p.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    lrd_pages_drop(&p);
}
END_TEST

START_TEST(more_than_there_is)
{
    struct lrd_pages p;
    int before = dup(0);
    close(before);
    ck_assert_int_lt(lrd_pages_make(&p, UINT64_C(1) << 46, 0, LRD_PAGES_WISH_AUTO, (struct lrd_numa_wish){.policy = LRD_NUMA_NONE}, why), 0);
    ck_assert_ptr_nonnull(strstr(why, "64T for the segment"));
    ck_assert_int_lt(lrd_pages_make(&p, UINT64_C(1) << 46, 0, LRD_PAGES_WISH_HUGETLB, (struct lrd_numa_wish){.policy = LRD_NUMA_NONE}, why), 0);
    ck_assert_ptr_nonnull(strstr(why, "33554432 huge pages"));
    int after = dup(0);
    close(after);
    ck_assert_int_eq(after, before); /* no descriptor is left */
}
END_TEST

START_TEST(a_memory_node_that_is_not)
{
    struct lrd_pages p;
    ck_assert_int_lt(lrd_pages_make(&p, 16 * MIB, 0, LRD_PAGES_WISH_SMALL, (struct lrd_numa_wish){.policy = LRD_NUMA_BIND, .node = 1000}, why), 0);
    ck_assert_ptr_nonnull(strstr(why, "--numa"));
    ck_assert_ptr_null(p.base);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pages");
    TCase *tc = tcase_create("pages");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, no_limits);
    tcase_add_test(tc, memory_of_the_machine);
    tcase_add_test(tc, huge_pages_of_the_pool);
    tcase_add_test(tc, the_tightest_level_of_v2_counts);
    tcase_add_test(tc, v2_in_a_container);
    tcase_add_test(tc, v1);
    tcase_add_test(tc, nonsense_is_no_limit);
    tcase_add_test(tc, counting_pages);
    tcase_add_test(tc, whatever_pages_there_are);
    tcase_add_test(tc, small_pages);
    tcase_add_test(tc, sealed_pages_are_written_by_us_only);
    tcase_add_test(tc, more_than_there_is);
    tcase_add_test(tc, a_memory_node_that_is_not);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
