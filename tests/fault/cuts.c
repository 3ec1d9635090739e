// SPDX-License-Identifier: Apache-2.0
/* Cuts of power: see cuts.h. */
#include <stdio.h>

#include "include/bug.h"
#include "tests/fault/cuts.h"

static const char *const mode_names[] = {
	[CUT_NONE] = "nothing unsynced survives",
	[CUT_PREFIX] = "the first writes survive, one is torn",
	[CUT_SECTORS] = "some sectors of 512 bytes survive",
	[CUT_BLOCKS] = "some blocks of 4 KiB survive",
	[CUT_LOSE_ONE] = "all but one write survive",
	[CUT_KILL] = "all survives",
};

/* Goes on to record @upto. */
static void advance(struct cuts *c, size_t from, size_t upto)
{
	for (size_t i = from; i < upto; i++) {
		const void *data;
		const struct trace_head *head = image_record(c->image, i, &data);

		if (head->type == TRACE_MARK)
			c->mark(c, data, head->data_len);
	}
	image_advance(c->image, upto);
}

static void try(struct cuts *c, size_t at, enum cut_mode mode)
{
	const struct cut cut = { .mode = mode, .seed = random_next(&c->random), .dir = c->dir };
	char why[1024] = "";
	int r = image_cut(c->image, &cut);
	bool good;

	BUG_ON(r);
	good = c->right(c, why, sizeof(why));
	c->made++;
	c->unsure += image_volatile(c->image) > 0;
	c->passed[mode] += good;
	c->failed[mode] += !good;
	if (!good)
		printf("# record %zu, seed %#llx: %s: %s\n", at, (unsigned long long)cut.seed,
		       mode_names[mode], why);
}

void cuts_make(struct cuts *c, size_t cuts)
{
	size_t n = image_records(c->image), at = 0;

	for (size_t i = 0; i < cuts; i++) {
		size_t from = n * i / cuts, to = n * (i + 1) / cuts;
		size_t next = from + random_next(&c->random) % MAX(to - from, (size_t)1);

		next = MAX(next, at);
		advance(c, at, next);
		for (; next < n && !image_volatile(c->image) && random_next(&c->random) % 8; next++)
			advance(c, next, next + 1);
		at = next;
		try(c, at, (enum cut_mode)(i % CUT_MODES));
	}
}

unsigned long cuts_end(const struct cuts *c)
{
	unsigned long passed = 0, failed = 0;

	for (size_t i = 0; i < CUT_MODES; i++) {
		printf("# %s: %lu of %lu cuts are right\n", mode_names[i], c->passed[i],
		       c->passed[i] + c->failed[i]);
		passed += c->passed[i];
		failed += c->failed[i];
	}
	printf("# %lu cuts of power in %zu calls; something was not synced in %lu\n", c->made,
	       image_records(c->image), c->unsure);
	printf("%lu passed, %lu failed\n", passed, failed);
	return failed;
}
