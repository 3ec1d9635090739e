// SPDX-License-Identifier: Apache-2.0
/* A stable merge sort, bottom up, with one scratch array. */
#include "libmvcc/mvcc_i.h"

struct sort {
	size_t size;
	bool (*less)(const void *a, const void *b);
};

/* Merges the sorted [lo, mid) and [mid, hi) of @src into @dst. */
static void merge(const struct sort *s, const char *src, char *dst, size_t lo, size_t mid,
		  size_t hi)
{
	size_t a = lo, b = mid;

	for (size_t i = lo; i < hi; i++) {
		size_t from = a < mid && (b >= hi || !s->less(src + b * s->size,
							      src + a * s->size)) ? a++ : b++;

		memcpy(dst + i * s->size, src + from * s->size, s->size);
	}
}

int sort_stable(void *items, size_t n, size_t size, bool (*less)(const void *, const void *))
{
	const struct sort s = { size, less };
	char *src = items, *scratch, *dst, *t;

	if (n < 2)
		return 0;
	scratch = malloc(n * size);
	if (!scratch)
		return -ENOMEM;
	dst = scratch;
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t lo = 0; lo < n; lo += 2 * width)
			merge(&s, src, dst, lo, MIN(lo + width, n), MIN(lo + 2 * width, n));
		t = src;
		src = dst;
		dst = t;
	}
	if (src != items)
		memcpy(items, src, n * size);
	free(scratch);
	return 0;
}
