/* Options: every way in, every type, and what is said about what cannot be understood. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"

static struct lrd_config config;
static char why[LRD_WHY_BYTES];
static char file[64];

static void setup(void)
{
    setenv("LARDER_SOCKET", "/nowhere/larder.sock", 1);
    strcpy(file, "/tmp/check_config.XXXXXX");
    int fd = mkstemp(file);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void teardown(void)
{
    lrd_config_free(&config);
    unlink(file);
}

#define read_line(...) read_words((const char *[]){"larderd", __VA_ARGS__, NULL})

static enum lrd_config_result read_words(const char *const words[])
{
    char *argv[16];
    int argc = 0;
    lrd_config_free(&config);
    for (; words[argc] != NULL; argc++)
        argv[argc] = strdup(words[argc]);
    argv[argc] = NULL;
    enum lrd_config_result result = lrd_config_read(&config, argc, argv, why);
    while (argc > 0)
        free(argv[--argc]);
    return result;
}

static void write_file(const char *text)
{
    FILE *f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void expect_wrong(enum lrd_config_result result, const char *part)
{
    ck_assert_int_eq(result, LRD_CONFIG_WRONG);
    ck_assert_msg(strstr(why, part) != NULL, "\"%s\" is not in \"%s\"", part, why);
    ck_assert_msg(strchr(why, '\n') == NULL, "more than a line: %s", why);
}

START_TEST(defaults)
{
    ck_assert_int_eq(read_line("--foreground"), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.memory, UINT64_C(256) << 20);
    ck_assert_uint_eq(config.average_item, 256);
    ck_assert_double_eq_tol(config.table_load, 0.70, 1e-9);
    ck_assert_uint_eq(config.ring, 2u << 20);
    ck_assert_uint_eq(config.max_clients, 64);
    ck_assert_uint_eq(config.socket_mode, 0660);
    ck_assert_uint_eq(config.pages, LRD_PAGES_WISH_AUTO);
    ck_assert_int_eq(config.numa.policy, LRD_NUMA_NONE);
    ck_assert_str_eq(config.socket, "/nowhere/larder.sock");
    ck_assert_str_eq(config.dump_dir, "/nowhere");
    ck_assert_uint_eq(config.block_size, 0);
    ck_assert_uint_eq(config.blocks, 0);
    ck_assert_uint_eq(config.namespaces.n, 0);
    ck_assert_uint_eq(config.client_namespaces, 0);
    ck_assert(!config.check_only);
}
END_TEST

START_TEST(without_a_place_for_the_socket)
{
    unsetenv("LARDER_SOCKET");
    setenv("XDG_RUNTIME_DIR", "/tmp/rt", 1);
    ck_assert_int_eq(read_line("--foreground"), LRD_CONFIG_RUN);
    ck_assert_str_eq(config.socket, geteuid() == 0 ? "/run/larder/default.sock" : "/tmp/rt/larder/default.sock");
    if (geteuid() == 0)
        return;
    unsetenv("XDG_RUNTIME_DIR");
    expect_wrong(read_line("--foreground"), "--socket PATH");
}
END_TEST

START_TEST(sizes)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"8388608", 8388608},
        {"8M", 8 << 20},
        {"16m", 16 << 20},
        {"9000k", 9000 << 10},
        {"4G", UINT64_C(4) << 30},
        {"4GiB", UINT64_C(4) << 30},
        {"2T", UINT64_C(2) << 40},
    };
    static const char *const bad[] = {"", "G", "4X", "4GB", "4 G", "-4G", "+4G", " 4G", "4G ", "0x1000000", "1.5G", "1M", "99999999999999999999", "18446744073709551615T"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_int_eq(read_line("--memory", good[i].text), LRD_CONFIG_RUN);
        ck_assert_uint_eq(config.memory, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_wrong(read_line("--memory", bad[i]), "--memory: ");
    expect_wrong(read_line("--ring", "4M"), "from 4K to 2M");
}
END_TEST

START_TEST(other_types)
{
    ck_assert_int_eq(read_line("--max-clients=7", "--table-load", ".5", "--socket-mode", "600", "--pages=thp", "--numa", "bind:3"), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.max_clients, 7);
    ck_assert_double_eq_tol(config.table_load, 0.5, 1e-9);
    ck_assert_uint_eq(config.socket_mode, 0600);
    ck_assert_uint_eq(config.pages, LRD_PAGES_WISH_THP);
    ck_assert_str_eq(lrd_config_choice(&config, pages), "thp");
    ck_assert_int_eq(config.numa.policy, LRD_NUMA_BIND);
    ck_assert_uint_eq(config.numa.node, 3);
    expect_wrong(read_line("--max-clients", "0"), "from 1 to 65536");
    expect_wrong(read_line("--max-clients", "many"), "\"many\"");
    expect_wrong(read_line("--max-clients", "4294967297"), "from 1 to");
    expect_wrong(read_line("--table-load", "1.5"), "from 0.05 to 0.90");
    expect_wrong(read_line("--table-load", "nan"), "from 0.05");
    expect_wrong(read_line("--table-load", "0.5x"), "from 0.05");
    expect_wrong(read_line("--socket-mode", "0999"), "octal");
    expect_wrong(read_line("--socket-mode", "01777"), "octal");
    expect_wrong(read_line("--pages", "huge"), "auto|hugetlb|thp|small");
    expect_wrong(read_line("--pages", "auto|"), "auto|hugetlb|thp|small");
    expect_wrong(read_line("--numa", "bind:"), "bind:N");
    expect_wrong(read_line("--numa", "bind:x"), "bind:N");
    ck_assert_int_eq(read_line("--block-size", "256K", "--blocks", "100", "--client-namespaces", "62"), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.block_size, 256 << 10);
    ck_assert_uint_eq(config.blocks, 100);
    ck_assert_uint_eq(config.client_namespaces, 62);
    expect_wrong(read_line("--block-size", "4M"), "from 0 to 2M");
    expect_wrong(read_line("--blocks", "-1"), "from 0 to");
    expect_wrong(read_line("--client-namespaces", "63"), "from 0 to 62");
}
END_TEST

/* ---- lists ---- */

