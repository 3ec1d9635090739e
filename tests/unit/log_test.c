/* SPDX-License-Identifier: Apache-2.0 */
/* lib/log: every line is one JSON object, whatever bytes go into it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "include/bug.h"
#include "lib/log.h"

#define LINE_MAX_BYTES 8192

static char path[64];

static int setup(void **state)
{
	const char *bad;
	int fd;

	snprintf(path, sizeof(path), "/tmp/kvd-log-test-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return -1;
	close(fd);
	log_set_level(LOG_DEBUG);
	return log_open(path, &bad);
}

static int teardown(void **state)
{
	log_close();
	log_set_level(LOG_INFO);
	return unlink(path);
}

/* Reads all lines of the log; each must be a JSON object on its own. */
static size_t read_lines(json_t **out, size_t max)
{
	char line[LINE_MAX_BYTES + 2];
	json_error_t error;
	FILE *file = fopen(path, "re");
	size_t n = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		size_t len = strlen(line);

		assert_true(n < max);
		assert_true(len <= LINE_MAX_BYTES && line[len - 1] == '\n');
		out[n] = json_loads(line, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
		if (!out[n])
			fail_msg("%s in: %s", error.text, line);
		n++;
	}
	fclose(file);
	return n;
}

static json_t *only_line(void)
{
	json_t *line = NULL;

	assert_int_equal(read_lines(&line, 1), 1);
	return line;
}

static const char *text(const json_t *line, const char *key)
{
	const char *s = json_string_value(json_object_get(line, key));

	if (!s)
		fail_msg("no string %s", key);
	return s;
}

static void test_fields(void **state)
{
	json_t *line;

	log_info("all kinds", LOG_STR("s", "text"), LOG_BYTES("b", SLICE_LIT("by\0tes")),
		 LOG_I64("i", INT64_MIN), LOG_U64("u", 42), LOG_HEX("h", UINT64_MAX),
		 LOG_BOOL("yes", 7), LOG_BOOL("no", 0), LOG_STR("null", NULL), LOG_ERR(-ENOENT));
	line = only_line();
	assert_string_equal(text(line, "level"), "info");
	assert_non_null(strstr(text(line, "caller"), "tests/unit/log_test.c:"));
	assert_string_equal(text(line, "msg"), "all kinds");
	assert_string_equal(text(line, "s"), "text");
	assert_int_equal(json_integer_value(json_object_get(line, "i")), INT64_MIN);
	assert_int_equal(json_integer_value(json_object_get(line, "u")), 42);
	assert_string_equal(text(line, "h"), "ffffffffffffffff");
	assert_true(json_is_true(json_object_get(line, "yes")));
	assert_true(json_is_false(json_object_get(line, "no")));
	assert_string_equal(text(line, "null"), "");
	assert_string_equal(text(line, "error"), "No such file or directory");
	assert_int_equal(strlen(text(line, "ts")), strlen("2026-01-02T15:04:05.999999Z"));
	json_decref(line);
}

/* json_loads() refuses what is not UTF-8, so bytes that are not must be replaced. */
static void test_strings_are_escaped(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "plain", "plain" },
		{ "\"quoted\\\"", "\"quoted\\\"" },
		{ "a\nb\rc\td\x01\x1f\x7f", "a\nb\rc\td\x01\x1f\x7f" },
		{ "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		  "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "\xff", "\xef\xbf\xbd" },
		{ "\xc3", "\xef\xbf\xbd" },				/* cut short */
		{ "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },		/* overlong */
		/* a surrogate, and one beyond the last character */
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xf4\x90\x80\x80!", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd!" },
	};
	json_t *lines[ARRAY_SIZE(cases)];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		log_warn(cases[i].in, LOG_STR("again", cases[i].in));
	assert_int_equal(read_lines(lines, ARRAY_SIZE(cases)), ARRAY_SIZE(cases));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_string_equal(text(lines[i], "msg"), cases[i].out);
		assert_string_equal(text(lines[i], "again"), cases[i].out);
		json_decref(lines[i]);
	}
}

