// SPDX-License-Identifier: Apache-2.0
/*
 * Sorting, with the order of ties that clients of etcd see.
 *
 * Many keys may share a version, a create revision or a value. etcd sorts the answer
 * of a range request with sort.Sort of Go, which is not stable, so keys that compare
 * equal come back neither in order of key nor at random: the algorithm and the number
 * of keys decide. With a limit they decide which keys are in the answer at all. That
 * is why this makes the same comparisons and the same swaps as Go 1.19 and later do;
 * thresholds and the choice of pivots are part of the interface, not for tuning.
 *
 * The algorithm is pattern-defeating quicksort (Peters, arXiv 2106.05123) without its
 * block partitioning: insertion sort for short runs; heap sort once too many
 * partitions were lopsided; runs that look sorted are tried as such; a pivot that was
 * one before has its equals set aside. It sorts in place, n log n at worst.
 */
#include "libmvcc/mvcc_i.h"

#define SHORT 12		/* items at most for insertion sort */
#define LONG 50			/* items at least for nine-fold medians, and for repairs */
#define REPAIRS 5		/* looks at an almost sorted run */
#define MEDIAN_SWAPS 12		/* of the nine-fold median: 4 medians of 3 exchanges */

struct sort {
	char *items;
	size_t size;
	bool (*less)(const void *a, const void *b);
};

enum trend { TREND_NONE, TREND_UP, TREND_DOWN };

static bool less(const struct sort *s, size_t i, size_t j)
{
	return s->less(s->items + i * s->size, s->items + j * s->size);
}

static void swap(const struct sort *s, size_t i, size_t j)
{
	char *a = s->items + i * s->size, *b = s->items + j * s->size;
	char t[64];

	for (size_t left = i == j ? 0 : s->size, n; left; left -= n, a += n, b += n) {
		n = MIN(left, sizeof(t));
		memcpy(t, a, n);
		memcpy(a, b, n);
		memcpy(b, t, n);
	}
}

/* Moves item @i down to where it belongs in the sorted [lo, i). */
static void sink(const struct sort *s, size_t lo, size_t i)
{
	for (; i > lo && less(s, i, i - 1); i--)
		swap(s, i, i - 1);
}

static void insertion_sort(const struct sort *s, size_t lo, size_t hi)
{
	for (size_t i = lo + 1; i < hi; i++)
		sink(s, lo, i);
}

/* --- heap sort -------------------------------------------------------------- */

/* Restores the heap of @n items that begins at @lo, below its node @root. */
static void heap_down(const struct sort *s, size_t lo, size_t n, size_t root)
{
	for (size_t child; (child = 2 * root + 1) < n; root = child) {
		if (child + 1 < n && less(s, lo + child, lo + child + 1))
			child++;
		if (!less(s, lo + root, lo + child))
			return;
		swap(s, lo + root, lo + child);
	}
}

static void heap_sort(const struct sort *s, size_t lo, size_t hi)
{
	size_t n = hi - lo;

	for (size_t i = (n + 1) / 2; i-- > 0;)
		heap_down(s, lo, n, i);
	while (n-- > 1) {
		swap(s, lo, lo + n);
		heap_down(s, lo, n, 0);
	}
}

/* --- pivots ------------------------------------------------------------------ */

/* Puts the smaller of *@a and *@b first; they stay in place where they are equal. */
static void exchange(const struct sort *s, size_t *a, size_t *b, unsigned int *swaps)
{
	size_t t = *a;

	if (!less(s, *b, *a))
		return;
	*a = *b;
	*b = t;
	++*swaps;
}

/* The middle one of three items. */
static size_t median(const struct sort *s, const size_t of[3], unsigned int *swaps)
{
	size_t a = of[0], b = of[1], c = of[2];

	exchange(s, &a, &b, swaps);
	exchange(s, &b, &c, swaps);
	exchange(s, &a, &b, swaps);
	return b;
}

/* The pivot of [lo, hi), and what the items on the way to it say of their order. */
static size_t choose_pivot(const struct sort *s, size_t lo, size_t hi, enum trend *trend)
{
	size_t n = hi - lo, quarter = n / 4, pivot, of[3];
	unsigned int swaps = 0;

	for (size_t i = 0; i < 3; i++) {
		size_t at = lo + (i + 1) * quarter;

		of[i] = at;
		if (n >= LONG)
			of[i] = median(s, (const size_t[]){ at - 1, at, at + 1 }, &swaps);
	}
	pivot = median(s, of, &swaps);
	*trend = !swaps ? TREND_UP : swaps == MEDIAN_SWAPS ? TREND_DOWN : TREND_NONE;
	return pivot;
}

