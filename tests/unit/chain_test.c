/* SPDX-License-Identifier: Apache-2.0 */
/* Chains against a flat buffer that is told the same things. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/chain.h"

#define MODEL_MAX (4u << 20)

/* A chain and the bytes it should hold. */
struct model {
	struct chain chain;
	uint8_t *bytes;
	size_t len;
};

/* One test asks for more memory than there is. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static uint32_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)seed * n) >> 32);
}

static struct blob *random_blob(size_t len)
{
	struct blob *blob = blob_new(len);

	assert_non_null(blob);
	for (size_t i = 0; i < len; i++)
		blob->data[i] = (uint8_t)rnd(256);
	return blob;
}

static void model_init(struct model *m)
{
	chain_init(&m->chain);
	m->bytes = malloc(MODEL_MAX);
	assert_non_null(m->bytes);
	m->len = 0;
}

static void model_release(struct model *m)
{
	chain_release(&m->chain);
	free(m->bytes);
}

static void model_add(struct model *m, struct slice s)
{
	assert_true(m->len + s.len <= MODEL_MAX);
	memcpy(m->bytes + m->len, s.data, s.len);
	m->len += s.len;
}

static void model_drop(struct model *m, size_t n)
{
	memmove(m->bytes, m->bytes + n, m->len - n);
	m->len -= n;
}

static void model_check(const struct model *m)
{
	uint8_t *copy = malloc(m->len + 1);
	struct iovec iov[64];
	size_t at = 0;
	int n;

	assert_false(chain_failed(&m->chain));
	assert_int_equal(m->chain.len, m->len);
	chain_copy(&m->chain, copy);
	assert_memory_equal(copy, m->bytes, m->len);
	n = chain_iov(&m->chain, iov, 64);
	for (int i = 0; i < n; i++) {
		assert_true(iov[i].iov_len > 0);
		assert_memory_equal(iov[i].iov_base, m->bytes + at, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	assert_true(n == 64 || at == m->len);
	free(copy);
}

static void add_something(struct model *m)
{
	size_t len = rnd(4) ? rnd(200) : rnd(40000);
	struct blob *blob = random_blob(len);
	size_t skip = len ? rnd((uint32_t)len) : 0;
	struct slice part = slice_of(blob->data + skip, len - skip);
	uint8_t *p;

	switch (rnd(3)) {
	case 0:
		chain_append(&m->chain, blob_slice(blob));
		model_add(m, blob_slice(blob));
		break;
	case 1:
		chain_append_blob(&m->chain, blob, part);
		model_add(m, part);
		break;
	default:
		p = chain_reserve(&m->chain, len + 10);
		assert_non_null(p);
		memcpy(p, blob->data, len);
		chain_commit(&m->chain, len);
		model_add(m, blob_slice(blob));
	}
	blob_put(blob);
}

static void move_something(struct model *to, struct model *from)
{
	size_t n = rnd((uint32_t)from->len + 100);
	size_t have = MIN(n, from->len);

	model_add(to, slice_of(from->bytes, have));
	if (rnd(4)) {
		chain_move(&to->chain, &from->chain, n);
		model_drop(from, have);
		return;
	}
	model_add(to, slice_of(from->bytes + have, from->len - have));
	chain_splice(&to->chain, &from->chain);
	model_drop(from, from->len);
}

static void random_steps(void **state)
{
	for (seed = 1; seed < 40; seed++) {
		struct model a, b;
		uint32_t start = seed;

		model_init(&a);
		model_init(&b);
		for (int step = 0; step < 100; step++) {
			add_something(&a);
			if (rnd(2))
				move_something(&b, &a);
			if (!rnd(3)) {
				size_t n = rnd((uint32_t)b.len + 1);

				chain_drop(&b.chain, n);
				model_drop(&b, n);
			}
			model_check(&a);
			model_check(&b);
		}
		model_release(&a);
		model_release(&b);
		seed = start;
	}
}

static void short_pieces_leave_as_one(void **state)
{
	struct chain out, body;
	struct iovec iov[8];

	chain_init(&out);
	chain_init(&body);
	for (int i = 0; i < 100; i++) {
		chain_append(&body, SLICE_LIT("a short answer"));
		chain_splice(&out, &body);
		assert_int_equal(body.len, 0);
	}
	assert_int_equal(out.len, 1400);
	assert_true(chain_iov(&out, iov, 8) <= 3);
	chain_release(&out);
}

static void long_pieces_are_not_copied(void **state)
{
	struct blob *blob = random_blob(100000);
	struct chain out, body;
	struct iovec iov[8];

	chain_init(&out);
	chain_init(&body);
	chain_append_blob(&body, blob, blob_slice(blob));
	assert_int_equal(atomic_load(&blob->refs), 2);
	chain_move(&out, &body, 16384);
	assert_int_equal(chain_iov(&out, iov, 8), 1);
	assert_ptr_equal(iov[0].iov_base, blob->data);
	assert_int_equal(atomic_load(&blob->refs), 3);
	chain_drop(&out, 16384);
	assert_int_equal(atomic_load(&blob->refs), 2);
	chain_release(&body);
	assert_int_equal(atomic_load(&blob->refs), 1);
	chain_release(&out);
	blob_put(blob);
}

static void failure_sticks_and_travels(void **state)
{
	struct chain to, from;

	chain_init(&to);
	chain_init(&from);
	chain_append(&from, SLICE_LIT("x"));
	assert_null(chain_reserve(&from, SIZE_MAX / 4));
	assert_true(chain_failed(&from));
	chain_append(&from, SLICE_LIT("y"));
	assert_int_equal(from.len, 1);
	chain_splice(&to, &from);
	assert_true(chain_failed(&to));
	assert_false(chain_failed(&from));
	chain_release(&to);
	assert_false(chain_failed(&to));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_steps),
		cmocka_unit_test(short_pieces_leave_as_one),
		cmocka_unit_test(long_pieces_are_not_copied),
		cmocka_unit_test(failure_sticks_and_travels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