/* Every length around the limit: the line stays JSON and says that it was cut. */
static void test_long_lines_are_cut(void **state)
{
	char *long_text = calloc(1, 2 * LINE_MAX_BYTES);
	bool cut = false;
	json_t *line;

	assert_non_null(long_text);
	memset(long_text, 'x', LINE_MAX_BYTES - 300);
	for (size_t n = LINE_MAX_BYTES - 300; n < LINE_MAX_BYTES + 100; n++) {
		long_text[n] = n % 7 ? 'x' : '"';
		assert_int_equal(truncate(path, 0), 0);
		log_info("m", LOG_STR("long", long_text), LOG_U64("after", 1));
		line = only_line();
		if (json_is_true(json_object_get(line, "truncated")))
			cut = true;
		else
			assert_int_equal(json_integer_value(json_object_get(line, "after")), 1);
		assert_true(cut || !json_object_get(line, "truncated"));
		json_decref(line);
	}
	assert_true(cut);
	free(long_text);
}

static void test_levels(void **state)
{
	static const char *const names[] = { "debug", "info", "warn", "error", "panic", "fatal" };
	enum log_level level;
	json_t *lines[2];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(log_level_parse(names[i], &level), 0);
		assert_int_equal(level, i);
	}
	assert_int_equal(log_level_parse("Info", &level), -EINVAL);
	assert_int_equal(log_level_parse("", &level), -EINVAL);
	log_set_level(LOG_ERROR);
	log_debug("no");
	log_info("no");
	log_warn("no");
	log_error("yes");
	log_fatal("yes");
	assert_int_equal(read_lines(lines, 2), 2);
	for (size_t i = 0; i < 2; i++)
		json_decref(lines[i]);
}

static void test_outputs(void **state)
{
	static const struct {
		const char *list;
		int result;
		const char *bad;
	} cases[] = {
		{ "default", 0, NULL },
		{ "stderr,/dev/null", 0, NULL },
		{ "", -EINVAL, "" },
		{ "/dev/null,", -EINVAL, "" },
		{ "/dev/null,default", -EINVAL, "default" },
		{ "/dev/null,/nonexistent/log", -ENOENT, "/nonexistent/log" },
		{ "stderr,stderr,stderr,stderr,stderr,stderr,stderr,stderr,stdout", -E2BIG,
		  "stdout" },
	};
	char both[200];
	const char *bad;
	json_t *lines[3];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(log_open(cases[i].list, &bad), cases[i].result);
		if (cases[i].result)
			assert_string_equal(bad, cases[i].bad);
	}
	snprintf(both, sizeof(both), "%s,/dev/null,%s", path, path);
	assert_int_equal(log_open(both, &bad), 0);
	log_info("twice");
	assert_int_equal(read_lines(lines, 3), 2);
	for (size_t i = 0; i < 2; i++)
		json_decref(lines[i]);
}

#define THREADS 4
#define THREAD_LINES 200

static void *writer(void *arg)
{
	for (int i = 0; i < THREAD_LINES; i++)
		log_info("from a thread", LOG_U64("thread", *(int *)arg), LOG_U64("i", i));
	return NULL;
}

static void test_threads_do_not_mix_lines(void **state)
{
	static json_t *lines[THREADS * THREAD_LINES];
	pthread_t threads[THREADS];
	int numbers[THREADS];

	for (int i = 0; i < THREADS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, writer, &numbers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(read_lines(lines, ARRAY_SIZE(lines)), ARRAY_SIZE(lines));
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		json_decref(lines[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fields, setup, teardown),
		cmocka_unit_test_setup_teardown(test_strings_are_escaped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_lines_are_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_outputs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads_do_not_mix_lines, setup, teardown),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
