/* SPDX-License-Identifier: Apache-2.0 */
/* lib/options: one table read from the command line, the environment and a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "include/bug.h"
#include "lib/options.h"

#define ARGS_MAX 16

struct config {
	const char *name, *file;
	bool flag, help;
	int64_t count;
	int64_t wait;
};

static const struct option_def defs[] = {
	OPT_STRING("name", "default", "NAME", "what it is called", struct config, name),
	OPT_STRING("config-file", NULL, "FILE", "where the options are", struct config, file),
	OPT_BOOL("a-flag", NULL, "whether to", struct config, flag),
	OPT_INT("max-count", "7", "N", "how many", -5, 100, struct config, count),
	OPT_DURATION("wait-time", "1m", "how long", 0, INT64_MAX, struct config, wait),
	OPT_ACTION("help", "this text", struct config, help),
	OPT_UNSUPPORTED("tls", NULL, "FILE"),
	OPT_UNSUPPORTED("turbo", "false", NULL),
	OPT_UNSUPPORTED("interval", "1m", "TIME"),
	OPT_IGNORED("old", NULL, "TEXT", "was of use once"),
	{ 0 },
};

/* Splits @line at its blanks and parses it. */
static int parse_line(const char *line, const char *const *environ_, bool operands,
		      struct config *config, struct options **out, char why[256])
{
	static char copy[512];
	char program[] = "program", *argv[ARGS_MAX + 1] = { program }, *rest = copy, *word;
	struct options_args args = {
		.defs = defs, .config = config, .env_prefix = "TEST_", .argc = 1, .argv = argv,
		.environ_ = environ_, .config_file_option = "config-file", .operands = operands,
	};

	snprintf(copy, sizeof(copy), "%s", line);
	while ((word = strsep(&rest, " "))) {
		if (!*word)
			continue;
		assert_true(args.argc < ARGS_MAX);
		argv[args.argc++] = word;
	}
	return options_parse(&args, out, why, 256);
}

static void test_command_line(void **state)
{
	static const struct {
		const char *line;
		struct config want;
	} cases[] = {
		{ "", { "default", "", false, false, 7, 60000000000 } },
		{ "--name=x --a-flag --max-count=9 --wait-time=1s",
		  { "x", "", true, false, 9, 1000000000 } },
		{ "-name x -a-flag -max-count 9 -wait-time 1s",
		  { "x", "", true, false, 9, 1000000000 } },
		{ "--a-flag=false --name=", { "", "", false, false, 7, 60000000000 } },
		{ "--a-flag --name one", { "one", "", true, false, 7, 60000000000 } },
		{ "--name=a=b --name --c", { "--c", "", false, false, 7, 60000000000 } },
		{ "--max-count=-5", { "default", "", false, false, -5, 60000000000 } },
		{ "--max-count=0x64", { "default", "", false, false, 100, 60000000000 } },
		{ "-h", { "default", "", false, true, 7, 60000000000 } },
		{ "--turbo=false --turbo=0 --interval=60s --old=any",
		  { "default", "", false, false, 7, 60000000000 } },
	};
	struct options *options;
	struct config c;
	char why[256];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (parse_line(cases[i].line, NULL, false, &c, &options, why) != 0)
			fail_msg("%s: %s", cases[i].line, why);
		assert_string_equal(c.name, cases[i].want.name);
		assert_string_equal(c.file, cases[i].want.file);
		assert_int_equal(c.flag, cases[i].want.flag);
		assert_int_equal(c.help, cases[i].want.help);
		assert_int_equal(c.count, cases[i].want.count);
		assert_int_equal(c.wait, cases[i].want.wait);
		options_free(options);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *line;
		int error;
		const char *why;
	} cases[] = {
		{ "--nonsense", -EINVAL, "flag provided but not defined: -nonsense" },
		{ "--max-cuont=1", -EINVAL, "did you mean --max-count?" },
		{ "--=x", -EINVAL, "flag provided but not defined" },
		{ "--name", -EINVAL, "--name needs a value: --name=NAME" },
		{ "--a-flag=maybe", -EINVAL, "--a-flag=maybe: neither true nor false" },
		{ "--max-count=many", -EINVAL, "--max-count=many: not a whole number" },
		{ "--max-count=", -EINVAL, "not a whole number" },
		{ "--max-count=1x", -EINVAL, "not a whole number" },
		{ "--max-count=101", -ERANGE, "--max-count=101: must be from -5 to 100" },
		{ "--max-count=99999999999999999999", -ERANGE, "must be from -5 to 100" },
		{ "--wait-time=5", -EINVAL, "--wait-time=5: not a time with its unit" },
		{ "--wait-time=-1s", -ERANGE, "--wait-time=-1s: must be from 0ms" },
		{ "--tls=x", -EOPNOTSUPP, "--tls is not supported yet: remove it" },
		{ "--turbo", -EOPNOTSUPP, "--turbo is not supported yet: remove it" },
		{ "--interval=61s", -EOPNOTSUPP, "--interval is not supported yet: remove it" },
		{ "word", -EINVAL, "'word' is not a valid flag" },
		{ "-- --name", -EINVAL, "'--name' is not a valid flag" },
	};
	struct options *options = NULL;
	struct config c;
	char why[256];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(parse_line(cases[i].line, NULL, false, &c, &options, why),
				 cases[i].error);
		if (!strstr(why, cases[i].why))
			fail_msg("%s: %s", cases[i].line, why);
		assert_null(options);
	}
}

