// SPDX-License-Identifier: Apache-2.0
/*
 * Loss of power.
 *
 *	power [CUTS [SEED]]
 *
 * Carries out a history on a store on disk while every call that touches a file is
 * written down; then, at CUTS points of that, makes the directory that a machine could
 * come up with which lost its power there, and opens it. All up to the last sync must
 * be there, and the whole must be as it was after some batch; and the rest of the
 * history can be carried out on it.
 */
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/bug.h"
#include "tests/fault/image.h"
#include "tests/fault/model.h"
#include "tests/fault/shim.h"

#define BATCHES 60

static const char *const mode_names[] = {
	[CUT_NONE] = "nothing unsynced survives",
	[CUT_PREFIX] = "the first writes survive, one is torn",
	[CUT_SECTORS] = "some sectors of 512 bytes survive",
	[CUT_BLOCKS] = "some blocks of 4 KiB survive",
	[CUT_LOSE_ONE] = "all but one write survive",
	[CUT_KILL] = "all survives",
};

struct power {
	struct model *model;
	struct image *image;
	char store[PATH_MAX], trace[PATH_MAX], cut[PATH_MAX];
	uint64_t random;
	size_t synced, started;		/* at the record that the image is at */
	unsigned long cuts, unsure, refused;
	unsigned long passed[CUT_MODES], failed[CUT_MODES];
};

static void record(void *arg)
{
	struct power *p = arg;
	int fd = open(p->trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	struct session s = { .trace = fd };

	BUG_ON(fd < 0);
	shim_begin(p->store, NULL);
	shim_trace(fd);
	if (session_open(&s, p->model, p->store) || model_run(&s, 0, BATCHES))
		exit(1);
	session_close(&s);
	shim_end();
	close(fd);
}

/* Goes on to record @upto, and notes what was synced before it. */
static void advance(struct power *p, size_t from, size_t upto)
{
	for (size_t i = from; i < upto; i++) {
		struct { char what[8]; uint64_t batch; } mark;
		const void *data;

		if (image_record(p->image, i, &data)->type != TRACE_MARK)
			continue;
		memcpy(&mark, data, sizeof(mark));
		if (mark.what[0] == 's')
			p->synced = mark.batch;
		else if (mark.what[0] == 'b')
			p->started = mark.batch;
	}
	image_advance(p->image, upto);
}

static void try(struct power *p, size_t at, enum cut_mode mode)
{
	const struct cut cut = {
		.mode = mode, .seed = random_next(&p->random), .dir = p->cut,
	};
	struct verdict v;
	bool good;
	int r = image_cut(p->image, &cut);

	BUG_ON(r);
	verify(p->model, p->cut, true, &v);
	good = v.kind == RIGHT && v.batch >= p->synced && v.batch <= p->started;
	p->cuts++;
	p->unsure += image_volatile(p->image) > 0;
	p->refused += v.kind == REFUSED;
	p->passed[mode] += good;
	p->failed[mode] += !good;
	if (!good)
		printf("# record %zu, seed %#llx: %s: %s: batch %zu, synced %zu, started %zu: "
		       "%s (%d)\n", at, (unsigned long long)cut.seed, mode_names[mode],
		       v.kind == REFUSED ? "refused" : "wrong", v.batch, p->synced, p->started,
		       v.text, v.error);
}

static void make_cuts(struct power *p, size_t cuts)
{
	size_t n = image_records(p->image), at = 0;

	for (size_t i = 0; i < cuts; i++) {
		size_t from = n * i / cuts, to = n * (i + 1) / cuts;
		size_t next = from + random_next(&p->random) % MAX(to - from, (size_t)1);

		next = MAX(next, at);
		advance(p, at, next);
		/* where all is durable there is nothing to lose */
		for (; next < n && !image_volatile(p->image) && random_next(&p->random) % 8; next++)
			advance(p, next, next + 1);
		at = next;
		try(p, at, (enum cut_mode)(i % CUT_MODES));
	}
}

int main(int argc, char **argv)
{
	size_t cuts = argc > 1 ? strtoul(argv[1], NULL, 10) : 60;
	struct power p = { .random = argc > 2 ? strtoul(argv[2], NULL, 10) : 1 };
	unsigned long passed = 0, failed = 0;

	p.model = model_new(p.random, BATCHES);
	snprintf(p.store, sizeof(p.store), "%s/store", test_dir());
	snprintf(p.trace, sizeof(p.trace), "%s/trace", test_dir());
	snprintf(p.cut, sizeof(p.cut), "%s/cut", test_dir());
	BUG_ON(mkdir(p.store, 0700) || mkdir(p.cut, 0700));
	BUG_ON(in_child(record, &p));
	BUG_ON(image_open(p.trace, &p.image));
	make_cuts(&p, cuts);
	for (size_t i = 0; i < CUT_MODES; i++) {
		printf("# %s: %lu of %lu cuts are right\n", mode_names[i], p.passed[i],
		       p.passed[i] + p.failed[i]);
		passed += p.passed[i];
		failed += p.failed[i];
	}
	printf("# %lu cuts of power in %zu calls; something was not synced in %lu; "
	       "%lu refused\n", p.cuts, image_records(p.image), p.unsure, p.refused);
	image_close(p.image);
	model_free(p.model);
	printf("%lu passed, %lu failed\n", passed, failed);
	return failed != 0;
}