/* --- patterns ----------------------------------------------------------------- */

static void reverse(const struct sort *s, size_t lo, size_t hi)
{
	for (; lo + 1 < hi; lo++, hi--)
		swap(s, lo, hi - 1);
}

/*
 * Sorts [lo, hi) where it is all but sorted already: true. It gives up after a few
 * items out of place, and on a short run at the first.
 */
static bool sort_repair(const struct sort *s, size_t lo, size_t hi)
{
	size_t i = lo + 1;

	for (int repairs = 0; repairs < REPAIRS; repairs++) {
		while (i < hi && !less(s, i, i - 1))
			i++;
		if (i == hi)
			return true;
		if (hi - lo < LONG)
			return false;
		swap(s, i, i - 1);
		sink(s, lo, i - 1);
		for (size_t j = i + 1; j < hi && less(s, j, j - 1); j++)
			swap(s, j, j - 1);
	}
	return false;
}

/* Xorshift, period 2^64 - 1 (Marsaglia, 2003). */
static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Moves the three items in the middle elsewhere. The number of items is the seed. */
static void scatter(const struct sort *s, size_t lo, size_t hi)
{
	size_t n = hi - lo, middle = lo + n / 4 * 2, mask = 1;
	uint64_t state = n;

	while (mask < n)
		mask *= 2;
	mask--;
	for (size_t i = middle - 1; i <= middle + 1; i++) {
		size_t other = random_next(&state) & mask;

		swap(s, i, lo + (other >= n ? other - n : other));
	}
}

/* --- partitions ------------------------------------------------------------------ */

/*
 * Gives where the pivot ends up: what is less stands before it, the rest behind. It
 * waits at @lo meanwhile. *@was_partitioned: nothing else had to move.
 */
static size_t partition(const struct sort *s, size_t lo, size_t hi, size_t pivot,
			bool *was_partitioned)
{
	size_t i = lo + 1, j = hi - 1;

	swap(s, lo, pivot);
	for (*was_partitioned = true;; *was_partitioned = false) {
		while (i <= j && less(s, i, lo))
			i++;
		while (i <= j && !less(s, j, lo))
			j--;
		if (i > j)
			break;
		swap(s, i++, j--);
	}
	swap(s, j, lo);
	return j;
}

/* No item is less than the pivot: gives the first of those that are greater, with
 * its equals before. */
static size_t partition_equal(const struct sort *s, size_t lo, size_t hi, size_t pivot)
{
	size_t i = lo + 1, j = hi - 1;

	swap(s, lo, pivot);
	for (;;) {
		while (i <= j && !less(s, lo, i))
			i++;
		while (i <= j && less(s, lo, j))
			j--;
		if (i > j)
			return i;
		swap(s, i++, j--);
	}
}

/* Sorts [lo, hi), with @lopsided bad partitions to spare. What stands before lo, if
 * anything, was a pivot. Recurses into the smaller part: the depth is log n. */
static void quicksort(const struct sort *s, size_t lo, size_t hi, unsigned int lopsided)
{
	bool balanced = true, partitioned = true;

	while (hi - lo > SHORT) {
		enum trend trend;
		size_t pivot, mid;

		if (!lopsided) {
			heap_sort(s, lo, hi);
			return;
		}
		if (!balanced) {
			scatter(s, lo, hi);
			lopsided--;
		}
		pivot = choose_pivot(s, lo, hi, &trend);
		if (trend == TREND_DOWN) {
			reverse(s, lo, hi);
			pivot = lo + (hi - 1 - pivot);
			trend = TREND_UP;
		}
		if (balanced && partitioned && trend == TREND_UP && sort_repair(s, lo, hi))
			return;
		if (lo && !less(s, lo - 1, pivot)) {
			lo = partition_equal(s, lo, hi, pivot);
			continue;
		}
		mid = partition(s, lo, hi, pivot, &partitioned);
		balanced = MIN(mid - lo, hi - mid) >= (hi - lo) / 8;
		if (mid - lo < hi - mid) {
			quicksort(s, lo, mid, lopsided);
			lo = mid + 1;
		} else {
			quicksort(s, mid + 1, hi, lopsided);
			hi = mid;
		}
	}
	insertion_sort(s, lo, hi);
}

void sort_items(void *items, size_t n, size_t size, bool (*fn)(const void *, const void *))
{
	const struct sort s = { items, size, fn };
	unsigned int bits = 0;

	BUG_ON(!size);
	for (size_t rest = n; rest; rest /= 2)
		bits++;
	quicksort(&s, 0, n, bits);
}