static void test_operands(void **state)
{
	struct options *options;
	struct config c;
	char why[256];

	assert_int_equal(parse_line("put --name=x key - -- --name", NULL, true, &c, &options, why),
			 0);
	assert_string_equal(c.name, "x");
	assert_string_equal(options_operands(options)[0], "put");
	assert_string_equal(options_operands(options)[1], "key");
	assert_string_equal(options_operands(options)[2], "-");
	assert_string_equal(options_operands(options)[3], "--name");
	assert_null(options_operands(options)[4]);
	assert_true(options_given(options, "name"));
	assert_false(options_given(options, "max-count"));
	options_free(options);
	assert_int_equal(parse_line("", NULL, true, &c, &options, why), 0);
	assert_null(options_operands(options)[0]);
	options_free(options);
	options_free(NULL);
}

static void test_environment(void **state)
{
	static const char *const env[] = {
		"TEST_NAME=from-env", "TEST_MAX_COUNT=8", "TEST_A_FLAG=", "TEST_WHAT=1",
		"TEST_HELP=true", "OTHER_NAME=x", "TEST_NAME_", "NAME=y", NULL,
	};
	static const char *const bad[] = { "TEST_MAX_COUNT=eight", NULL };
	struct options *options;
	struct config c;
	char why[256];

	assert_int_equal(parse_line("--max-count=9", env, false, &c, &options, why), 0);
	assert_string_equal(c.name, "from-env");
	assert_int_equal(c.count, 9);
	assert_false(c.flag);
	assert_false(c.help);
	assert_true(options_given(options, "name"));
	assert_string_equal(options_unknown_env(options)[0], "TEST_WHAT");
	assert_string_equal(options_unknown_env(options)[1], "TEST_HELP");
	assert_null(options_unknown_env(options)[2]);
	options_free(options);
	assert_int_equal(parse_line("", bad, false, &c, &options, why), -EINVAL);
	assert_string_equal(why, "TEST_MAX_COUNT=eight: not a whole number");
}

/* --- the file ------------------------------------------------------------------- */

static char path[64];

