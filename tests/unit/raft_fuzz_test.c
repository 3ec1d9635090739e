// SPDX-License-Identifier: Apache-2.0
/*
 * What the fuzzer of raft_step() has found to lead to different places, run without it:
 * tests/fuzz/raft_step_fuzz.corpus has one input a line, in hexadecimal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/fuzz/raft_step_fuzz.c"

#define INPUT_MAX 4096

static uint8_t digit(char c)
{
	assert_true((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'));
	return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static size_t decode_line(const char *line, uint8_t *bytes)
{
	size_t n = 0;

	for (; line[2 * n] != '\n'; n++)
		bytes[n] = (uint8_t)(digit(line[2 * n]) << 4 | digit(line[2 * n + 1]));
	return n;
}

static void the_corpus_trips_no_assertion(void **state)
{
	static char line[2 * INPUT_MAX + 2];
	static uint8_t bytes[INPUT_MAX];
	FILE *f = fopen("tests/fuzz/raft_step_fuzz.corpus", "r");
	size_t inputs = 0;

	assert_non_null(f);
	for (; fgets(line, sizeof(line), f); inputs++)
		LLVMFuzzerTestOneInput(bytes, decode_line(line, bytes));
	fclose(f);
	assert_true(inputs > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_corpus_trips_no_assertion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