START_TEST(namespaces)
{
    ck_assert_int_eq(read_line("--namespace", "sessions,min=64M,ttl=30m", "--memory", "1G", "--namespace=frames,policy=fifo", "--namespace", "default,ttl=1h"), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.namespaces.n, 3);
    ck_assert_str_eq(config.namespaces.at[0].name, "sessions");
    ck_assert_uint_eq(config.namespaces.at[0].min_bytes, 64 << 20);
    ck_assert_str_eq(config.namespaces.at[1].name, "frames");
    ck_assert_uint_eq(config.namespaces.at[1].policy, LRD_POLICY_FIFO);
    ck_assert_str_eq(config.namespaces.at[2].name, "default");
    expect_wrong(read_line("--namespace", "a,policy=lru"), "--namespace: a: \"policy=lru\" does not do: say evict, fifo or refuse");
    expect_wrong(read_line("--namespace", ""), "--namespace: \"\" is no name");
    expect_wrong(read_line("--namespace"), "--namespace needs a value");
    expect_wrong(read_line("--namespace", "a", "--namespace", "b", "--namespace", "a,min=1M"), "--namespace: a is there twice: say all about it in one");
}
END_TEST

START_TEST(namespaces_from_a_file)
{
    write_file("namespace = {\"a,min=1M\", \"b,policy=fifo,max=128M,reset-every=16ms\",\n  c}\nmax-clients = 3\n");
    ck_assert_int_eq(read_line("--config", file), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.namespaces.n, 3);
    ck_assert_str_eq(config.namespaces.at[0].name, "a");
    ck_assert_uint_eq(config.namespaces.at[1].reset_every_ms, 16);
    ck_assert_str_eq(config.namespaces.at[2].name, "c");
    ck_assert_uint_eq(config.max_clients, 3);

    /* The command line's come first, and instead of the file's of the same name. */
    ck_assert_int_eq(read_line("--namespace", "d", "--config", file, "--namespace", "a,min=2M"), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.namespaces.n, 4);
    ck_assert_str_eq(config.namespaces.at[0].name, "d");
    ck_assert_str_eq(config.namespaces.at[1].name, "a");
    ck_assert_uint_eq(config.namespaces.at[1].min_bytes, 2 << 20);
    ck_assert_str_eq(config.namespaces.at[2].name, "b");
    ck_assert_str_eq(config.namespaces.at[3].name, "c");

    write_file("namespace = \"a,min=1M\"\n");
    ck_assert_int_eq(read_line("--config", file), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.namespaces.n, 1);
    write_file("namespace = {a}\nnamespace = {b}\n"); /* as with every option, the last one counts; += adds */
    ck_assert_int_eq(read_line("--config", file), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.namespaces.n, 1);
    ck_assert_str_eq(config.namespaces.at[0].name, "b");
    write_file("namespace = {a}\nnamespace += {b}\n");
    ck_assert_int_eq(read_line("--config", file), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.namespaces.n, 2);
    write_file("namespace = {}\n");
    ck_assert_int_eq(read_line("--config", file), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.namespaces.n, 0);
}
END_TEST