static void write_file(const char *text)
{
	FILE *file;
	int fd;

	snprintf(path, sizeof(path), "/tmp/kvd-options-test-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	file = fdopen(fd, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void test_file(void **state)
{
	static const struct {
		const char *text;
		struct config want;
	} cases[] = {
		{ "", { "default", NULL, false, false, 7, 60000000000 } },
		{ "# nothing\n---\n...\n", { "default", NULL, false, false, 7, 60000000000 } },
		{ "name: 'x y'\na-flag: true\nmax-count: 9\nwait-time: 1h30m\n",
		  { "x y", NULL, true, false, 9, 5400000000000 } },
		{ "{name: [a, b], wait-time: 1500000}", { "a,b", NULL, false, false, 7, 1500000 } },
		{ "name:\nmax-count: ~\nwait-time: null\n",
		  { "default", NULL, false, false, 7, 60000000000 } },
		{ "name: \"\"\nwait-time: 0\nturbo: false\nold: x\n",
		  { "", NULL, false, false, 7, 0 } },
	};
	static const char *const env[] = { "TEST_NAME=env", "TEST_MAX_COUNT=1", NULL };
	struct options *options;
	struct config c;
	char why[256], line[128];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_file(cases[i].text);
		/* of the rest of the command line only --help means anything */
		snprintf(line, sizeof(line), "--max-count=3 --a-flag --help --config-file %s",
			 path);
		if (parse_line(line, env, false, &c, &options, why) != 0)
			fail_msg("%s: %s", cases[i].text, why);
		assert_string_equal(c.name, cases[i].want.name);
		assert_string_equal(c.file, path);
		assert_int_equal(c.flag, cases[i].want.flag);
		assert_true(c.help);
		assert_int_equal(c.count, cases[i].want.count);
		assert_int_equal(c.wait, cases[i].want.wait);
		options_free(options);
		unlink(path);
	}
}

static void test_file_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "name: x\nnmae: y\n", ":2: unknown key 'nmae'" },
		{ "help: true\n", ":1: unknown key 'help'" },
		{ "config-file: x\n", ":1: unknown key 'config-file'" },
		{ "name: x\nname: y\n", ":2: name is given twice" },
		{ "\n\nmax-count: many\n", ":3: max-count=many: not a whole number" },
		{ "max-count: [1]\n", ":1: max-count: the value must be one plain value" },
		{ "name: {a: b}\n", ":1: name: the value must be text or a list of texts" },
		{ "name: [[a]]\n", ":1: name: its elements must be text" },
		{ "name: \"a\\0b\"\n", ":1: name: the value holds a zero byte" },
		{ "[a]: b\n", ":1: a key must be the name of an option" },
		{ "turbo: true\n", ":1: turbo is not supported yet: remove it" },
		{ "- name\n", ":1: must be a mapping" },
		{ "name: [\n", "not YAML" },
		{ "name: 'x\n", "not YAML" },
		{ "name: \xff\n", "not YAML" },
	};
	struct options *options = NULL;
	struct config c;
	char why[256], env[128];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *const environ_[] = { env, NULL };

		write_file(cases[i].text);
		snprintf(env, sizeof(env), "TEST_CONFIG_FILE=%s", path);
		if (parse_line("", environ_, false, &c, &options, why) >= 0)
			fail_msg("taken: %s", cases[i].text);
		unlink(path);
		if (!strstr(why, cases[i].why) || !strstr(why, path))
			fail_msg("%s: %s", cases[i].text, why);
		assert_null(options);
	}
	assert_int_equal(parse_line("--config-file=/nonexistent", NULL, false, &c, &options, why),
			 -ENOENT);
	assert_non_null(strstr(why, "/nonexistent: No such file"));
}

/* --- the rest ------------------------------------------------------------------- */

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		int result;
		int64_t ns;
	} cases[] = {
		{ "0", 0, 0 }, { "-0", 0, 0 }, { "0s", 0, 0 }, { "1ns", 0, 1 },
		{ "1us", 0, 1000 }, { "1\xc2\xb5s", 0, 1000 }, { "1\xce\xbcs", 0, 1000 },
		{ "100ms", 0, 100000000 }, { "1.5s", 0, 1500000000 }, { ".5s", 0, 500000000 },
		{ "1.s", 0, 1000000000 }, { "1h30m", 0, INT64_C(5400000000000) },
		{ "+5m", 0, INT64_C(300000000000) }, { "-5m", 0, INT64_C(-300000000000) },
		{ "0.1h", 0, INT64_C(360000000000) },
		{ "9223372036854775807ns", 0, INT64_MAX },
		{ "9223372036854775808ns", -EINVAL, 0 }, { "2562048h", -EINVAL, 0 },
		{ "", -EINVAL, 0 }, { "-", -EINVAL, 0 }, { "5", -EINVAL, 0 },
		{ ".s", -EINVAL, 0 }, { "s", -EINVAL, 0 }, { "5 s", -EINVAL, 0 },
		{ "5S", -EINVAL, 0 }, { "1.2.3s", -EINVAL, 0 }, { "1m-5s", -EINVAL, 0 },
	};
	int64_t ns;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ns = 0;
		if (option_parse_duration(cases[i].text, &ns) != cases[i].result ||
		    ns != cases[i].ns)
			fail_msg("'%s': %jd", cases[i].text, (intmax_t)ns);
	}
}

static char *printed(void (*print)(const struct option_def *, const char *, FILE *))
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	print(defs, "TEST_", out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void test_help_names_every_option(void **state)
{
	char *help = printed(options_print_help), *man = printed(options_print_man);
	char name[64];

	for (const struct option_def *def = defs; def->name; def++) {
		snprintf(name, sizeof(name), "--%s", def->name);
		if (!strstr(help, name))
			fail_msg("not in the help: %s", name);
	}
	assert_non_null(strstr(help, "--max-count=N\n        how many [7]\n"));
	assert_non_null(strstr(help, "TEST_NAME"));
	assert_non_null(strstr(man, "\\fB\\-\\-max\\-count\\fR=\\fIN\\fR\nhow many.\n"));
	assert_non_null(strstr(man, "Environment: \\fBTEST_MAX_COUNT\\fR.\n"));
	free(help);
	free(man);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_operands),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_refused),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_help_names_every_option),
	};

	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
