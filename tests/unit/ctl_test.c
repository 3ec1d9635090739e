// SPDX-License-Identifier: Apache-2.0
/*
 * kvctl without a server: words, numbers and comparisons as they are read, answers as
 * they are printed, arguments that are refused, and the manual page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ctl/ctl.h"
#include "ctl/print.h"

/* --- reading ------------------------------------------------------------------------ */

/* Bytes as C would write them, so that a zero byte can be seen. */
static const char *visible(struct slice s)
{
	static char text[512];
	size_t n = 0;

	for (size_t i = 0; i < s.len && n + 5 < sizeof(text); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n,
				      s.data[i] < ' ' || s.data[i] > '~' ? "\\%02x" : "%c",
				      s.data[i]);
	text[n] = '\0';
	return text;
}

static void splits_lines_into_words(void **state)
{
	static const struct {
		const char *line, *words;	/* the latter divided by | ; NULL: refused */
	} cases[] = {
		{ "", "" },
		{ "  put  a\tb ", "put|a|b" },
		{ "put 'a b' \"c d\"", "put|a b|c d" },
		{ "put 'it\"s' \"it's\"", "put|it\"s|it's" },
		{ "x\"y z\"", "x\"y|z\"" },
		{ "\"a\"b", "a|b" },
		{ "\"\" ''", "|" },
		{ "\"\\x00\\n\\u00fc\\101\"", "\\00\\0a\\c3\\bcA" },
		{ "\"\\U0001F600\"", "\\f0\\9f\\98\\80" },
		{ "put \"unended", "put|unended" },
		{ "put 'unended", "put|unended" },
		{ "\"\\q\"", NULL },
		{ "\"\\ud800\"", NULL },
		{ "\"\\400\"", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ctl_args args;
		char joined[512] = "";
		int err = ctl_split(slice_str(cases[i].line), &args);

		assert_int_equal(!err, cases[i].words != NULL);
		if (err)
			continue;
		for (size_t j = 0; j < args.n; j++) {
			size_t n = strlen(joined);

			snprintf(joined + n, sizeof(joined) - n, "%s%s", j ? "|" : "",
				 visible(args.at[j]));
		}
		assert_string_equal(joined, cases[i].words);
		ctl_args_release(&args);
	}
}

static void reads_numbers_as_go_does(void **state)
{
	static const struct {
		const char *text;
		int base;
		int64_t value;
		const char *why;		/* NULL: it is one */
	} cases[] = {
		{ "0", 10, 0, NULL },
		{ "-12", 10, -12, NULL },
		{ "+7", 10, 7, NULL },
		{ "7b31a2063cb21a11", 16, 0x7b31a2063cb21a11, NULL },
		{ "9223372036854775807", 10, INT64_MAX, NULL },
		{ "-9223372036854775808", 10, INT64_MIN, NULL },
		{ "9223372036854775808", 10, 0,
		  "strconv.ParseInt: parsing \"9223372036854775808\": value out of range" },
		{ "99999999999999999999999", 10, 0,
		  "strconv.ParseInt: parsing \"99999999999999999999999\": value out of range" },
		{ "zz", 16, 0, "strconv.ParseInt: parsing \"zz\": invalid syntax" },
		{ "", 10, 0, "strconv.ParseInt: parsing \"\": invalid syntax" },
		{ "-", 10, 0, "strconv.ParseInt: parsing \"-\": invalid syntax" },
		{ "1 ", 10, 0, "strconv.ParseInt: parsing \"1 \": invalid syntax" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char why[256] = "";
		int64_t value = 0;
		int err = ctl_parse_int(slice_str(cases[i].text), cases[i].base, &value, why,
					sizeof(why));

		assert_int_equal(!err, !cases[i].why);
		if (err)
			assert_string_equal(why, cases[i].why);
		assert_int_equal(value, cases[i].value);
	}
}

static void ends_a_prefix(void **state)
{
	static const struct { struct slice key; const char *end; } cases[] = {
		{ SLICE_LIT("a"), "b" },
		{ SLICE_LIT("a\xff"), "b" },
		{ SLICE_LIT("a\xff\xff"), "b" },
		{ SLICE_LIT("\xff\xff"), "\\00" },
		{ SLICE_LIT("a\0"), "a\\01" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct slice end;

		assert_int_equal(ctl_prefix_end(cases[i].key, &end), 0);
		assert_string_equal(visible(end), cases[i].end);
		free((void *)end.data);
	}
}

/* --- running ------------------------------------------------------------------------- */

/* A run of kvctl with its output in memory; nothing listens on its endpoint. */
struct run {
	struct ctl ctl;
	uv_loop_t loop;
	char *out, *err;
	size_t out_size, err_size;
	int status;
};

static void run_start(struct run *run, const char *input)
{
	static char *no_environ[] = { NULL };

	*run = (struct run){ 0 };
	assert_int_equal(uv_loop_init(&run->loop), 0);
	run->ctl.loop = &run->loop;
	run->ctl.environ_ = no_environ;
	/* An empty buffer cannot be opened. */
	run->ctl.in = *input ? fmemopen((void *)input, strlen(input), "r") :
		fopen("/dev/null", "r");
	run->ctl.out = open_memstream(&run->out, &run->out_size);
	run->ctl.err = open_memstream(&run->err, &run->err_size);
	assert_true(run->ctl.in && run->ctl.out && run->ctl.err);
}

static void run_end(struct run *run)
{
	fclose(run->ctl.in);
	fclose(run->ctl.out);
	fclose(run->ctl.err);
	assert_int_equal(uv_loop_close(&run->loop), 0);
	free(run->out);
	free(run->err);
}

/* @line is the command line, in words divided by blanks. */
static void run_line(struct run *run, const char *line, const char *input, char **environ_)
{
	struct ctl_args words;
	char name[] = "kvctl", *argv[32] = { name };
	int argc = 1;

	run_start(run, input);
	if (environ_)
		run->ctl.environ_ = environ_;
	assert_int_equal(ctl_split(slice_str(line), &words), 0);
	for (size_t i = 0; i < words.n; i++) {
		argv[argc] = strndup((const char *)words.at[i].data, words.at[i].len);
		assert_non_null(argv[argc++]);
	}
	run->status = ctl_main(&run->ctl, argc, argv);
	while (--argc)
		free(argv[argc]);
	ctl_args_release(&words);
	fflush(run->ctl.out);
	fflush(run->ctl.err);
}

static void refuses_what_makes_no_sense(void **state)
{
	static const struct { const char *line, *input; int status; const char *err; } cases[] = {
		{ "get", "", CTL_BAD_ARGS, "Error: get command needs one argument as key" },
		{ "get a --prefix --from-key", "", CTL_BAD_ARGS, "cannot be set at the same time" },
		{ "get a --order sideways", "", CTL_BAD_FEATURE, "bad sort order sideways" },
		{ "get a -w yaml", "", CTL_BAD_FEATURE, "unsupported output format" },
		{ "get a -wyaml", "", CTL_BAD_FEATURE, "unsupported output format" },
		{ "get a --nope", "", CTL_ERROR, "Run 'kvctl get --help' for usage." },
		{ "fly", "", CTL_ERROR, "unknown command \"fly\"" },
		{ "--nope", "", CTL_ERROR, "Run 'kvctl --help' for usage." },
		{ "put a", "", CTL_BAD_ARGS, "input from stdin" },
		{ "put a b --lease zz", "", CTL_BAD_ARGS, "expecting ID in Hex" },
		{ "put a b --cert x", "", CTL_ERROR, "cert" },
		{ "lease revoke zz", "", CTL_BAD_ARGS, "expecting ID in Hex" },
		{ "compaction x", "", CTL_ERROR, "invalid syntax" },
		{ "watch", "", CTL_BAD_ARGS, "bad number of arguments" },
		{ "watch a --", "", CTL_BAD_ARGS, "found separator --, but no commands" },
		{ "watch a b --prefix", "", CTL_BAD_ARGS, "mutually exclusive" },
		{ "txn", "nonsense\n", CTL_INVALID_INPUT, "malformed comparison: nonsense" },
		{ "txn", "ver(\"k\") > \"x\"\n", CTL_INVALID_INPUT, "invalid txn compare request" },
		{ "txn", "ver(\"k\") ~ \"1\"\n", CTL_INVALID_INPUT, "unknown operator ~" },
		{ "txn", "\nput\n", CTL_INVALID_INPUT, "invalid txn compare request: put" },
		{ "txn", "\nfly a b\n", CTL_INVALID_INPUT, "invalid txn request: fly a b" },
		{ "txn", "\nget a --nope\n", CTL_INVALID_INPUT, "invalid txn request: get a" },
		{ "txn", "ver(\"k\") = \"1\"", CTL_INVALID_INPUT, "EOF" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct run run;

		run_line(&run, cases[i].line, cases[i].input, NULL);
		assert_int_equal(run.status, cases[i].status);
		if (!strstr(run.err, cases[i].err))
			fail_msg("kvctl %s: no '%s' in: %s", cases[i].line, cases[i].err, run.err);
		assert_int_equal(run.out_size, 0);
		run_end(&run);
	}
}

static void a_dead_endpoint_ends_in_time_and_says_so(void **state)
{
	struct run run;

	run_line(&run, "--command-timeout 30ms --endpoints unix:///nonexistent/kvd get a", "", NULL);
	assert_int_equal(run.status, CTL_ERROR);
	assert_non_null(strstr(run.err, "kvctl: unix:///nonexistent/kvd: "));
	assert_non_null(strstr(run.err, "\nError: context deadline exceeded\n"));
	run_end(&run);
}

static void help_is_found(void **state)
{
	static const struct { const char *line, *out; } cases[] = {
		{ "", "Usage:\n  kvctl <command> [options]" },
		{ "--help", "Usage:\n  kvctl <command> [options]" },
		{ "-h", "Usage:\n  kvctl <command> [options]" },
		{ "help", "--endpoints=URL,..." },
		{ "get -h", "Usage:\n  kvctl get [options] <key> [range_end]\n" },
		{ "help get", "Usage:\n  kvctl get [options] <key> [range_end]\n" },
		{ "help lease grant", "Usage:\n  kvctl lease grant [options] <ttl>\n" },
		{ "lease", "Usage:\n  kvctl lease <command> [options]\n" },
		{ "lease nonsense", "Usage:\n  kvctl lease <command> [options]\n" },
		{ "--hex lease --hex keep-alive --help", "--once" },
		{ "lea k --help", "--once" },
		{ "-w json version", "API version: 3.7\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct run run;

		run_line(&run, cases[i].line, "", NULL);
		assert_int_equal(run.status, CTL_OK);
		if (!strstr(run.out, cases[i].out))
			fail_msg("kvctl %s: no '%s' in: %s", cases[i].line, cases[i].out, run.out);
		assert_int_equal(run.err_size, 0);
		run_end(&run);
	}
}

/* KVCTL_ before ETCDCTL_, and the command line before both. */
static void the_environment_sets_options(void **state)
{
	static char etcdctl[] = "ETCDCTL_WRITE_OUT=of-etcdctl", kvctl[] = "KVCTL_WRITE_OUT=json";
	static char *const none[] = { NULL }, *const one[] = { etcdctl, NULL },
		*const two[] = { etcdctl, kvctl, NULL };
	static const struct { char *const *environ_; const char *line, *want; } cases[] = {
		{ none, "version", "simple" },
		{ one, "version", "of-etcdctl" },
		{ two, "version", "json" },
		{ two, "version -w fields", "fields" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ctl_args words;
		struct ctl_parse_args args = {
			.command = &ctl_commands[0], .common = true,
			.environ_ = cases[i].environ_, .words = &words,
		};
		struct ctl_line line;
		char why[256];

		assert_int_equal(ctl_split(slice_str(cases[i].line), &words), 0);
		assert_int_equal(ctl_parse(&args, &line, why, sizeof(why)), 0);
		assert_string_equal(line.opt.write_out, cases[i].want);
		ctl_line_release(&line);
		ctl_args_release(&words);
	}
}

static void words_may_hold_any_byte(void **state)
{
	static const struct slice words_in[] = {
		SLICE_LIT("a\0b"), SLICE_LIT("\xc0"), SLICE_LIT("\xc0\x80"),
		SLICE_LIT("\xc0\xc0\x80\0"), SLICE_LIT(""),
	};
	struct ctl_args words = {
		.at = (struct slice *)words_in, .n = ARRAY_SIZE(words_in),
	};
	struct ctl_parse_args args = { .command = &ctl_commands[0], .words = &words };
	struct ctl_line line;
	char why[256];

	assert_int_equal(ctl_parse(&args, &line, why, sizeof(why)), 0);
	assert_int_equal(line.args.n, words.n);
	for (size_t i = 0; i < words.n; i++)
		assert_true(slice_eq(line.args.at[i], words_in[i]));
	ctl_line_release(&line);
}

/* --- comparisons ---------------------------------------------------------------------- */

static void reads_comparisons(void **state)
{
	static const struct {
		const char *line;
		int target, result;
		const char *key;
		int64_t number;
		const char *value;
	} cases[] = {
		{ "ver(\"k\") = \"3\"", 0, 0, "k", 3, NULL },
		{ "version(\"k\") > \"3\"", 0, 1, "k", 3, NULL },
		{ "c(\"k\") < \"3\"", 1, 2, "k", 3, NULL },
		{ "create(\"k\") != \"3\"", 1, 3, "k", 3, NULL },
		{ "m(\"k\") = \"3\"", 2, 0, "k", 3, NULL },
		{ "mod(\"k\") = \"-3\"", 2, 0, "k", -3, NULL },
		{ "val(\"k k\") = \"v\\n\"", 3, 0, "k k", 0, "v\\0a" },
		{ "value(`k\\`) = `v`", 3, 0, "k\\", 0, "v" },
		{ "lease(\"k\") = \"ff\"", 4, 0, "k", 255, NULL },
		{ "val( \"k\")   =   \"\"  and what follows", 3, 0, "k", 0, "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Etcdserverpb__Compare compare;
		struct run run;

		run_start(&run, "");
		assert_int_equal(ctl_parse_compare(&run.ctl, slice_str(cases[i].line), &compare),
				 0);
		assert_int_equal(compare.target, cases[i].target);
		assert_int_equal(compare.result, cases[i].result);
		assert_string_equal(visible(slice_of(compare.key.data, compare.key.len)),
				    cases[i].key);
		if (cases[i].value)
			assert_string_equal(visible(slice_of(compare.value.data,
							     compare.value.len)), cases[i].value);
		else
			assert_int_equal(compare.version, cases[i].number);
		ctl_compare_release(&compare);
		run_end(&run);
	}
}

/* --- printing ------------------------------------------------------------------------- */

static void writes_text_as_go_does(void **state)
{
	static const struct { struct slice text; const char *want; } quoted[] = {
		{ SLICE_LIT("plain"), "\"plain\"" },
		{ SLICE_LIT("a\"b\\c"), "\"a\\\"b\\\\c\"" },
		{ SLICE_LIT("\a\b\f\n\r\t\v"), "\"\\a\\b\\f\\n\\r\\t\\v\"" },
		{ SLICE_LIT("\0\x01\x7f"), "\"\\x00\\x01\\x7f\"" },
		{ SLICE_LIT("\xff\xc0\x80\xed\xa0\x80"), "\"\\xff\\xc0\\x80\\xed\\xa0\\x80\"" },
		{ SLICE_LIT("\xc2\xa0\xe2\x80\xa8"), "\"\\u00a0\\u2028\"" },
		{ SLICE_LIT("\xf3\xa0\x80\x81"), "\"\\U000e0001\"" },
	};
	static const struct { int64_t ns; const char *want; } durations[] = {
		{ 0, "0s" }, { 1, "1ns" }, { 1500, "1.5\302\265s" }, { 3785183, "3.785183ms" },
		{ 5001166613, "5.001166613s" }, { 1000000000, "1s" },
		{ 5400000000000, "1h30m0s" }, { 61000000000, "1m1s" },
	};
	static const struct { uint64_t bytes; const char *want; } sizes[] = {
		{ 0, "0 B" }, { 9, "9 B" }, { 10, "10 B" }, { 999, "999 B" }, { 1000, "1.0 kB" },
		{ 9949, "9.9 kB" }, { 9950, "10 kB" }, { 20480, "20 kB" }, { 24576, "25 kB" },
		{ 2147483648, "2.1 GB" }, { UINT64_C(8589934592), "8.6 GB" },
	};
	char *text;
	size_t size;
	FILE *out;

#define WRITTEN(call, want) do {						\
	out = open_memstream(&text, &size);					\
	assert_non_null(out);							\
	call;									\
	fclose(out);								\
	assert_string_equal(text, want);					\
	free(text);								\
} while (0)
	for (size_t i = 0; i < ARRAY_SIZE(quoted); i++)
		WRITTEN(text_quote(out, quoted[i].text), quoted[i].want);
	for (size_t i = 0; i < ARRAY_SIZE(durations); i++)
		WRITTEN(text_duration(out, durations[i].ns), durations[i].want);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		WRITTEN(text_size(out, sizes[i].bytes), sizes[i].want);
#undef WRITTEN
}

static void show_range(struct ctl *ctl)
{
	Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
	Etcdserverpb__RangeResponse response = ETCDSERVERPB__RANGE_RESPONSE__INIT;
	Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT, *kvs[] = { &kv };

	header.cluster_id = 10;
	header.member_id = UINT64_MAX;
	header.revision = 7;
	kv.key = ctl_bytes(SLICE_LIT("k<"));
	kv.value = ctl_bytes(SLICE_LIT("v\0w"));
	kv.mod_revision = 7;
	kv.lease = 255;
	response.header = &header;
	response.kvs = kvs;
	response.n_kvs = 1;
	response.count = 1;
	ctl_show(ctl, SHOW_GET, &response);
}

static void show_members(struct ctl *ctl)
{
	Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
	Etcdserverpb__MemberListResponse response = ETCDSERVERPB__MEMBER_LIST_RESPONSE__INIT;
	Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT, *members[] = { &member };
	char one[] = "http://a\"b", two[] = "http://c", *urls[] = { one, two };

	header.cluster_id = 10;
	header.member_id = 11;
	member.id = 11;
	member.peerurls = urls;
	member.n_peerurls = 2;
	member.islearner = true;
	response.header = &header;
	response.members = members;
	response.n_members = 1;
	ctl_show(ctl, SHOW_MEMBERS, &response);
}

static void prints_each_format(void **state)
{
	static const struct {
		const char *format;
		bool hex;
		void (*show)(struct ctl *ctl);
		const char *want;		/* zero bytes as ~ */
	} cases[] = {
		{ "simple", false, show_range, "k<\nv~w\n" },
		{ "simple", true, show_range, "\\x6b\\x3c\n\\x76\\x00\\x77\n" },
		{ "json", false, show_range,
		  "{\"header\":{\"cluster_id\":10,\"member_id\":18446744073709551615,"
		  "\"revision\":7},\"kvs\":[{\"key\":\"azw=\",\"mod_revision\":7,"
		  "\"value\":\"dgB3\",\"lease\":255}],\"count\":1}\n" },
		{ "fields", true, show_range,
		  "\"ClusterID\" : a\n\"MemberID\" : ffffffffffffffff\n\"Revision\" : 7\n"
		  "\"RaftTerm\" : 0\n\"Key\" : \"k<\"\n\"CreateRevision\" : 0\n"
		  "\"ModRevision\" : 7\n\"Version\" : 0\n\"Value\" : \"v\\x00w\"\n"
		  "\"Lease\" : 00000000000000ff\n\"More\" : false\n\"Count\" : 1\n" },
		{ "simple", false, show_members,
		  "b, unstarted, , http://a\"b,http://c, , true\n" },
		{ "json", true, show_members,
		  "{\"header\":{\"cluster_id\":\"a\",\"member_id\":\"b\"},\"members\":[{\"ID\":\"b\","
		  "\"peerURLs\":[\"http://a\\\"b\",\"http://c\"],\"isLearner\":true}]}\n" },
		{ "table", false, show_members,
		  "┌────┬───────────┬──────┬─────────────────────┬──────────────┬────────────┐\n"
		  "│ ID │  STATUS   │ NAME │     PEER ADDRS      │ CLIENT ADDRS │ IS LEARNER │\n"
		  "├────┼───────────┼──────┼─────────────────────┼──────────────┼────────────┤\n"
		  "│  b │ unstarted │      │ http://a\"b,http://c │              │       true │\n"
		  "└────┴───────────┴──────┴─────────────────────┴──────────────┴────────────┘\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct run run;

		run_start(&run, "");
		run.ctl.printer = printer_find(cases[i].format);
		run.ctl.line.opt.hex = cases[i].hex;
		cases[i].show(&run.ctl);
		fflush(run.ctl.out);
		for (size_t j = 0; j < run.out_size; j++)
			if (!run.out[j])
				run.out[j] = '~';
		assert_string_equal(run.out, cases[i].want);
		run_end(&run);
	}
}

/* A format that cannot show something says so. */
static void some_formats_show_little(void **state)
{
	struct run run;

	run_start(&run, "");
	run.ctl.printer = printer_find("table");
	assert_int_equal(ctl_show(&run.ctl, SHOW_GET, NULL), CTL_BAD_FEATURE);
	fflush(run.ctl.err);
	assert_string_equal(run.err, "Error: table not supported as output format\n");
	assert_null(printer_find("yaml"));
	run_end(&run);
}

static void the_manual_page_is_current(void **state)
{
	char page[65536];
	FILE *in = fopen("docs/kvctl.1", "r");
	struct run run;
	size_t n;

	if (!in) {
		print_message("docs/kvctl.1 is not here: run from the top of the tree\n");
		skip();
	}
	n = fread(page, 1, sizeof(page) - 1, in);
	page[n] = '\0';
	fclose(in);
	run_line(&run, "help --man", "", NULL);
	assert_string_equal(run.out, page);
	run_end(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits_lines_into_words),
		cmocka_unit_test(reads_numbers_as_go_does),
		cmocka_unit_test(ends_a_prefix),
		cmocka_unit_test(refuses_what_makes_no_sense),
		cmocka_unit_test(a_dead_endpoint_ends_in_time_and_says_so),
		cmocka_unit_test(help_is_found),
		cmocka_unit_test(the_environment_sets_options),
		cmocka_unit_test(words_may_hold_any_byte),
		cmocka_unit_test(reads_comparisons),
		cmocka_unit_test(writes_text_as_go_does),
		cmocka_unit_test(prints_each_format),
		cmocka_unit_test(some_formats_show_little),
		cmocka_unit_test(the_manual_page_is_current),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