/* The enumerators follow the words in params.def. */
START_TEST(words_and_enumerators)
{
    static const char *const pages[] = {"auto", "hugetlb", "thp", "small"};
    for (uint32_t i = 0; i < 4; i++)
        ck_assert_str_eq(lrd_config_word("pages", i), pages[i]);
    ck_assert_int_eq(LRD_PAGES_WISH_SMALL, 3);
    ck_assert_str_eq(lrd_config_word("pages", 4), "?");
    ck_assert_str_eq(lrd_config_word("nothing", 0), "?");
}
END_TEST

START_TEST(command_line_errors)
{
    expect_wrong(read_line("--memroy", "1G"), "unknown option --memroy");
    expect_wrong(read_line("-m", "1G"), "unknown option -m");
    expect_wrong(read_line("--memory"), "--memory needs a value");
    expect_wrong(read_line("here"), "\"here\"");
    expect_wrong(read_line("--memory", "1\n2\x1b"), "1?2?");
}
END_TEST

START_TEST(from_a_file)
{
    write_file("# a comment\nmemory = 64M\nmax-clients = 3\nsocket = \"/tmp/a b.sock\"\ntable-load=0.6\nnuma = bind:1\n");
    ck_assert_int_eq(read_line("--config", file), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.memory, 64 << 20);
    ck_assert_uint_eq(config.max_clients, 3);
    ck_assert_str_eq(config.socket, "/tmp/a b.sock");
    ck_assert_double_eq_tol(config.table_load, 0.6, 1e-9);
    ck_assert_uint_eq(config.numa.node, 1);
}
END_TEST

START_TEST(the_command_line_wins)
{
    write_file("memory = 64M\nmax-clients = 3\n");
    ck_assert_int_eq(read_line("--memory", "32M", "--config", file), LRD_CONFIG_RUN);
    ck_assert_uint_eq(config.memory, 32 << 20);
    ck_assert_uint_eq(config.max_clients, 3);
}
END_TEST

START_TEST(file_errors_name_the_line)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"memory = 64M\nmax-clients = none\n", ":2: max-clients: \"none\""},
        {"\n\nmemroy = 64M\n", ":3: "},
        {"memory 64M\n", ":1: "},
        {"memory = \n", ":"},
        {"pages = huge\n", ":1: pages: \"huge\" does not do: say one of auto|hugetlb|thp|small"},
        {"config = other\n", ":1: "},
        {"memory = {1, 2}\n", ":1: "},
        {"max-clients = 3\nnamespace = {\"a\",\n\"b,min=lots\"}\n", ":3: namespace: b: \"min=lots\" does not do: say bytes"},
        {"namespace = {\"a,min=1M\",\n\"b\",\n\"a\"}\n", ":3: namespace: a is there twice"},
        {"namespace = {a}\nnamespace += {a}\n", ":2: namespace: a is there twice"},
        {"namespace = {a\n", ":"},
        {"namespaces = {a}\n", ":1: "},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_file(bad[i].text);
        expect_wrong(read_line("--config", file), bad[i].part);
        expect_wrong(read_line("--config", file), file);
    }
    unlink(file);
    expect_wrong(read_line("--config", file), "No such file");
    expect_wrong(read_line("--config", "/tmp"), "/tmp");
}
END_TEST

START_TEST(sizes_as_text)
{
    char text[16];
    ck_assert_str_eq(lrd_size_text(0, text), "0");
    ck_assert_str_eq(lrd_size_text(1023, text), "1023");
    ck_assert_str_eq(lrd_size_text(1024, text), "1K");
    ck_assert_str_eq(lrd_size_text(UINT64_C(3) << 29, text), "1.5G");
    ck_assert_str_eq(lrd_size_text(UINT64_C(256) << 20, text), "256M");
    ck_assert_str_eq(lrd_size_text(UINT64_C(5000) << 40, text), "5000T");
    ck_assert_uint_lt(strlen(lrd_size_text(UINT64_MAX, text)), 16);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, defaults);
    tcase_add_test(tc, without_a_place_for_the_socket);
    tcase_add_test(tc, sizes);
    tcase_add_test(tc, other_types);
    tcase_add_test(tc, namespaces);
    tcase_add_test(tc, namespaces_from_a_file);
    tcase_add_test(tc, words_and_enumerators);
    tcase_add_test(tc, command_line_errors);
    tcase_add_test(tc, from_a_file);
    tcase_add_test(tc, the_command_line_wins);
    tcase_add_test(tc, file_errors_name_the_line);
    tcase_add_test(tc, sizes_as_text);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
